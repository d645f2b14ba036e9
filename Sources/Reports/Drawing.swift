import Evaluation

/// Shapes of an SVG drawing, in the order in which they are drawn.
struct Drawing {
  let width: Double
  let height: Double
  private var shapes: [String] = []

  init(width: Double, height: Double) {
    self.width = width
    self.height = height
  }

  enum Anchor: String {
    case start, middle, end
  }

  mutating func line(
    _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ style: String
  ) {
    shapes.append(
      "<line x1=\"\(n(x1))\" y1=\"\(n(y1))\" x2=\"\(n(x2))\" y2=\"\(n(y2))\" class=\"\(style)\"/>")
  }

  /// - Parameter tip: what is shown while the pointer rests on it.
  mutating func dot(_ x: Double, _ y: Double, _ radius: Double, _ style: String, tip: String = "") {
    shapes.append(
      "<circle cx=\"\(n(x))\" cy=\"\(n(y))\" r=\"\(n(radius))\" class=\"\(style)\">\(title(tip))</circle>"
    )
  }

  mutating func bar(
    _ x: Double, _ y: Double, _ width: Double, _ height: Double, _ style: String, tip: String = ""
  ) {
    shapes.append(
      "<rect x=\"\(n(x))\" y=\"\(n(y))\" width=\"\(n(max(0, width)))\" height=\"\(n(max(0, height)))\" "
        + "rx=\"2\" class=\"\(style)\">\(title(tip))</rect>")
  }

  mutating func path(_ points: [(Double, Double)], _ style: String) {
    guard points.count > 1 else { return }
    let text = points.map { "\(n($0.0)),\(n($0.1))" }.joined(separator: " ")
    shapes.append("<polyline points=\"\(text)\" class=\"\(style)\"/>")
  }

  mutating func text(
    _ text: String, _ x: Double, _ y: Double, _ anchor: Anchor = .start, _ style: String = "label"
  ) {
    shapes.append(
      "<text x=\"\(n(x))\" y=\"\(n(y))\" text-anchor=\"\(anchor.rawValue)\" class=\"\(style)\">"
        + "\(escaped(text))</text>")
  }

  /// - Parameter description: for readers who do not see the drawing.
  func svg(_ description: String) -> String {
    "<svg viewBox=\"0 0 \(n(width)) \(n(height))\" role=\"img\" aria-label=\"\(escaped(description))\">"
      + shapes.joined() + "</svg>"
  }

  private func title(_ tip: String) -> String {
    tip.isEmpty ? "" : "<title>\(escaped(tip))</title>"
  }

  private func n(_ value: Double) -> String { fixed(value, 1) }
}

/// Text that stands for itself in HTML.
func escaped(_ text: String) -> String {
  var result = ""
  for character in text.unicodeScalars {
    switch character {
    case "&": result += "&amp;"
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "\"": result += "&quot;"
    case "'": result += "&#39;"
    default: result.unicodeScalars.append(character)
    }
  }
  return result
}

/// A scale from values to places, with round values to mark.
struct Scale {
  let range: ClosedRange<Double>
  let places: (from: Double, to: Double)
  let marks: [Double]
  let digits: Int

  /// Widens the range of some values to round marks, about `count` of them.
  init(_ values: [Double], from: Double, to: Double, startsAtZero: Bool, count: Int = 5) {
    let finite = values.filter(\.isFinite)
    var low = startsAtZero ? min(0, finite.min() ?? 0) : finite.min() ?? 0
    var high = finite.max() ?? 1
    if high <= low { (low, high) = (low - (startsAtZero ? 0 : 0.5), low + 1) }
    let rough = (high - low) / Double(count)
    var step = 1.0
    var digits = 0
    while step > rough {
      step /= 10
      digits += 1
    }
    while step * 10 <= rough {
      step *= 10
    }
    if step * 5 <= rough { step *= 5 } else if step * 2 <= rough { step *= 2 }
    let first = (low / step).rounded(.down)
    let last = (high / step).rounded(.up)
    marks = (0...Int(last - first)).map { (first + Double($0)) * step }
    range = first * step...last * step
    self.digits = max(0, digits)
    places = (from, to)
  }

  func place(_ value: Double) -> Double {
    let share = (value - range.lowerBound) / (range.upperBound - range.lowerBound)
    return places.from + share * (places.to - places.from)
  }
}
