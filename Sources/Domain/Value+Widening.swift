extension Value {
  /// The value in a wider type; itself where the type holds it as it is.
  package func widened(to type: ColumnType) -> Value {
    switch (self, type) {
    case (.int(let number), .float), (.int(let number), .double): .double(Double(number))
    case (.int(let number), .string), (.int(let number), .unknown),
      (.int(let number), .lowCardinalityString):
      .string(String(number))
    case (.array(let elements), .float64Array): .array(elements.map { $0.widened(to: .double) })
    default: self
    }
  }
}
