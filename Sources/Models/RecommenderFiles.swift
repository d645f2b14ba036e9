package import Domain
package import Kernels

/// Every kind of model that a weight file can hold, by its name there.
package enum RecommenderFiles {
  /// One line for each kind.
  package static let types: [any Recommender.Type] = [
    SASRec.self, NeuralModel.self, ItemNeighbours.self, PooledVectors.self, Factors.self,
    Popularity.self, NGram.self,
    Blend.self, RetrieveRank.self,
  ]

  /// Restores the model of a weight file.
  ///
  /// - Parameter path: named in errors.
  package static func restore(
    _ file: Safetensors, path: String, kernels: Kernels
  ) throws(Diagnostic) -> any Recommender {
    let name = file.metadata["model"] ?? ""
    guard let type = types.first(where: { $0.kind == name }) else {
      throw Diagnostic(
        code: "unknown_model_kind", "The weights are of a model `\(name)`, which is unknown here.",
        at: path, help: "Open it with a newer build, or train the model again.")
    }
    let version = file.metadata["version"].flatMap { Int($0) } ?? 1
    guard version == 1 else {
      throw Diagnostic(
        code: "unknown_model_version",
        "The weights are of version \(version) of `\(name)`; this build reads version 1.",
        at: path, help: "Open it with a newer build, or train the model again.")
    }
    return try type.init(restoring: file, path: path, kernels: kernels)
  }
}

extension Safetensors {
  /// An empty file for a model of some policy.
  package init(model: String, metadata: [String: String] = [:]) {
    self.init()
    self.metadata = metadata
    self.metadata["model"] = model
    self.metadata["version"] = "1"
  }

  /// A problem with the contents of a weight file.
  package func fault(_ message: String, path: String) -> Diagnostic {
    Diagnostic(
      code: "invalid_weights",
      "The weights do not make a model `\(metadata["model"] ?? "")`: \(message).", at: path,
      help: "Restore the file from a copy, or train the model again.")
  }

  /// The floats of a tensor of a known shape; -1 stands for any length.
  package func floats(
    _ name: String, shape: [Int], path: String
  ) throws(Diagnostic) -> [Float] {
    guard let tensor = tensors[name], case .float32(let values) = tensor.values,
      tensor.shape.count == shape.count,
      zip(tensor.shape, shape).allSatisfy({ $1 < 0 || $0 == $1 })
    else { throw fault("\(name) should be floats of shape \(shape)", path: path) }
    return values
  }

  /// The integers of a tensor of one dimension, all from a range.
  package func integers(
    _ name: String, in range: Range<Int>, path: String
  ) throws(Diagnostic) -> [Int32] {
    guard let values = integers(name), values.allSatisfy({ range.contains(Int($0)) }) else {
      throw fault("\(name) should be integers from \(range)", path: path)
    }
    return values
  }

  /// A number of the metadata.
  package func number<Number: LosslessStringConvertible>(
    _ name: String, path: String
  ) throws(Diagnostic) -> Number {
    guard let value = metadata[name].flatMap({ Number($0) }) else {
      throw fault("its metadata name no `\(name)`", path: path)
    }
    return value
  }

  package mutating func put(_ name: String, _ values: [Float], shape: [Int]? = nil) {
    tensors[name] = Tensor(shape: shape ?? [values.count], values: .float32(values))
  }

  package mutating func put(_ name: String, _ values: [Int32]) {
    tensors[name] = Tensor(shape: [values.count], values: .int32(values))
  }
}
