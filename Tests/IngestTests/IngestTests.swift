import Domain
import Ingest
import Testing

@Suite struct `Table definitions` {
  @Test func `are read, nulls as absent members, and written back`() throws {
    let definition = try TableDefinition(
      try JSON(
        parsing: """
          {"schema_type":"CUSTOM","name":"ev","description":null,"unique_keys":["user_id"],
           "s3_path":null,"s3_format":null,
           "column_schema":{"user_id":"String","created_at":"DateTime","tags":"Array(String)"}}
          """))
    #expect(
      definition.schema
        == TableSchema(
          name: "ev",
          columns: [
            ColumnDefinition(name: "user_id", type: .string),
            ColumnDefinition(name: "created_at", type: .dateTime),
            ColumnDefinition(name: "tags", type: .stringArray),
          ], uniqueKeys: ["user_id"]))
    #expect(
      definition.json.text == #"{"name":"ev","schema_type":"CUSTOM","column_schema":"#
        + #"{"user_id":"String","created_at":"DateTime","tags":"Array(String)"},"#
        + #""unique_keys":["user_id"]}"#)
    #expect(try TableDefinition(definition.json) == definition)
  }

  @Test func `with many faults tell all of them`() throws {
    let problems = #expect(throws: Diagnostics.self) {
      try TableDefinition(
        try JSON(
          parsing: """
            {"name":"_ev","shema_type":"CUSTOM","schema_type":"KAFKA","unique_keys":["usr_id", 3],
             "column_schema":{"user_id":"String","user-id ":"Int64","USER_ID":"Bool","_x":"Json"}}
            """))
    }
    #expect(
      problems?.description == """
        error: A table definition has no `shema_type`.
          at shema_type
          help: Did you mean `schema_type`?
        error: Tables of the schema type `KAFKA` are not supported.
          at schema_type
          help: Use `CUSTOM`, and insert rows by `table-insert` or POST /v2/tables/{table}/insert.
        error: A unique key must be a column's name, not a number.
          at unique_keys[1]
        error: The table name `_ev` begins with `_`, which is reserved.
          at name
          help: Names hold letters, digits, `_` and `-`, begin with a letter or a digit, and are at \
        most 128 characters long.
        error: The column name `user-id ` holds a character that is not allowed.
          at column_schema
          help: Names hold letters, digits, `_` and `-`, begin with a letter or a digit, and are at \
        most 128 characters long.
        error: The columns `user_id` and `USER_ID` have one name; case makes no difference.
          at column_schema
          help: Rename one of them.
        error: The column name `_x` begins with `_`, which is reserved.
          at column_schema
          help: Names hold letters, digits, `_` and `-`, begin with a letter or a digit, and are at \
        most 128 characters long.
        error: The unique key `usr_id` is not a column of the table.
          at unique_keys[0]
          help: Did you mean `user_id`? The columns are `user_id`, `user-id `, `USER_ID`, `_x`.
        """)
  }

  @Test(
    arguments: [
      (
        #"{"name":"a","column_schema":{"x":"Strin"}}"#, "unknown_column_type",
        "Did you mean `String`?"
      ),
      (#"{"name":"a","column_schema":{}}"#, "empty_schema", nil),
      (#"{"name":"a"}"#, "empty_schema", nil),
      (#"{"name":"a","column_schema":[]}"#, "wrong_type", nil),
      (#"{"name":"a","column_schema":{"x":3}}"#, "unknown_column_type", nil),
      (#"{"name":null,"column_schema":{"x":"Bool"}}"#, "missing_member", nil),
      (#"{"name":"","column_schema":{"x":"Bool"}}"#, "invalid_table_name", nil),
      (#"{"name":"sqlite_x","column_schema":{"x":"Bool"}}"#, "invalid_table_name", nil),
      (#"{"name":"a\"b","column_schema":{"x":"Bool"}}"#, "invalid_table_name", nil),
      (#"{"name":4,"column_schema":{"x":"Bool"}}"#, "wrong_type", nil),
      (#"{"name":"a","column_schema":{"x":"Bool"},"unique_keys":"x"}"#, "wrong_type", nil),
      (#"[]"#, "invalid_table", nil),
    ] as [(String, String, String?)])
  func `with one fault tell it`(text: String, code: String, help: String?) throws {
    let problems = #expect(throws: Diagnostics.self) {
      try TableDefinition(try JSON(parsing: text))
    }
    #expect(problems?.all.first?.code == code)
    #expect(problems?.all.count == (code == "wrong_type" && text.contains("[]") ? 1 : 1))
    if let help { #expect(problems?.all.first?.help == help) }
  }
}

@Suite struct `Rows` {
  static func cell(_ type: ColumnType, _ json: String) throws -> Value {
    let decoder = RowDecoder(
      TableSchema(name: "t", columns: [ColumnDefinition(name: "c", type: type)]))
    let rows = try decoder.decodeInsert(try JSON(parsing: #"{"data":[{"c":\#(json)}]}"#))
    return rows[0][0]
  }

  @Test(
    arguments: [
      (.string, #""a""#, .string("a")),
      (.string, "12", .string("12")),
      (.string, "1.5", .string("1.5")),
      (.string, "true", .string("true")),
      (.lowCardinalityString, "7", .string("7")),
      (.imageURL, #""http://x/y.png""#, .string("http://x/y.png")),
      (.unknown, #"{"a":[1]}"#, .string(#"{"a":[1]}"#)),
      (.int64, "9223372036854775807", .int(.max)),
      (.int64, #""42""#, .int(42)),
      (.int64, "3.0", .int(3)),
      (.int64, #""3.0""#, .int(3)),
      (.int64, "true", .int(1)),
      (.int32, "-2147483648", .int(-2_147_483_648)),
      (.double, "3", .double(3)),
      (.double, #""-2.5e3""#, .double(-2500)),
      (.float, "0.1", .double(0.1)),
      (.double, "false", .double(0)),
      (.bool, "1", .bool(true)),
      (.bool, "0", .bool(false)),
      (.bool, #""TRUE""#, .bool(true)),
      (.bool, #""0""#, .bool(false)),
      (
        .dateTime, "1767607200000",
        .timestamp(Timestamp(microsecondsSinceEpoch: 1_767_607_200_000_000))
      ),
      (
        .dateTime, #""2026-01-05T10:00:00Z""#,
        .timestamp(Timestamp(microsecondsSinceEpoch: 1_767_607_200_000_000))
      ),
      (
        .dateTime, #""1767607200000""#,
        .timestamp(Timestamp(microsecondsSinceEpoch: 1_767_607_200_000_000))
      ),
      (.dateTime, "1.5", .timestamp(Timestamp(microsecondsSinceEpoch: 1500))),
      (.dateTime, "-1", .timestamp(Timestamp(microsecondsSinceEpoch: -1000))),
      (.stringArray, #"["a", 1, true]"#, .array([.string("a"), .string("1"), .string("true")])),
      (.stringArray, #""[\"a\"]""#, .array([.string("a")])),
      (.int64Array, "[1, 2.0]", .array([.int(1), .int(2)])),
      (.float64Array, "[1, 2.5]", .array([.double(1), .double(2.5)])),
      (.json, #"{"a": 1}"#, .string(#"{"a":1}"#)),
      (.json, #""{\"a\": 1}""#, .string(#"{"a":1}"#)),
      (.json, #""plain""#, .string(#""plain""#)),
      (.bytes, #""AP8K""#, .bytes([0, 255, 10])),
    ] as [(ColumnType, String, Value)])
  func `coerce what a client may send`(type: ColumnType, json: String, value: Value) throws {
    #expect(try Rows.cell(type, json) == value)
    #expect(try Rows.cell(type, "null") == .null)
  }

  @Test(
    arguments: [
      (.string, "[1]"), (.string, "{}"), (.imageURL, "[]"), (.int64, "1.5"), (.int64, #""x""#),
      (.int64, "1e30"), (.int64, #""0x10""#), (.int32, "2147483648"), (.double, #""nan""#),
      (.double, #""inf""#), (.double, #""""#), (.double, "[]"), (.bool, "2"), (.bool, #""yes""#),
      (.dateTime, #""yesterday""#), (.dateTime, #""2026-02-30""#), (.dateTime, "true"),
      (.dateTime, "1769126500"), (.dateTime, "9223372036854775807"), (.stringArray, #""a""#),
      (.stringArray, "[null]"),
      (.int64Array, "[1.5]"), (.float64Array, #"["x"]"#), (.bytes, #""?""#), (.bytes, "1"),
    ] as [(ColumnType, String)])
  func `refuse what does not fit`(type: ColumnType, json: String) throws {
    let problems = #expect(throws: Diagnostics.self) { try Rows.cell(type, json) }
    #expect(problems?.all.map(\.place) == ["data[0].c"])
    #expect(problems?.all.first?.code == "type_mismatch")
  }

  static let events = RowDecoder(
    TableSchema(
      name: "events",
      columns: [
        ColumnDefinition(name: "event_id", type: .string),
        ColumnDefinition(name: "user_id", type: .string),
        ColumnDefinition(name: "age", type: .int32),
      ], uniqueKeys: ["event_id"]))

  @Test func `find their columns whatever the order of the members`() throws {
    let rows = try Rows.events.decode(
      try JSON(
        parsing: """
          [{"event_id":"1","user_id":"a","age":1}, {"age":2,"event_id":"2"},
           {"user_id":"c","age":3,"event_id":"3"}, {"event_id":"4","user_id":"d","age":4}]
          """
      ).array ?? [])
    #expect(
      rows == [
        [.string("1"), .string("a"), .int(1)], [.string("2"), .null, .int(2)],
        [.string("3"), .string("c"), .int(3)], [.string("4"), .string("d"), .int(4)],
      ])
  }

  @Test func `tell every problem with its place`() throws {
    let problems = #expect(throws: Diagnostics.self) {
      try Rows.events.decodeInsert(
        try JSON(
          parsing: """
            {"data":[{"event_id":"1"}, {"event_id":"2","usr_id":"x"}, 5,
             {"event_id":null,"age":"old"}, {"event_id":["a"]}, {"xyzzy":1,"event_id":1}]}
            """))
    }
    #expect(
      problems?.description == """
        error: The table `events` has no column `usr_id`.
          at data[1].usr_id
          help: Did you mean `user_id`?
        error: A row must be an object, not a number.
          at data[2]
          help: Write {"column": "value"}.
        error: The column `age` is of type Int32 and cannot hold "old".
          at data[3].age
          help: Give a number.
        error: The row has no `event_id`, which is part of the unique key.
          at data[3].event_id
          help: Give every row a value for it; without one a repetition could not be told apart.
        error: The column `event_id` is of type String and cannot hold an array.
          at data[4].event_id
        error: The table `events` has no column `xyzzy`.
          at data[5].xyzzy
          help: Its columns are `event_id`, `user_id`, `age`.
        """)
  }

  @Test func `with very many problems list twenty and count the rest`() throws {
    let rows = (0..<50).map { _ -> JSON in ["event_id": "1", "age": "old"] }
    let problems = #expect(throws: Diagnostics.self) { try Rows.events.decode(rows) }
    #expect(problems?.all.count == 21)
    #expect(problems?.all.last?.message == "30 more problems are not listed.")
  }

  @Test(arguments: ["[]", "{}", #"{"data":null}"#, #"{"data":{}}"#])
  func `of a body without a list are refused`(body: String) throws {
    let problems = #expect(throws: Diagnostics.self) {
      try Rows.events.decodeInsert(try JSON(parsing: body))
    }
    #expect(problems?.all.count == 1)
  }
}

@Suite struct `Files of rows` {
  static func read(_ format: RowFormat, _ text: String, by limit: Int = 2) throws -> [String] {
    var file = try RowFile(format, Array(text.utf8), origin: "rows")
    var out: [String] = []
    while true {
      let rows = try file.next(limit)
      if rows.isEmpty { return out }
      #expect(rows.count <= limit)
      out += rows.map(\.text)
    }
  }

  @Test(arguments: [
    ("a,b\n1,2\n", [#"{"a":"1","b":"2"}"#]),
    ("a,b\r\n1,2\r\n3,4", [#"{"a":"1","b":"2"}"#, #"{"a":"3","b":"4"}"#]),
    ("a,b\n,\"\"\n", [#"{"a":null,"b":""}"#]),
    ("a,b\n\"x,\"\"y\"\"\n\",z", [#"{"a":"x,\"y\"\n","b":"z"}"#]),
    ("\u{FEFF}a\n1\n\n2\n\n", [#"{"a":"1"}"#, #"{"a":"2"}"#]),
    ("a\nü\r\r\n", [#"{"a":"ü\r"}"#]),
    ("a,b", []),
  ])
  func `of separated values follow RFC 4180`(text: String, rows: [String]) throws {
    for limit in 1...3 { #expect(try Files.read(.csv, text, by: limit) == rows) }
    #expect(
      try Files.read(.tsv, text.replacing(",", with: "\t"))
        == rows.map { $0.replacing(#""x,"#, with: #""x\t"#) })
  }

  private typealias Files = `Files of rows`

  @Test(arguments: [
    ("", "empty_file", "rows"), ("a,,c\n", "invalid_header", "rows:1"),
    ("a,a\n", "invalid_header", "rows:1"), ("a,b\n1,2\n3\n", "wrong_field_count", "rows:3"),
    ("a\n1\n\"x\ny", "invalid_csv", "rows:3"), ("a\n\"x\"y\n", "invalid_csv", "rows:2"),
  ])
  func `of separated values name the line of a fault`(
    text: String, code: String, place: String
  ) throws {
    let problem = #expect(throws: Diagnostic.self) { try Files.read(.csv, text) }
    #expect(problem?.code == code)
    #expect(problem?.place == place)
  }

  @Test func `of JSON lines skip empty lines and name the line of a fault`() throws {
    let text = "{\"a\":1}\n\n {\"a\":2}\r\n{\"a\":3}"
    #expect(try Files.read(.jsonl, text) == [#"{"a":1}"#, #"{"a":2}"#, #"{"a":3}"#])
    #expect(try Files.read(.json, text) == [#"{"a":1}"#, #"{"a":2}"#, #"{"a":3}"#])
    let problem = #expect(throws: Diagnostic.self) { try Files.read(.jsonl, "{}\n\n{") }
    #expect(problem?.place == "rows:3")
  }

  @Test func `of JSON may be one array`() throws {
    #expect(try Files.read(.json, " [{\"a\":1},{\"a\":2},{\"a\":3}]").count == 3)
    let problem = #expect(throws: Diagnostic.self) { try Files.read(.json, "[{\"a\":1},\n]") }
    #expect(problem?.place == "rows, line 2, column 1")
  }
}
