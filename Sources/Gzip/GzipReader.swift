import CZlib
package import Domain

/// `Gzip` turns compressed bytes into plain ones, piece by piece and within a limit, and back.
///
/// It wraps the system's zlib. Bodies of requests and files come through here; neither may make
/// the process hold more memory than its caller has allowed.

/// Inflates a stream of gzip or zlib data (RFC 1952, RFC 1950) that arrives in pieces.
///
/// Several gzip members one after another are one stream, as `gzip` itself reads them.
package final class GzipReader {
  /// What came of one step.
  package enum State: Hashable, Sendable {
    /// The data so far ends inside a member: more must come.
    case needsInput
    /// The data so far ends with a whole member; another may follow.
    case atMemberEnd
  }

  // zlib keeps a pointer to it, so that it must not move.
  private let stream: UnsafeMutablePointer<z_stream>
  private var chunk = [UInt8](repeating: 0, count: 64 << 10)
  /// The bytes that have come out.
  package private(set) var producedCount = 0
  package private(set) var state = State.needsInput

  package init() throws(Diagnostic) {
    stream = .allocate(capacity: 1)
    stream.initialize(to: z_stream())
    // 15 bits of window, plus 32: the header tells gzip from zlib.
    guard riffle_inflate_start(stream, 15 + 32) == Z_OK else {
      throw Diagnostic(
        .unavailable, code: "out_of_memory", "There is no memory to unpack compressed data.")
    }
  }

  deinit {
    inflateEnd(stream)
    stream.deinitialize(count: 1)
    stream.deallocate()
  }

  /// Inflates a piece and hands on what comes out, some at a time.
  ///
  /// - Parameter body: is given at most 64 KiB at once; what it throws ends the call.
  /// - Throws: `invalid_gzip` where the bytes are no compressed data.
  package func inflate(
    _ bytes: some Collection<UInt8>, _ body: (ArraySlice<UInt8>) throws -> Void
  ) throws {
    var input = Array(bytes)
    var consumed = 0
    while consumed < input.count {
      if state == .atMemberEnd {
        // Zeros after the last member are padding, as tape archives have it.
        if input[consumed] == 0 {
          consumed += 1
          continue
        }
        inflateReset(stream)
        state = .needsInput
      }
      var produced = 0
      let inputCount = input.count
      let outcome = input.withUnsafeMutableBufferPointer { source in
        chunk.withUnsafeMutableBufferPointer { target in
          stream.pointee.next_in = source.baseAddress.map { $0 + consumed }
          stream.pointee.avail_in = UInt32(clamping: inputCount - consumed)
          stream.pointee.next_out = target.baseAddress
          stream.pointee.avail_out = UInt32(target.count)
          let offered = Int(stream.pointee.avail_in)
          let outcome = CZlib.inflate(stream, Z_NO_FLUSH)
          consumed += offered - Int(stream.pointee.avail_in)
          produced = target.count - Int(stream.pointee.avail_out)
          return outcome
        }
      }
      switch outcome {
      case Z_STREAM_END: state = .atMemberEnd
      case Z_OK, Z_BUF_ERROR: break
      default:
        throw Diagnostic(
          code: "invalid_gzip", "The data is not valid gzip\(zlibWords).",
          help: "Send it compressed with gzip, or plain without `content-encoding`.")
      }
      producedCount += produced
      if produced > 0 { try body(chunk[..<produced]) }
      // Output may be left inside zlib though all input is taken; it comes with the next step.
      if produced == chunk.count, consumed == input.count, outcome == Z_OK {
        try drain(body)
      }
    }
  }

  /// Hands on what zlib still holds.
  private func drain(_ body: (ArraySlice<UInt8>) throws -> Void) throws {
    while state == .needsInput {
      var produced = 0
      let outcome = chunk.withUnsafeMutableBufferPointer { target in
        stream.pointee.next_in = nil
        stream.pointee.avail_in = 0
        stream.pointee.next_out = target.baseAddress
        stream.pointee.avail_out = UInt32(target.count)
        let outcome = CZlib.inflate(stream, Z_NO_FLUSH)
        produced = target.count - Int(stream.pointee.avail_out)
        return outcome
      }
      if outcome == Z_STREAM_END { state = .atMemberEnd }
      producedCount += produced
      if produced > 0 { try body(chunk[..<produced]) }
      if produced < chunk.count { return }
    }
  }

  private var zlibWords: String {
    stream.pointee.msg.map { " (\(String(cString: $0)))" } ?? ""
  }
}

/// Whole buffers in gzip's form.
package enum Gzip {
  /// Inflates a whole body.
  ///
  /// - Parameter limit: the most bytes that may come out, so that a small body cannot fill the
  ///   memory.
  /// - Throws: `body_too_large` beyond the limit; `invalid_gzip` where the data is broken or ends
  ///   too early.
  package static func inflated(
    _ bytes: some Collection<UInt8>, limit: Int
  ) throws(Diagnostic) -> [UInt8] {
    let inflater = try GzipReader()
    var out: [UInt8] = []
    do {
      try inflater.inflate(bytes) { piece in
        guard out.count + piece.count <= limit else {
          throw Diagnostic(
            code: "body_too_large", "The body holds more than \(limit) bytes once unpacked.",
            help: "Send it in smaller pieces.")
        }
        out += piece
      }
    } catch let problem as Diagnostic {
      throw problem
    } catch {
      throw Diagnostic(.internalError, code: "internal_error", "\(error)")
    }
    guard inflater.state == .atMemberEnd else {
      throw Diagnostic(
        code: "invalid_gzip", "The compressed data ends too early.",
        help: "Send all of it; its end holds a checksum.")
    }
    return out
  }

  /// Whether the bytes begin as a gzip file does.
  package static func hasMagic(_ bytes: some Collection<UInt8>) -> Bool {
    bytes.starts(with: [0x1F, 0x8B])
  }

  /// Compresses a whole buffer into one gzip member.
  package static func deflated(_ bytes: [UInt8]) -> [UInt8] {
    let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    stream.initialize(to: z_stream())
    defer {
      deflateEnd(stream)
      stream.deallocate()
    }
    guard riffle_deflate_start(stream, 15 + 16) == Z_OK else {
      preconditionFailure("zlib refuses its own settings")
    }
    var out = [UInt8](repeating: 0, count: Int(deflateBound(stream, UInt(bytes.count))))
    var input = bytes
    let outcome = input.withUnsafeMutableBufferPointer { source in
      out.withUnsafeMutableBufferPointer { target in
        stream.pointee.next_in = source.baseAddress
        stream.pointee.avail_in = UInt32(source.count)
        stream.pointee.next_out = target.baseAddress
        stream.pointee.avail_out = UInt32(target.count)
        return deflate(stream, Z_FINISH)
      }
    }
    precondition(outcome == Z_STREAM_END, "deflateBound was too small")
    out.removeLast(Int(stream.pointee.avail_out))
    return out
  }
}
