/// What a user did up to a moment, in one model's tokens: what a recommendation is asked with.
///
/// Slices share the memory of the sequence that they were cut from, so a history costs no copy.
package struct History: Hashable, Sendable {
  /// Oldest first.
  package var items: ArraySlice<ItemToken>
  /// When each item was, where that is known: as many as `items`.
  package var times: ArraySlice<Timestamp>?
  /// How much each item counts, where that differs: as many as `items`.
  package var weights: ArraySlice<Float>?
  /// When the question is asked, where that is known.
  package var moment: Timestamp?

  package init(
    _ items: ArraySlice<ItemToken>, times: ArraySlice<Timestamp>? = nil,
    weights: ArraySlice<Float>? = nil, moment: Timestamp? = nil
  ) {
    precondition(
      (times?.count ?? items.count) == items.count
        && (weights?.count ?? items.count) == items.count,
      "a history of \(items.count) items with other numbers of times or weights")
    self.items = items
    self.times = times
    self.weights = weights
    self.moment = moment
  }

  package init(_ items: [ItemToken]) { self.init(items[...]) }

  /// The newest events of the history.
  package func suffix(_ maximumLength: Int) -> History {
    if items.count <= maximumLength { return self }
    return History(
      items.suffix(maximumLength), times: times?.suffix(maximumLength),
      weights: weights?.suffix(maximumLength), moment: moment)
  }
}
