import Domain

/// `index.vector_search`: when searches of vectors go by a partition.
package struct VectorSearchSettings: Hashable, Sendable {
  /// `method`: false for `exact`, which scans the vectors of every allowed item always; true for `auto`
  /// (default), which lets large catalogues have a partition and each search take the quicker way.
  package var mayPartition = true
  /// `partition_from_rows`: items with a vector from which on a partition is made. Default 500,000:
  /// below it an exact scan takes less than a millisecond.
  package var partitionRows = 500_000
  /// `recall`: the share of the exact answer that a partitioned search shall find on average, from 0.5
  /// to 1. Default 0.98.
  package var recall = 0.98

  package init() {}

  /// Whether a model of so many items gets a partition.
  package func partitions(_ rowCount: Int) -> Bool {
    mayPartition && rowCount > 0 && rowCount >= partitionRows
  }

  init(_ given: JSON, _ problems: inout [Diagnostic]) {
    let place = "index.vector_search"
    guard let members = given.object else {
      problems.append(
        Diagnostic(
          code: "wrong_type", "`\(place)` is a map, not \(given.kindName).", at: place,
          help: "Write `vector_search: {method: auto}`."))
      return
    }
    let keys = ["method", "partition_from_rows", "recall"]
    for member in members where member.value != .null {
      func wrong(_ code: String, _ message: String, help: String) {
        problems.append(Diagnostic(code: code, message, at: "\(place).\(member.name)", help: help))
      }
      let text = member.value.text
      switch member.name {
      case "method":
        switch member.value.string {
        case "auto": mayPartition = true
        case "exact": mayPartition = false
        default:
          wrong(
            "unknown_choice", "`method` is auto or exact, not \(text).",
            help: "auto lets large catalogues have an index; exact scans every allowed item.")
        }
      case "partition_from_rows":
        if let rows = member.value.int, rows >= 1, rows <= 1 << 40 {
          partitionRows = Int(rows)
        } else {
          wrong(
            "out_of_range", "`partition_from_rows` is a whole number from 1 on, not \(text).",
            help: "The default is 500000. `method: exact` makes no index at all.")
        }
      case "recall":
        if let share = member.value.number, share >= 0.5, share <= 1 {
          recall = share
        } else {
          wrong(
            "out_of_range", "`recall` is a number from 0.5 to 1, not \(text).",
            help: "The default is 0.98. `method: exact` finds everything.")
        }
      default:
        wrong(
          "unknown_key", "`\(member.name)` is no key of `\(place)`.",
          help: nearestName(to: member.name, among: keys).map { "Did you mean `\($0)`?" }
            ?? "Keys: \(keys.joined(separator: ", ")).")
      }
    }
  }
}
