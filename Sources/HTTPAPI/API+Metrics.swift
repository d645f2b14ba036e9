import Domain
import Engine

extension API {
  /// `GET /metrics`, in the text form that Prometheus reads.
  func metrics() throws -> APIReply {
    var text = MetricsText()
    try database.writeMetrics(into: &text)
    return APIReply(
      status: 200, headers: ["content-type": "text/plain; version=0.0.4; charset=utf-8"],
      body: text.bytes)
  }
}
