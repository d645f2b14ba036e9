package import Kernels

/// Gated recurrent units over the item table.
///
/// - SeeAlso: Hidasi et al., *Session-based Recommendations with Recurrent Neural Networks* (GRU4Rec),
///   ICLR 2016; the unit is Cho et al., EMNLP 2014, with the reset gate after the product with the
///   state. Here item vectors go in, a linear layer brings the last state back to their width, and
///   the item table is the output layer. Sequences of a batch run side by side, longest first, so a
///   step is one product over those that still run; the backward pass goes through all of time.
package struct GRUNetwork: SequenceNetwork, Hashable {
  package var itemCount: Int
  package var width: Int
  /// The width of the state.
  package var stateWidth: Int
  package var layers: Int
  package var maximumLength: Int

  package init(
    itemCount: Int, width: Int, stateWidth: Int, layers: Int, maximumLength: Int
  ) {
    precondition(itemCount > 0 && width > 0 && stateWidth > 0 && layers > 0, "an empty model")
    precondition(maximumLength > 0, "an empty model")
    self.itemCount = itemCount
    self.width = width
    self.stateWidth = stateWidth
    self.layers = layers
    self.maximumLength = maximumLength
  }

  package var layout: ParameterLayout { Layout(self).table }
  package func makePass(kernels: Kernels) -> any NetworkPass { GRUPass(self, kernels: kernels) }

  struct Layout {
    struct Layer { var input, state: ParameterLayout.Linear }

    var table: ParameterLayout
    var layers: [Layer] = []
    var out: ParameterLayout.Linear

    init(_ network: GRUNetwork) {
      var table = ParameterLayout(itemCount: network.itemCount, width: network.width)
      let h = network.stateWidth
      // A state that feeds itself needs weights of its own size, whatever the tables start with.
      let deviation = 1 / Float(h).squareRoot()
      for i in 0..<network.layers {
        layers.append(
          Layer(
            input: table.addLinear(
              "gru.\(i).input", inputs: i == 0 ? network.width : h, outputs: 3 * h,
              deviation: deviation),
            state: table.addLinear(
              "gru.\(i).state", inputs: h, outputs: 3 * h, deviation: deviation)))
      }
      out = table.addLinear("out", inputs: h, outputs: network.width, deviation: deviation)
      self.table = table
    }
  }
}

/// A pass of a `GRUNetwork`. Activations stand in the order of time: first the first inputs of all
/// sequences, longest sequence first, then the second ones, and so on.
final class GRUPass: NetworkPass {
  private struct LayerState {
    var input, fromInput, fromState, gates, before, state: UnsafeMutablePointer<Float>
  }

  private let kernels: Kernels
  private let network: GRUNetwork
  private let layout: GRUNetwork.Layout
  private let arena = Arena()
  private var states: [LayerState] = []
  private var site = DropoutSites()
  private var products: LinearProducts?
  /// Step `k` is rows `steps[k]..<steps[k + 1]` in the order of time.
  private var steps: [Int] = []
  /// The packed row of each row in the order of time.
  private var rows: [Int] = []

  init(_ network: GRUNetwork, kernels: Kernels) {
    self.network = network
    self.kernels = kernels
    layout = GRUNetwork.Layout(network)
  }

  private func order(_ batch: PackedBatch) {
    let lengths = zip(batch.offsets, batch.offsets.dropFirst()).map { Int($1 - $0) }
    let longestFirst = lengths.indices.sorted { (lengths[$0], $1) > (lengths[$1], $0) }
    steps = [0]
    rows.removeAll(keepingCapacity: true)
    for k in 0..<(longestFirst.first.map { lengths[$0] } ?? 0) {
      for s in longestFirst {
        guard lengths[s] > k else { break }
        rows.append(Int(batch.offsets[s]) + k)
      }
      steps.append(rows.count)
    }
  }

  private func scratchCount() -> Int { kernels.multiplyScratch(depth: 4096) }

  func forward(
    _ batch: PackedBatch, _ weights: PackedWeights, dropout: Float, seed: UInt32
  ) -> UnsafeMutablePointer<Float> {
    let t = batch.tokenCount
    let d = network.width
    let h = network.stateWidth
    site = DropoutSites(probability: dropout, seed: seed)
    order(batch)
    arena.reset(
      count: t * (3 * d + 2 * h) + network.layers * t * 12 * h + t * (2 * d + 10 * h)
        + LinearProducts.count(rows: t, widest: layout.table.widest, scratch: scratchCount()),
      pieces: 8 * network.layers + 24)
    let products = LinearProducts(
      rows: t, widest: layout.table.widest, scratch: scratchCount(), from: arena, kernels)
    self.products = products
    states.removeAll(keepingCapacity: true)
    var x = arena.take(t * d)
    let items = weights.parameter(layout.table.items)
    for (row, packed) in rows.enumerated() {
      (x + row * d).update(from: items + Int(batch.tokens[packed]) * d, count: d)
    }
    kernels.apply(site[0], to: x, count: t * d, into: x)
    var inputs = d
    for (i, layer) in layout.layers.enumerated() {
      if i > 0 {
        let dropped = arena.take(t * h)
        kernels.apply(site[i], to: x, count: t * h, into: dropped)
        x = dropped
      }
      let state = LayerState(
        input: x, fromInput: arena.take(t * 3 * h), fromState: arena.take(t * 3 * h),
        gates: arena.take(t * 3 * h), before: arena.take(t * h), state: arena.take(t * h))
      states.append(state)
      precondition(inputs == layer.input.inputs, "an input of \(inputs)")
      products.apply(layer.input, to: x, rows: t, weights, into: state.fromInput)
      for k in 0..<steps.count - 1 {
        let first = steps[k]
        let count = steps[k + 1] - first
        let before = state.before + first * h
        if k == 0 {
          before.update(repeating: 0, count: count * h)
        } else {
          before.update(from: state.state + steps[k - 1] * h, count: count * h)
        }
        products.apply(
          layer.state, to: before, rows: count, weights, into: state.fromState + first * 3 * h)
        kernels.recur(
          rows: count, columns: h, x: state.fromInput + first * 3 * h,
          h: state.fromState + first * 3 * h, before: before,
          gates: state.gates + first * 3 * h, into: state.state + first * h)
      }
      x = state.state
      inputs = h
    }
    let hidden = arena.take(t * d)
    let inTime = arena.take(t * d)
    products.apply(layout.out, to: x, rows: t, weights, into: inTime)
    for (row, packed) in rows.enumerated() {
      (hidden + packed * d).update(from: inTime + row * d, count: d)
    }
    return hidden
  }

  func backward(
    _ batch: PackedBatch, _ weights: PackedWeights, dhidden: UnsafePointer<Float>,
    into gradients: Buffer
  ) {
    guard let products, let top = states.last else {
      preconditionFailure("a backward pass without a forward pass")
    }
    let t = batch.tokenCount
    let d = network.width
    let h = network.stateWidth
    let g = gradients.pointer
    let dout = arena.take(t * d)
    for (row, packed) in rows.enumerated() {
      (dout + row * d).update(from: dhidden + packed * d, count: d)
    }
    products.addGradients(of: layout.out, rows: t, x: top.state, dy: dout, weights, into: g)
    let dstate = arena.take(t * h)
    products.applyBackward(layout.out, to: dout, rows: t, weights, into: dstate)
    let dfromInput = arena.take(t * 3 * h)
    let dfromState = arena.take(t * 3 * h)
    let dbefore = arena.take(t * h)
    let dproduct = arena.take(t * h)
    let dx = arena.take(t * d)
    for (i, layer) in layout.layers.enumerated().reversed() {
      let state = states[i]
      for k in (0..<steps.count - 1).reversed() {
        let first = steps[k]
        let count = steps[k + 1] - first
        kernels.recurBackward(
          rows: count, columns: h, dstate + first * h, gates: state.gates + first * 3 * h,
          h: state.fromState + first * 3 * h, before: state.before + first * h,
          dx: dfromInput + first * 3 * h, dh: dfromState + first * 3 * h,
          dbefore: dbefore + first * h)
        guard k > 0 else { continue }
        products.applyBackward(
          layer.state, to: dfromState + first * 3 * h, rows: count, weights, into: dproduct)
        let previous = dstate + steps[k - 1] * h
        kernels.add(1, times: dbefore + first * h, to: previous, count: count * h)
        kernels.add(1, times: dproduct, to: previous, count: count * h)
      }
      products.addGradients(
        of: layer.state, rows: t, x: state.before, dy: dfromState, weights, into: g)
      products.addGradients(
        of: layer.input, rows: t, x: state.input, dy: dfromInput, weights, into: g)
      guard i > 0 else {
        products.applyBackward(layer.input, to: dfromInput, rows: t, weights, into: dx)
        continue
      }
      products.applyBackward(layer.input, to: dfromInput, rows: t, weights, into: dstate)
      kernels.apply(site[i], to: dstate, count: t * h, into: dstate)
    }
    kernels.apply(site[0], to: dx, count: t * d, into: dx)
    for (row, packed) in rows.enumerated() {
      kernels.add(
        1, times: dx + row * d, to: g + layout.table.items + Int(batch.tokens[packed]) * d,
        count: d)
    }
  }
}
