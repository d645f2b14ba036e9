import Foundation
import Synchronization

/// The date as HTTP writes it, made once a second.
enum HTTPDate {
  private static let last = Mutex((second: -1, text: ""))

  static var now: String {
    let second = Int(Date().timeIntervalSince1970)
    return last.withLock { last in
      if last.second != second { last = (second, text(second)) }
      return last.text
    }
  }

  /// Such as `Sun, 06 Nov 1994 08:49:37 GMT`.
  static func text(_ secondsSinceEpoch: Int) -> String {
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    let months = [
      "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let day = secondsSinceEpoch / 86_400
    let rest = secondsSinceEpoch % 86_400
    // The civil date of a day number, by H. Hinnant's days_from_civil turned round.
    let shifted = day + 719_468
    let era = shifted / 146_097
    let ofEra = shifted % 146_097
    let year = (ofEra - ofEra / 1460 + ofEra / 36_524 - ofEra / 146_096) / 365
    let ofYear = ofEra - (365 * year + year / 4 - year / 100)
    let month = (5 * ofYear + 2) / 153
    let ofMonth = ofYear - (153 * month + 2) / 5 + 1
    let civilMonth = month < 10 ? month + 3 : month - 9
    let civilYear = year + era * 400 + (civilMonth <= 2 ? 1 : 0)
    return "\(days[day % 7]), \(two(ofMonth)) \(months[civilMonth - 1]) \(civilYear) "
      + "\(two(rest / 3600)):\(two(rest / 60 % 60)):\(two(rest % 60)) GMT"
  }
}
