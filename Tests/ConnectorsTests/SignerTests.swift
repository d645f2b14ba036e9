import Connectors
import Domain
import Testing

/// The first two signatures are those of Amazon's published test suite (`get-vanilla`,
/// `get-vanilla-query-order-key-case`); the others come from botocore 1.44, an independent signer.
@Suite struct `Signature Version 4` {
  struct Vector: Sendable, CustomStringConvertible {
    var description: String
    var call: HTTPCall
    var service = "service"
    var token: String?
    var signed: String
    var signature: String
  }

  private static let json = [
    "content-type": "application/x-amz-json-1.1", "x-amz-target": "Kinesis_20131202.GetRecords",
  ]

  static let vectors = [
    Vector(
      description: "a plain request", call: HTTPCall("GET", host: "example.amazonaws.com"),
      signed: "host;x-amz-date",
      signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    Vector(
      description: "a query out of order",
      call: HTTPCall(
        "GET", host: "example.amazonaws.com",
        query: [("Param2", "value2"), ("Param1", "value1")]),
      signed: "host;x-amz-date",
      signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    Vector(
      description: "Kinesis",
      call: HTTPCall(
        "POST", host: "kinesis.us-east-1.amazonaws.com", headers: json,
        body: Array(#"{"Limit":10,"ShardIterator":"abc"}"#.utf8)),
      service: "kinesis", signed: "content-type;host;x-amz-date;x-amz-target",
      signature: "fbef3c58157175d86f2f2c2511d9bf64f6632d552772b54207515eef774fd76e"),
    Vector(
      description: "a session token",
      call: HTTPCall(
        "POST", host: "kinesis.us-east-1.amazonaws.com",
        headers: json.merging(["x-amz-target": "Kinesis_20131202.ListShards"]) { $1 },
        body: Array("{}".utf8)),
      service: "kinesis", token: "TOKEN/with+signs==",
      signed: "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
      signature: "4b3712fc4dbe74e69a805000bf32d8b45be565202de445427728f93e99015c0b"),
    Vector(
      description: "a path of odd characters and a header with spaces",
      call: HTTPCall(
        "GET", host: "example.amazonaws.com", path: "/a%20b/%C3%A9/c~d",
        headers: ["x-note": "  two   spaces  "]),
      signed: "host;x-amz-date;x-note",
      signature: "19934a6c0f481b0d88eec3bdadfb9ab8f0948b231027a6b5232a5d461d2d8c01"),
    Vector(
      description: "S3 with a query",
      call: HTTPCall(
        "GET", host: "bucket.s3.us-east-1.amazonaws.com", path: "/a%20b/%C3%A9/c~d",
        query: [("prefix", "a/b c"), ("list-type", "2")]),
      service: "s3", signed: "host;x-amz-content-sha256;x-amz-date",
      signature: "518db2f3171d8f1c89aeceb371a5457ac26ca28ecac5e99e77cce75cdf96f6fe"),
    Vector(
      description: "S3 with a body",
      call: HTTPCall(
        "PUT", host: "bucket.s3.us-east-1.amazonaws.com", path: "/key",
        headers: ["if-none-match": "*"], body: Array("hello".utf8)),
      service: "s3", signed: "host;if-none-match;x-amz-content-sha256;x-amz-date",
      signature: "db7e9fcdc8ed7581208f8f6dc302b93dec39a8a49218f4d74114d2c5cc3f1d5e"),
  ]

  @Test(arguments: vectors) func `is that of other signers`(vector: Vector) throws {
    var call = vector.call
    let credentials = AWSCredentials(
      accessKeyID: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
      sessionToken: vector.token)
    AWSSigner(credentials, region: "us-east-1", service: vector.service)
      .sign(&call, at: try #require(Timestamp(iso8601: "2015-08-30T12:36:00Z")))
    #expect(
      call.headers["authorization"]
        == "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/\(vector.service)/"
        + "aws4_request, SignedHeaders=\(vector.signed), Signature=\(vector.signature)")
    #expect(call.headers["x-amz-date"] == "20150830T123600Z")
    #expect(!"\(credentials) \(String(reflecting: credentials))".contains("wJalr"))
  }
}
