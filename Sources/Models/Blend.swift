package import Domain
package import Kernels
package import Neural

/// Several models as one: the weighted sum of where each item stands in each of them.
package final class Blend: Recommender {
  package static let kind = "blend"

  package struct Part: Sendable {
    package var name: String
    package var model: any Recommender
    package var weight: Float
    package init(name: String, model: any Recommender, weight: Float) {
      self.name = name
      self.model = model
      self.weight = weight
    }
  }

  package let parts: [Part]
  package let standing: Standing
  package let itemCount: Int

  /// - Parameter parts: at least one, all with the same vocabulary.
  package init(parts: [Part], standing: Standing) {
    guard let first = parts.first else { preconditionFailure("a blend of nothing") }
    itemCount = first.model.itemCount
    precondition(parts.allSatisfy { $0.model.itemCount == first.model.itemCount }, "vocabularies")
    self.parts = parts
    self.standing = standing
  }

  package var answersWithoutHistory: Bool { parts.contains { $0.model.answersWithoutHistory } }
  package var maximumLength: Int { parts.map(\.model.maximumLength).max() ?? 1 }
  package var usesTimes: Bool { parts.contains { $0.model.usesTimes } }

  package func encoding(in precision: Precision) -> any Recommender {
    Blend(
      parts: parts.map {
        Part(name: $0.name, model: $0.model.encoding(in: precision), weight: $0.weight)
      }, standing: standing)
  }

  package func score(_ histories: [History], into scores: UnsafeMutablePointer<Float>) {
    let count = histories.count * itemCount
    scores.update(repeating: 0, count: count)
    let own = Buffer(count: count)
    for part in parts where part.weight != 0 {
      part.model.score(histories, into: own.pointer)
      for (h, history) in histories.enumerated() {
        let row = UnsafeMutableBufferPointer(
          start: own.pointer + h * itemCount, count: itemCount)
        standing.apply(to: row, history: history)
        let out = scores + h * itemCount
        for i in 0..<itemCount { out[i] += part.weight * row[i] }
      }
    }
    withExtendedLifetime(own) {}
  }

  // MARK: Weight files

  package func safetensors() -> Safetensors {
    var file = Safetensors(model: Self.kind, metadata: ["standing": standing.rawValue])
    for (i, part) in parts.enumerated() {
      file.nest(part.model.safetensors(), under: "part\(i).")
      file.metadata["part\(i)/name"] = part.name
      file.metadata["part\(i)/weight"] = String(part.weight)
    }
    return file
  }

  package convenience init(
    restoring file: Safetensors, path: String, kernels: Kernels
  ) throws(Diagnostic) {
    guard let standing = file.metadata["standing"].flatMap(Standing.init(rawValue:)) else {
      throw file.fault("its metadata name no standing", path: path)
    }
    var parts: [Part] = []
    while let name = file.metadata["part\(parts.count)/name"] {
      let weight: Float = try file.number("part\(parts.count)/weight", path: path)
      let model = try RecommenderFiles.restore(
        file.nested(under: "part\(parts.count)."), path: path, kernels: kernels)
      parts.append(Part(name: name, model: model, weight: weight))
    }
    guard let first = parts.first,
      parts.allSatisfy({ $0.model.itemCount == first.model.itemCount })
    else {
      throw file.fault("its parts have different vocabularies, or there are none", path: path)
    }
    self.init(parts: parts, standing: standing)
  }
}

extension Safetensors {
  /// Puts another file into this one.
  mutating func nest(_ other: Safetensors, under prefix: String) {
    for (name, tensor) in other.tensors { tensors[prefix + name] = tensor }
    for (name, value) in other.metadata { metadata[prefix + name] = value }
  }

  /// Takes a file out that was put into this one.
  func nested(under prefix: String) -> Safetensors {
    var file = Safetensors()
    for (name, tensor) in tensors where name.hasPrefix(prefix) {
      file.tensors[String(name.dropFirst(prefix.count))] = tensor
    }
    for (name, value) in metadata where name.hasPrefix(prefix) {
      file.metadata[String(name.dropFirst(prefix.count))] = value
    }
    return file
  }
}
