import Foundation

/// Prints a line at once, also into a pipe: whoever follows a long command sees how far it is.
func print(_ text: String = "") {
  Swift.print(text)
  fflush(nil)
}

/// The same, for types that have a `print` of their own.
func printLine(_ text: String = "") { print(text) }

/// What is written to a person.
enum Terminal {
  static func standardError(_ text: String) { rawError(text + "\n") }

  /// Without a line's end.
  static func rawError(_ text: String) {
    try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
  }

  /// Whether standard error is a screen that can redraw a line.
  static let canRedraw = isatty(STDERR_FILENO) == 1 && getenv("NO_COLOR") == nil

  /// Asks for colours and the like only where they are understood.
  static func bold(_ text: String) -> String {
    isatty(STDOUT_FILENO) == 1 && getenv("NO_COLOR") == nil ? "\u{1B}[1m\(text)\u{1B}[0m" : text
  }

  /// 1234567 as `1,234,567`.
  static func grouped(_ number: Int) -> String {
    var digits = String(abs(number))
    var groups: [String] = []
    while digits.count > 3 {
      groups.insert(String(digits.suffix(3)), at: 0)
      digits.removeLast(3)
    }
    groups.insert(digits, at: 0)
    return (number < 0 ? "-" : "") + groups.joined(separator: ",")
  }

  static func fixed(_ number: Double, _ digits: Int) -> String {
    String(format: "%.\(digits)f", number)
  }

  static func padded(_ text: String, _ width: Int, left: Bool = false) -> String {
    let space = String(repeating: " ", count: max(0, width - text.count))
    return left ? space + text : text + space
  }

  static func duration(_ seconds: Double) -> String {
    let whole = Int(seconds.rounded())
    return whole < 60 ? "\(whole) s" : "\(whole / 60) min \(whole % 60) s"
  }
}

/// A line that shows how far long work has come: redrawn in place on a screen, else a plain line at
/// each step that counts.
final class ProgressLine {
  private var lastPlain = ""
  private var isDrawn = false

  /// - Parameters:
  ///   - fraction: 0 to 1.
  ///   - step: what has to change before a plain line is written, such as the epoch.
  func show(_ label: String, fraction: Double, detail: String, step: String) {
    if Terminal.canRedraw {
      let width = 24
      let filled = Int((min(1, max(0, fraction)) * Double(width)).rounded())
      let bar =
        String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
      Terminal.rawError("\r\u{1B}[2K\(label) \(bar) \(Int(fraction * 100)) %  \(detail)")
      isDrawn = true
    } else if step != lastPlain {
      lastPlain = step
      Terminal.standardError("\(label)  \(detail)")
    }
  }

  /// Ends the line, so that what follows stands below it.
  func finish() {
    if isDrawn { Terminal.rawError("\n") }
    isDrawn = false
    lastPlain = ""
  }
}
