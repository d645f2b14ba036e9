import CZlib
package import Domain

/// Unpacks a gzip stream piece by piece.
///
/// Several gzip members one after another are one stream, as `cat a.gz b.gz` makes. A stream that
/// unpacks to more than is allowed is refused on the way: its end is never waited for.
package final class Inflater {
  private let stream: UnsafeMutablePointer<z_stream>
  private let limit: Int
  private let mostRatio: Int
  /// Bytes taken in and given out.
  package private(set) var packedBytes = 0
  package private(set) var unpackedBytes = 0
  private var isFinished = false

  /// So much may unpack at any ratio.
  private static let freeBytes = 16 << 20

  /// - Parameters:
  ///   - limit: the most bytes that the stream may unpack to.
  ///   - mostRatio: beyond the first 16 MiB it may not unpack to more than so many times its size.
  ///     Rows of events pack ten to fiftyfold; a run of one byte a thousandfold.
  package init(limit: Int, mostRatio: Int = 1_100) throws(Diagnostic) {
    self.limit = limit
    self.mostRatio = mostRatio
    stream = .allocate(capacity: 1)
    stream.initialize(to: z_stream())
    // 15 bits of window; 16 more ask for the gzip header.
    guard riffle_inflate_start(stream, 15 + 16) == Z_OK else {
      throw Diagnostic(
        .internalError, code: "gzip_failed", "The unpacking of gzip could not be set up.")
    }
  }

  deinit {
    inflateEnd(stream)
    stream.deinitialize(count: 1)
    stream.deallocate()
  }

  /// Unpacks the next bytes and gives what comes out to the body, at most 256 KiB at a time.
  ///
  /// - Throws: `invalid_gzip`, `unpacked_too_large`, and what the body throws.
  package func unpack(
    _ packed: [UInt8], _ body: ([UInt8]) async throws -> Void
  ) async throws {
    var input = packed
    var out = [UInt8](repeating: 0, count: 1 << 18)
    var offset = 0
    while offset < input.count {
      let (consumed, produced) = try step(&input, offset, &out)
      offset += consumed
      packedBytes += consumed
      unpackedBytes += produced
      if unpackedBytes > limit
        || (unpackedBytes > Self.freeBytes && unpackedBytes / mostRatio > packedBytes)
      {
        throw Diagnostic(
          code: "unpacked_too_large",
          unpackedBytes > limit
            ? "The body unpacks to more than \(limit) bytes."
            : "The body unpacks to more than \(mostRatio) times its size.",
          at: "body", help: "Send the rows in smaller requests.")
      }
      if produced > 0 {
        try await body(Array(out[..<produced]))
      }
      if consumed == 0, produced == 0 { throw invalid() }
    }
  }

  /// Checks that the stream has come to its end.
  package func finish() throws(Diagnostic) {
    guard isFinished else {
      throw Diagnostic(
        code: "invalid_gzip", "The gzip stream ends in the middle.", at: "body",
        help: "Send the whole stream.")
    }
  }

  private func invalid() -> Diagnostic {
    Diagnostic(
      code: "invalid_gzip", "The body is no valid gzip stream.", at: "body",
      help: "Pack it with gzip, or leave the header Content-Encoding out.")
  }

  private func step(
    _ input: inout [UInt8], _ offset: Int, _ out: inout [UInt8]
  ) throws(Diagnostic) -> (consumed: Int, produced: Int) {
    if isFinished {
      // Another member follows.
      guard inflateReset(stream) == Z_OK else { throw invalid() }
      isFinished = false
    }
    let available = input.count - offset
    let space = out.count
    var code = Z_OK
    input.withUnsafeMutableBufferPointer { source in
      out.withUnsafeMutableBufferPointer { target in
        stream.pointee.next_in = source.baseAddress?.advanced(by: offset)
        stream.pointee.avail_in = UInt32(available)
        stream.pointee.next_out = target.baseAddress
        stream.pointee.avail_out = UInt32(space)
        code = inflate(stream, Z_NO_FLUSH)
      }
    }
    guard code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR else { throw invalid() }
    if code == Z_STREAM_END { isFinished = true }
    return (available - Int(stream.pointee.avail_in), space - Int(stream.pointee.avail_out))
  }
}
