import Domain
import Foundation
import Kernels
import Models
import Neural
import Testing

/// Compares one training step with figures that the PyTorch program in `shared/baselines` made with
/// the same weights and the same batch (`Golden/README.md` has the command).
@Suite struct `One training step of SASRec` {
  struct Fixture {
    let file: Safetensors
    let configuration: SASRecConfiguration
    let layout: TransformerLayout
    let batch: PackedBatch

    init(_ name: String) throws {
      let url = try #require(
        Bundle.module.url(
          forResource: name, withExtension: "safetensors", subdirectory: "Golden"))
      let file = try Safetensors(
        parsing: Array(Data(contentsOf: url)), path: url.lastPathComponent)
      self.file = file
      func number(_ key: String) throws -> Int {
        try #require(file.metadata[key].flatMap { Int($0) })
      }
      var configuration = SASRecConfiguration(itemCount: try number("n_items"))
      configuration.width = try number("d")
      configuration.heads = try number("heads")
      configuration.blocks = try number("blocks")
      configuration.innerWidth = try number("mult") * configuration.width
      configuration.maximumLength = try number("maxlen")
      configuration.activation = try #require(
        file.metadata["act"].flatMap(Activation.init(rawValue:)))
      self.configuration = configuration
      layout = TransformerLayout(configuration.shape)
      let tokens = try #require(file.integers("batch.tokens"))
      let targets = try #require(file.integers("batch.targets"))
      let offsets = try #require(file.integers("batch.offsets")).map(Int.init)
      var batch = PackedBatch()
      for (start, end) in zip(offsets, offsets.dropFirst()) {
        batch.append(
          training: Array(tokens[start..<end]) + [targets[end - 1]],
          maximumLength: configuration.maximumLength)
      }
      self.batch = batch
      #expect(batch.targets == targets)
    }

    func buffer(_ prefix: String) throws -> Buffer {
      let buffer = Buffer(count: layout.count)
      for entry in layout.entries {
        let values = try #require(file.floats("\(prefix).\(entry.name)"), "\(prefix).\(entry.name)")
        #expect(values.count == entry.count)
        for (i, value) in values.enumerated() { buffer.pointer[entry.offset + i] = value }
      }
      return buffer
    }
  }

  /// The greatest difference, divided by the greatest magnitude of what is expected.
  static func distance(_ found: UnsafePointer<Float>, _ expected: [Float]) -> Float {
    let scale = expected.map(abs).max() ?? 1
    return expected.indices.map { abs(found[$0] - expected[$0]) }.max().map { $0 / scale } ?? 0
  }

  static let fixtures = ["sasrec_gelu_2heads", "sasrec_relu_1head"]

  @Test(arguments: fixtures, Kernels.available)
  func `agrees with PyTorch in hidden states, loss, gradients and the step`(
    name: String, version: String
  ) throws {
    let fixture = try Fixture(name)
    let kernels = try #require(Kernels(named: version))
    let parameters = try fixture.buffer("weight")
    let weights = PackedWeights(fixture.layout, parameters: parameters, kernels: kernels)
    let pass = TransformerPass(fixture.layout, kernels: kernels)
    let softmax = CatalogueSoftmax(fixture.layout, kernels: kernels, chunk: 5)
    let count = fixture.batch.tokenCount

    let hidden = pass.forward(fixture.batch, weights)
    let expectedHidden = try #require(fixture.file.floats("out.hidden"))
    #expect(Self.distance(hidden, expectedHidden) < 2e-6)

    let gradients = Buffer(count: fixture.layout.count)
    let dhidden = Buffer(count: count * fixture.configuration.width)
    let loss = softmax.lossAndGradients(
      hidden: hidden, targets: fixture.batch.targets, weight: 1 / Float(count), weights,
      dhidden: dhidden.pointer, into: gradients)
    let expectedLoss = try #require(fixture.file.floats("out.loss"))[0]
    #expect(abs(Float(loss / Double(count)) - expectedLoss) < 2e-6 * expectedLoss)

    pass.backward(fixture.batch, weights, dhidden: dhidden.pointer, into: gradients)
    for entry in fixture.layout.entries {
      let expected = try #require(fixture.file.floats("grad.\(entry.name)"))
      #expect(Self.distance(gradients.pointer + entry.offset, expected) < 1e-5, "\(entry.name)")
    }

    let first = Buffer(count: fixture.layout.count)
    let second = Buffer(count: fixture.layout.count)
    let step = AdamStep(rate: 1e-3, number: 1)
    kernels.adam(
      count: fixture.layout.count, parameters.pointer, gradients: gradients.pointer,
      first: first.pointer, second: second.pointer, step, correction1: 1 / (1 - step.beta1),
      correction2: 1 / (1 - step.beta2))
    for entry in fixture.layout.entries {
      let expected = try #require(fixture.file.floats("after.\(entry.name)"))
      let gradient = try #require(fixture.file.floats("grad.\(entry.name)"))
      let scale = gradient.map(abs).max() ?? 0
      for i in expected.indices where abs(gradient[i]) > 1e-3 * scale && abs(gradient[i]) > 1e-6 {
        // The first step divides a gradient by its own size, so noise near zero would show as a
        // whole step: a bias of the keys, say, has no gradient but rounding.
        let difference = abs(parameters.pointer[entry.offset + i] - expected[i])
        #expect(difference < 2e-5, "\(entry.name)[\(i)]")
      }
    }
  }

  @Test(arguments: fixtures)
  func `agrees with PyTorch over ten steps`(name: String) throws {
    let fixture = try Fixture(name)
    let kernels = try #require(Kernels(environment: [:]))
    let parameters = try fixture.buffer("weight")
    let weights = PackedWeights(fixture.layout, parameters: parameters, kernels: kernels)
    let pass = TransformerPass(fixture.layout, kernels: kernels)
    let softmax = CatalogueSoftmax(fixture.layout, kernels: kernels)
    let count = fixture.batch.tokenCount
    let gradients = Buffer(count: fixture.layout.count)
    let dhidden = Buffer(count: count * fixture.configuration.width)
    let first = Buffer(count: fixture.layout.count)
    let second = Buffer(count: fixture.layout.count)
    let expected = try #require(fixture.file.floats("out.losses"))
    var beta1: Float = 1
    var beta2: Float = 1
    for (i, expectedLoss) in expected.enumerated() {
      gradients.clear()
      let hidden = pass.forward(fixture.batch, weights)
      let loss = softmax.lossAndGradients(
        hidden: hidden, targets: fixture.batch.targets, weight: 1 / Float(count), weights,
        dhidden: dhidden.pointer, into: gradients)
      #expect(abs(Float(loss / Double(count)) - expectedLoss) < 1e-4 * expectedLoss, "step \(i)")
      pass.backward(fixture.batch, weights, dhidden: dhidden.pointer, into: gradients)
      let step = AdamStep(rate: 1e-3, number: i + 1)
      beta1 *= step.beta1
      beta2 *= step.beta2
      kernels.adam(
        count: fixture.layout.count, parameters.pointer, gradients: gradients.pointer,
        first: first.pointer, second: second.pointer, step, correction1: 1 / (1 - beta1),
        correction2: 1 / (1 - beta2))
      weights.update()
    }
  }

  @Test(arguments: fixtures)
  func `serving encodes what training computes`(name: String) throws {
    let fixture = try Fixture(name)
    for version in Kernels.available {
      let kernels = try #require(Kernels(named: version))
      let model = SASRec(
        fixture.configuration, parameters: try fixture.buffer("weight"), kernels: kernels)
      let pass = TransformerPass(fixture.layout, kernels: kernels)
      let d = fixture.configuration.width
      let hidden = pass.forward(fixture.batch, model.weights)
      let vectors = model.encode(fixture.batch)
      for s in 0..<fixture.batch.sequenceCount {
        let row = Int(fixture.batch.offsets[s + 1]) - 1
        let vector = Array(vectors[s * d..<(s + 1) * d])
        #expect(Self.distance(hidden + row * d, vector) < 2e-6, "\(version), sequence \(s)")
        let start = Int(fixture.batch.offsets[s])
        let alone = model.encode(fixture.batch.tokens[start...row].map { ItemToken($0) })
        #expect(Self.distance(hidden + row * d, alone) < 2e-6, "\(version), sequence \(s)")
      }
    }
  }

  @Test func `a weight file restores the model and refuses damage`() throws {
    let fixture = try Fixture(Self.fixtures[0])
    let kernels = try #require(Kernels(environment: [:]))
    let model = SASRec(
      fixture.configuration, parameters: try fixture.buffer("weight"), kernels: kernels)
    let bytes = model.safetensors(metadata: ["note": "ü"]).bytes
    let file = try Safetensors(parsing: bytes, path: "w")
    #expect(file.metadata["note"] == "ü")
    let restored = try SASRec(file, path: "w", kernels: kernels)
    #expect(restored.configuration == model.configuration)
    #expect(restored.itemVectors == model.itemVectors)
    let history = [ItemToken(3), ItemToken(9), ItemToken(1)]
    #expect(restored.encode(history) == model.encode(history))
    for length in [0, 7, 8, 40, bytes.count - 1] {
      #expect(throws: Diagnostic.self) {
        _ = try Safetensors(parsing: Array(bytes.prefix(length)), path: "w")
      }
    }
    var incomplete = file
    incomplete.tensors["blocks.1.f2.bias"] = nil
    #expect(throws: Diagnostic.self) { _ = try SASRec(incomplete, path: "w", kernels: kernels) }
  }
}
