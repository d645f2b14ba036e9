import LoadTool
import Testing

@Suite struct `Response parser` {
  /// Feeds a text in pieces that end at the given places.
  private func parse(_ text: String, cuts: [Int]) throws -> [ResponseParser.Response] {
    var parser = ResponseParser()
    var found: [ResponseParser.Response] = []
    let bytes = Array(text.utf8)
    for (start, end) in zip([0] + cuts, cuts + [bytes.count]) {
      try bytes[start..<end].withUnsafeBytes { piece in
        if let response = try parser.feed(piece) { found.append(response) }
      }
    }
    return found
  }

  private static let texts: [(text: String, response: ResponseParser.Response)] = [
    (
      "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX: y\r\n\r\nhello",
      .init(status: 200, closes: false, bodyBytes: 5)
    ),
    (
      "HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
      .init(status: 422, closes: true, bodyBytes: 0)
    ),
    (
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=1\r\n0123456789\r\n"
        + "0\r\nT: v\r\n\r\n",
      .init(status: 200, closes: false, bodyBytes: 15)
    ),
    ("HTTP/1.1 204 No Content\r\n\r\n", .init(status: 204, closes: false, bodyBytes: 0)),
    (
      "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n\n",
      .init(status: 200, closes: true, bodyBytes: 1)
    ),
  ]

  @Test func `reads a response however it is cut`() throws {
    for (text, response) in Self.texts {
      let count = text.utf8.count
      #expect(try parse(text, cuts: []) == [response])
      #expect(try parse(text, cuts: Array(1..<count)) == [response])
      for a in 1..<count { #expect(try parse(text, cuts: [a]) == [response]) }
      #expect(try parse(String(text.dropLast()), cuts: []) == [])
    }
  }

  @Test func `reads one response after another`() throws {
    let text = Self.texts[0].text + Self.texts[2].text
    #expect(
      try parse(text, cuts: [Self.texts[0].text.utf8.count]).map(\.bodyBytes) == [5, 15])
  }

  @Test(arguments: [
    "SSH-2.0-x\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "\r\n",
  ])
  func `refuses what is no response`(text: String) {
    #expect(throws: ResponseParser.Malformed.self) { try parse(text, cuts: []) }
  }
}

@Suite struct `Load report` {
  @Test func `percentiles are nearest ranks`() {
    let times = (1...100).map(Double.init)
    #expect(LoadReport.percentile(0.5, of: times) == 50)
    #expect(LoadReport.percentile(0.99, of: times) == 99)
    #expect(LoadReport.percentile(1, of: times) == 100)
    #expect(LoadReport.percentile(0, of: times) == 1)
    #expect(LoadReport.percentile(0.99, of: [7]) == 7)
    #expect(LoadReport.percentile(0.5, of: []).isNaN)
  }

  @Test func `counts answers that are not 2xx`() {
    var report = LoadReport(url: "u", rate: 1, connections: 1, seconds: 1)
    report.statuses = [200: 5, 204: 1, 302: 1, 503: 2]
    report.failures = ["a \"b\"": 3]
    #expect(report.non2xx == 3)
    #expect(report.failed == 3)
    #expect(report.json.contains(#""requests":12,"non_2xx":3,"failed":3"#))
    #expect(report.json.contains(#""p99_ms":null"#))
    #expect(report.json.contains(#""failures":{"a \"b\"":3}"#))
  }
}

@Suite struct `Load plan` {
  @Test(arguments: ["http://10.0.0.1:80/", "https://127.0.0.1/", "http://example.com/", "x", ""])
  func `refuses every machine but this one`(url: String) {
    #expect(throws: LoadPlan.Invalid.self) { try LoadPlan(url: url, rate: 1) }
  }

  @Test func `names every problem at once`() {
    let error = #expect(throws: LoadPlan.Invalid.self) {
      try LoadPlan(url: "http://127.0.0.1:99999/", rate: -1, connections: 0, seconds: 1e9)
    }
    #expect(error?.problems.count == 4)
  }

  @Test func `sends at fixed times and marks the warm-up`() throws {
    let plan = try LoadPlan(
      url: "http://localhost:8080/a/b", bodies: [[1], [2]], rate: 100, warmUp: 1, seconds: 2)
    #expect(plan.requestCount == 300)
    #expect(plan.due(150) == 1.5)
    #expect(!plan.isMeasured(99))
    #expect(plan.isMeasured(100))
    #expect(Set((0..<100).map(plan.bodyIndex)) == [0, 1])
    #expect(
      String(decoding: plan.requests[0], as: UTF8.self)
        == "POST /a/b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
        + "Content-Length: 1\r\n\r\n\u{1}")
  }
}
