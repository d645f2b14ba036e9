/// Where each parameter of a network stands in one flat buffer.
///
/// Names and layouts are those of PyTorch's modules (a linear layer's weight is `[out, in]`), so a
/// saved state opens there unchanged. Tables with a row for each item come first, so that a step that
/// touches few items can leave the others alone.
package struct ParameterLayout: Sendable {
  /// One named parameter.
  package struct Entry: Hashable, Sendable {
    package var name: String
    package var shape: [Int]
    package var offset: Int
    /// The standard deviation of fresh values, where it is not the one that training is given.
    var deviation: Float?
    package var count: Int { shape.reduce(1, *) }
  }

  /// A linear layer: its parameters, and its number among the layers that are packed.
  package struct Linear: Hashable, Sendable {
    package var weight: Int
    package var bias: Int?
    package var inputs: Int
    package var outputs: Int
    var index: Int
  }

  /// What hidden states are compared with.
  package enum Output: Hashable, Sendable {
    /// The item table itself.
    case tied
    /// A table of its own.
    case separate
    /// The rows of the item table at length 1, computed from it: no parameters of their own.
    case unit
  }

  /// Items that are scored, `N`.
  package let itemCount: Int
  /// `d`.
  package let width: Int
  package let output: Output
  package private(set) var entries: [Entry] = []
  package private(set) var linears: [Linear] = []
  /// The item table comes first: `[itemCount + special tokens, d]`.
  package private(set) var items = 0
  /// The table that hidden states are compared with, `[itemCount, d]`.
  package private(set) var outputs = 0
  /// Where the tables of items end.
  package private(set) var tablesEnd = 0
  /// Floats of parameters: what an optimiser moves.
  package private(set) var trained = 0

  /// - Parameter specialTokens: rows of the item table that are never scored, after the items.
  package init(itemCount: Int, specialTokens: Int = 0, width: Int, output: Output = .tied) {
    precondition(itemCount > 0 && width > 0, "a layout for \(itemCount) items of width \(width)")
    self.itemCount = itemCount
    self.width = width
    self.output = output
    items = add("item.weight", [itemCount + specialTokens, width])
    outputs = output == .separate ? add("output.weight", [itemCount, width]) : items
    tablesEnd = trained
  }

  /// Floats of a buffer of parameters or gradients.
  package var count: Int { trained + (output == .unit ? (itemCount * width + 15) / 16 * 16 : 0) }

  mutating func add(_ name: String, _ shape: [Int], deviation: Float? = nil) -> Int {
    let entry = Entry(name: name, shape: shape, offset: trained, deviation: deviation)
    entries.append(entry)
    // Every parameter starts on a 64-byte line.
    trained += (entry.count + 15) / 16 * 16
    if output == .unit { outputs = trained }
    return entry.offset
  }

  mutating func addLinear(
    _ name: String, inputs: Int, outputs: Int, bias: Bool = true, deviation: Float? = nil
  ) -> Linear {
    let weight = add("\(name).weight", [outputs, inputs], deviation: deviation)
    let layer = Linear(
      weight: weight, bias: bias ? add("\(name).bias", [outputs]) : nil, inputs: inputs,
      outputs: outputs, index: linears.count)
    linears.append(layer)
    return layer
  }

  /// The widest side of a linear layer.
  var widest: Int { linears.reduce(0) { max($0, $1.inputs, $1.outputs) } }

  /// Starts of the tables that have a row of width `d` for each item.
  package var rowTables: [Int] { output == .tied ? [items] : [items, outputs] }

  /// Fills the buffer as the model starts: weights and tables from `N(0, deviation²)`, gains 1,
  /// biases 0.
  package func initialise(
    _ parameters: Buffer, deviation: Float, using generator: inout SplitMix64
  ) {
    precondition(parameters.count == count, "\(parameters.count) parameters, \(count) expected")
    parameters.clear()
    for entry in entries {
      let start = parameters.pointer + entry.offset
      if entry.name.hasSuffix("bias") { continue }
      if entry.shape.count == 1 {
        start.update(repeating: 1, count: entry.count)
      } else {
        let deviation = entry.deviation ?? deviation
        for i in 0..<entry.count { start[i] = deviation * generator.normal() }
      }
    }
  }
}

/// A layout with the names of its own parts.
package protocol NetworkLayout: Sendable {
  var table: ParameterLayout { get }
}

extension ParameterLayout: NetworkLayout {
  package var table: ParameterLayout { self }
}

extension NetworkLayout {
  package var entries: [ParameterLayout.Entry] { table.entries }
  package var count: Int { table.count }
  package var items: Int { table.items }

  package func initialise(
    _ parameters: Buffer, deviation: Float, using generator: inout SplitMix64
  ) {
    table.initialise(parameters, deviation: deviation, using: &generator)
  }
}
