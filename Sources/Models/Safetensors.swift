package import Domain

/// A safetensors file in memory: named tensors and a map of texts.
///
/// The format (huggingface/safetensors, `README.md`, "Format"): 8 bytes of header length, little
/// endian; a JSON header with each tensor's type, shape and byte range; then the bytes. Written here
/// with 32-bit floats and integers, which is also what is read.
package struct Safetensors: Sendable {
  package enum Values: Hashable, Sendable {
    case float32([Float])
    case int32([Int32])
  }

  package struct Tensor: Hashable, Sendable {
    package var shape: [Int]
    package var values: Values
    package init(shape: [Int], values: Values) {
      self.shape = shape
      self.values = values
    }
  }

  package var tensors: [String: Tensor] = [:]
  package var metadata: [String: String] = [:]

  package init() {}

  /// The floats of a tensor, or nil where there is no such tensor of floats.
  package func floats(_ name: String) -> [Float]? {
    if case .float32(let values) = tensors[name]?.values { values } else { nil }
  }

  /// The integers of a tensor, or nil where there is no such tensor of integers.
  package func integers(_ name: String) -> [Int32]? {
    if case .int32(let values) = tensors[name]?.values { values } else { nil }
  }

  // MARK: Writing

  /// The file's bytes. Tensors stand in the order of their names, so equal contents give equal bytes.
  package var bytes: [UInt8] {
    var members: [JSON.Member] = []
    if !metadata.isEmpty {
      members.append(
        JSON.Member(
          "__metadata__",
          .object(
            metadata.sorted { $0.key < $1.key }.map { JSON.Member($0.key, .string($0.value)) })))
    }
    var offset = 0
    let sorted = tensors.sorted { $0.key < $1.key }
    for (name, tensor) in sorted {
      let count = tensor.shape.reduce(1, *)
      let type =
        switch tensor.values {
        case .float32(let values):
          (name: "F32", holds: values.count)
        case .int32(let values):
          (name: "I32", holds: values.count)
        }
      precondition(
        type.holds == count, "tensor \(name): \(type.holds) values, shape \(tensor.shape)")
      members.append(
        JSON.Member(
          name,
          [
            "dtype": .string(type.name),
            "shape": .array(tensor.shape.map { .int(Int64($0)) }),
            "data_offsets": [.int(Int64(offset)), .int(Int64(offset + count * 4))],
          ]))
      offset += count * 4
    }
    var header = JSON.object(members).utf8
    while header.count % 8 != 0 { header.append(32) }
    var out: [UInt8] = []
    out.reserveCapacity(8 + header.count + offset)
    withUnsafeBytes(of: UInt64(header.count).littleEndian) { out.append(contentsOf: $0) }
    out += header
    for (_, tensor) in sorted {
      switch tensor.values {
      case .float32(let values):
        for value in values {
          withUnsafeBytes(of: value.bitPattern.littleEndian) { out.append(contentsOf: $0) }
        }
      case .int32(let values):
        for value in values {
          withUnsafeBytes(of: value.littleEndian) { out.append(contentsOf: $0) }
        }
      }
    }
    return out
  }

  // MARK: Reading

  /// Parses a file.
  ///
  /// - Parameter path: named in errors.
  package init(parsing bytes: [UInt8], path: String) throws(Diagnostic) {
    func fault(_ message: String) -> Diagnostic {
      Diagnostic(
        code: "invalid_safetensors", "This is not a readable safetensors file: \(message).",
        at: path, help: "Restore the file from a copy, or train the model again.")
    }
    guard bytes.count >= 8 else { throw fault("it is \(bytes.count) bytes long") }
    let length = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[$1]) << UInt64(8 * $1) }
    guard length <= UInt64(bytes.count - 8) else {
      throw fault("its header of \(length) bytes does not fit into \(bytes.count) bytes")
    }
    let start = 8 + Int(length)
    let header: JSON
    do {
      header = try JSON(parsing: bytes[8..<start])
    } catch {
      throw fault("its header cannot be read (\(error.message) \(error.place ?? ""))")
    }
    guard let members = header.object else { throw fault("its header is no object") }
    for member in members {
      if member.name == "__metadata__" {
        for text in member.value.object ?? [] { metadata[text.name] = text.value.string }
        continue
      }
      guard let type = member.value["dtype"]?.string,
        let shape = member.value["shape"]?.array?.compactMap({ $0.int.map(Int.init) }),
        let range = member.value["data_offsets"]?.array?.compactMap({ $0.int.map(Int.init) }),
        range.count == 2, range[0] >= 0, range[0] <= range[1], range[1] <= bytes.count - start,
        shape.allSatisfy({ $0 >= 0 }),
        shape.reduce(
          Int?(4),
          { total, next in
            total.flatMap {
              let p = $0.multipliedReportingOverflow(by: next);
              return p.overflow ? nil : p.partialValue
            }
          }) == range[1] - range[0]
      else { throw fault("the entry of tensor \(member.name) is damaged") }
      let words = stride(from: start + range[0], to: start + range[1], by: 4).map { at in
        UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2]) << 16
          | UInt32(bytes[at + 3]) << 24
      }
      switch type {
      case "F32":
        tensors[member.name] = Tensor(
          shape: shape, values: .float32(words.map { Float(bitPattern: $0) }))
      case "I32":
        tensors[member.name] = Tensor(
          shape: shape, values: .int32(words.map { Int32(bitPattern: $0) }))
      default:
        throw fault("tensor \(member.name) has type \(type); F32 and I32 are readable")
      }
    }
  }
}
