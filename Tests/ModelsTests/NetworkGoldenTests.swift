import Domain
import Foundation
import Kernels
import Models
import Neural
import Testing

/// Compares each network with figures that PyTorch made with the same weights and the same batch
/// (`Golden/README.md` has the command).
@Suite struct `A pass of every network` {
  static let kinds = NeuralKind.allCases.filter { $0 != .sasrec && $0 != .laclrec }

  struct Fixture {
    let file: Safetensors
    let configuration: NeuralConfiguration
    let layout: ParameterLayout
    let batch: PackedBatch
    let parameters: Buffer

    init(_ kind: NeuralKind, kernels: Kernels) throws {
      let url = try #require(
        Bundle.module.url(
          forResource: kind.rawValue, withExtension: "safetensors", subdirectory: "Golden"))
      let file = try Safetensors(
        parsing: Array(Data(contentsOf: url)), path: url.lastPathComponent)
      self.file = file
      var weights = Safetensors()
      weights.metadata = file.metadata
      for (name, tensor) in file.tensors where name.hasPrefix("weight.") {
        weights.tensors[String(name.dropFirst(7))] = tensor
      }
      let model = try NeuralModel(restoring: weights, path: "fixture", kernels: kernels)
      configuration = model.configuration
      layout = model.weights.layout
      let tokens = try #require(file.integers("batch.tokens"))
      let targets = try #require(file.integers("batch.targets"))
      let offsets = try #require(file.integers("batch.offsets")).map(Int.init)
      let rows = try #require(file.integers("batch.rows"))
      let times = try #require(file.integers("batch.times")).map(Int64.init)
      let next = try #require(file.integers("batch.next")).map(Int64.init)
      let length = configuration.maximumLength
      var batch = PackedBatch()
      for (start, end) in zip(offsets, offsets.dropFirst()) {
        if let mask = configuration.network.maskToken {
          let answers = zip(rows, targets).filter { start..<end ~= Int($0.0) }
          var items = Array(tokens[start..<end])
          for (row, target) in answers { items[Int(row) - start] = target }
          batch.append(
            masked: items, hidden: (start..<end).map { row in answers.contains { $0.0 == row } },
            mask: mask, maximumLength: length)
        } else {
          batch.append(
            training: Array(tokens[start..<end]) + [targets[end - 1]], maximumLength: length,
            times: Array(times[start..<end]) + [next[end - 1]])
        }
      }
      self.batch = batch
      #expect(batch.tokens == tokens && batch.targets == targets)
      #expect(batch.targetRows ?? rows == rows)
      parameters = model.weights.parameters
    }
  }

  @Test(arguments: kinds, Kernels.available)
  func `agrees with PyTorch in hidden states, loss and gradients`(
    kind: NeuralKind, version: String
  ) throws {
    let kernels = try #require(Kernels(named: version))
    let fixture = try Fixture(kind, kernels: kernels)
    let weights = PackedWeights(fixture.layout, parameters: fixture.parameters, kernels: kernels)
    let pass = fixture.configuration.network.makePass(kernels: kernels)
    let softmax = CatalogueSoftmax(fixture.layout, kernels: kernels, chunk: 6)
    let d = fixture.configuration.width
    let batch = fixture.batch
    let hidden = pass.forward(batch, weights, dropout: 0, seed: 0)
    let expected = try #require(fixture.file.floats("out.hidden"))
    #expect(`One training step of SASRec`.distance(hidden, expected) < 5e-6)

    let rows = batch.targetRows ?? (0..<Int32(batch.tokenCount)).map { $0 }
    let chosen = Buffer(rows.flatMap { row in (0..<d).map { hidden[Int(row) * d + $0] } })
    let dchosen = Buffer(count: chosen.count)
    let gradients = Buffer(count: fixture.layout.count)
    let loss = softmax.lossAndGradients(
      hidden: chosen.pointer, targets: batch.targets, weight: 1 / Float(rows.count), weights,
      dhidden: dchosen.pointer, into: gradients)
    let expectedLoss = try #require(fixture.file.floats("out.loss"))[0]
    #expect(abs(Float(loss / Double(rows.count)) - expectedLoss) < 5e-6 * expectedLoss)

    let dhidden = Buffer(count: batch.tokenCount * d)
    for (i, row) in rows.enumerated() {
      (dhidden.pointer + Int(row) * d).update(from: dchosen.pointer + i * d, count: d)
    }
    pass.backward(batch, weights, dhidden: dhidden.pointer, into: gradients)
    weights.foldOutputGradients(gradients)
    for entry in fixture.layout.entries {
      let expected = try #require(fixture.file.floats("grad.\(entry.name)"), "\(entry.name)")
      #expect(
        `One training step of SASRec`.distance(gradients.pointer + entry.offset, expected) < 3e-5,
        "\(entry.name)")
    }
    withExtendedLifetime((chosen, dchosen, dhidden)) {}
  }

  @Test(arguments: kinds)
  func `a weight file restores the model and refuses damage`(kind: NeuralKind) throws {
    let kernels = try #require(Kernels(environment: [:]))
    let fixture = try Fixture(kind, kernels: kernels)
    let model = NeuralModel(
      fixture.configuration, parameters: fixture.parameters, kernels: kernels)
    let bytes = model.safetensors().bytes
    let file = try Safetensors(parsing: bytes, path: "w")
    let restored = try NeuralModel(restoring: file, path: "w", kernels: kernels)
    #expect(restored.configuration == model.configuration)
    #expect(restored.itemVectors == model.itemVectors)
    #expect(restored.safetensors().bytes == bytes)
    for name in file.tensors.keys {
      var incomplete = file
      incomplete.tensors[name] = nil
      #expect(throws: Diagnostic.self, "\(name)") {
        _ = try NeuralModel(restoring: incomplete, path: "w", kernels: kernels)
      }
    }
    for name in file.metadata.keys {
      for value in [nil, "-1", "99999999999999", "x"] as [String?] {
        var damaged = file
        damaged.metadata[name] = value
        // Either it is refused, or the value means nothing to this kind.
        _ = try? NeuralModel(restoring: damaged, path: "w", kernels: kernels)
      }
    }
    for (name, value) in [
      ("heads", "3"), ("heads", "0"), ("blocks", "99999999999"), ("width", "x"),
      ("temperature", "0"), ("network", "oracle"),
    ] {
      var damaged = file
      damaged.metadata[name] = value
      #expect(throws: Diagnostic.self, "\(name) \(value)") {
        _ = try NeuralModel(restoring: damaged, path: "w", kernels: kernels)
      }
    }
  }
}
