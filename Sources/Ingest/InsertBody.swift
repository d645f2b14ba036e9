package import Domain

/// The body of `POST /v2/tables/{table}/insert`: `{"data": [{column: value}, …]}`.
package enum InsertBody {
  /// The rows, as they stand under `data`.
  package static func rows(_ body: JSON) throws(Diagnostics) -> [JSON] {
    let help = #"Write {"data": [{"column": "value"}, …]}."#
    guard body.object != nil else {
      throw Diagnostics(
        Diagnostic(
          code: "invalid_body", "The body must be an object, not \(body.kindName).", help: help))
    }
    guard let data = body["data"], data != .null else {
      throw Diagnostics(
        Diagnostic(code: "missing_member", "The body has no `data`.", at: "data", help: help))
    }
    guard let rows = data.array else {
      throw Diagnostics(
        Diagnostic(
          code: "wrong_type", "`data` must be an array of rows, not \(data.kindName).", at: "data",
          help: help))
    }
    return rows
  }

  /// The rows as records, each at its place in the list.
  package static func records(_ body: JSON) throws(Diagnostics) -> [SourceRecord] {
    try rows(body).enumerated().map { SourceRecord(.json($1), at: .int(Int64($0))) }
  }
}
