import CWait

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// One run: an open loop of requests over keep-alive connections, on one thread.
///
/// Request i is due at i / rate, whatever happened to those before it. It goes out on the first free
/// connection; where none is free it waits, and the wait counts, because latency runs from the due
/// time. A server that stalls for a second is thus seen by every request of that second and not only
/// by the one that met it ("coordinated omission").
package struct LoadRun: ~Copyable {
  private struct Connection {
    var socket: Int32 = -1
    var parser = ResponseParser()
    var request: Int?
    var sent = 0
    var deadline = 0.0
  }

  private let plan: LoadPlan
  private let requests: [[UInt8]]
  private var connections: [Connection]
  private var free: [Int]
  private var report: LoadReport
  private var start = 0.0
  private var lastAnswer = 0.0

  package init(_ plan: LoadPlan) {
    self.plan = plan
    requests = plan.requests
    connections = Array(repeating: Connection(), count: plan.connections)
    // The last one is taken first: a server meets few busy connections rather than all in turn.
    free = Array((0..<plan.connections).reversed())
    report = LoadReport(
      url: plan.url, rate: plan.rate, connections: plan.connections, seconds: plan.seconds)
  }

  deinit {
    for connection in connections where connection.socket >= 0 { _ = close(connection.socket) }
  }

  /// Sends everything and waits for the answers.
  ///
  /// - Throws: a message where the server cannot be reached at all.
  package consuming func run() throws(LoadFailure) -> LoadReport {
    load_use_fine_timers()
    signal(SIGPIPE, SIG_IGN)
    for i in connections.indices { try open(i) }
    start = now()
    var next = 0
    let lastDue = plan.due(plan.requestCount - 1)
    while next < plan.requestCount || free.count < connections.count {
      let time = now() - start
      if time > lastDue + plan.timeout {
        for request in next..<plan.requestCount { giveUp(request, at: time) }
        next = plan.requestCount
      }
      while next < plan.requestCount, plan.due(next) <= time, let i = free.popLast() {
        send(next, on: i)
        next += 1
      }
      for i in connections.indices where connections[i].request != nil {
        if connections[i].deadline <= time { fail(i, "no answer within the time limit") }
      }
      // With no connection free only an answer or a time limit can move things on.
      let isWaiting = next < plan.requestCount && !free.isEmpty
      wait(until: isWaiting ? plan.due(next) : time + 0.05)
    }
    report.latencies.sort()
    report.lags.sort()
    report.elapsed = lastAnswer - plan.warmUp
    return report
  }

  private mutating func open(_ i: Int) throws(LoadFailure) {
    #if canImport(Darwin)
      let kind = SOCK_STREAM
      let protocolNumber = IPPROTO_TCP
    #else
      let kind = Int32(SOCK_STREAM.rawValue)
      let protocolNumber = Int32(IPPROTO_TCP)
    #endif
    let socket = socket(AF_INET, kind, 0)
    guard socket >= 0 else { throw LoadFailure("no socket: \(lastError)") }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = plan.port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard connected == 0 else {
      let reason = lastError
      _ = close(socket)
      throw LoadFailure("cannot connect to \(plan.url): \(reason)")
    }
    var on: Int32 = 1
    _ = setsockopt(
      socket, protocolNumber, TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    _ = fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK)
    connections[i].socket = socket
    connections[i].parser = ResponseParser()
  }

  private mutating func send(_ request: Int, on i: Int) {
    connections[i].request = request
    connections[i].sent = 0
    if connections[i].socket < 0 {
      do { try open(i) } catch {
        fail(i, error.message)
        return
      }
    }
    let time = now() - start
    // From now on, not from the due time: behind an overloaded server requests leave late, and giving
    // up on them at once would waste the work that it does for them and hide its throughput.
    connections[i].deadline = time + plan.timeout
    if plan.isMeasured(request) { report.lags.append(time - plan.due(request)) }
    writeMore(i)
  }

  private mutating func writeMore(_ i: Int) {
    guard let request = connections[i].request else { return }
    let bytes = requests[plan.bodyIndex(request)]
    while connections[i].sent < bytes.count {
      let written = bytes.withUnsafeBytes { buffer in
        write(
          connections[i].socket, buffer.baseAddress?.advanced(by: connections[i].sent),
          bytes.count - connections[i].sent)
      }
      if written > 0 {
        connections[i].sent += written
      } else if written < 0, errno == EINTR {
        continue
      } else if written < 0, errno == EAGAIN {
        return
      } else {
        fail(i, "sending failed: \(lastError)")
        return
      }
    }
  }

  private mutating func readMore(_ i: Int) {
    withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 16) { buffer in
      while connections[i].socket >= 0 {
        let count = read(connections[i].socket, buffer.baseAddress, buffer.count)
        if count < 0, errno == EINTR { continue }
        if count < 0, errno == EAGAIN { return }
        guard count > 0 else {
          let reason = count == 0 ? "the server closed the connection" : lastError
          // Closing an idle connection is the server's right; the next request opens another.
          if connections[i].request == nil { drop(i) } else { fail(i, reason) }
          return
        }
        do throws(ResponseParser.Malformed) {
          let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
          if let response = try connections[i].parser.feed(bytes) { answered(i, response) }
        } catch {
          fail(i, "not HTTP/1.1: \(error.reason)")
        }
        if count < buffer.count { return }
      }
    }
  }

  private mutating func answered(_ i: Int, _ response: ResponseParser.Response) {
    guard let request = connections[i].request else {
      drop(i)
      return
    }
    let time = now() - start
    if plan.isMeasured(request) {
      report.latencies.append(time - plan.due(request))
      report.statuses[response.status, default: 0] += 1
      report.bodyBytes += response.bodyBytes
      lastAnswer = time
    }
    connections[i].request = nil
    if response.closes { drop(i) }
    free.append(i)
  }

  private mutating func fail(_ i: Int, _ reason: String) {
    if let request = connections[i].request {
      if plan.isMeasured(request) {
        report.latencies.append(now() - start - plan.due(request))
        report.failures[reason, default: 0] += 1
      }
      connections[i].request = nil
      free.append(i)
    }
    drop(i)
  }

  /// Counts a request for which no connection came free in time.
  private mutating func giveUp(_ request: Int, at time: Double) {
    guard plan.isMeasured(request) else { return }
    report.latencies.append(time - plan.due(request))
    report.failures["no free connection until the end", default: 0] += 1
  }

  private mutating func drop(_ i: Int) {
    if connections[i].socket >= 0 { _ = close(connections[i].socket) }
    connections[i].socket = -1
    connections[i].parser = ResponseParser()
  }

  /// Sleeps until a time or until a socket has something to say, and serves those that have.
  private mutating func wait(until time: Double) {
    var polled: [pollfd] = []
    var owners: [Int] = []
    for (i, connection) in connections.enumerated() where connection.socket >= 0 {
      var events = Int16(POLLIN)
      if let request = connection.request,
        connection.sent < requests[plan.bodyIndex(request)].count
      {
        events |= Int16(POLLOUT)
      }
      polled.append(pollfd(fd: connection.socket, events: events, revents: 0))
      owners.append(i)
    }
    let left = max(0, time - (now() - start))
    guard load_wait(&polled, UInt(polled.count), Int64(left * 1e9)) > 0 else { return }
    for (descriptor, i) in zip(polled, owners) where descriptor.revents != 0 {
      if descriptor.revents & Int16(POLLOUT) != 0 { writeMore(i) }
      if descriptor.revents & ~Int16(POLLOUT) != 0 { readMore(i) }
    }
  }
}

/// Why a run could not take place.
package struct LoadFailure: Error, Hashable, Sendable {
  package var message: String
  init(_ message: String) { self.message = message }
}

private var lastError: String { String(cString: strerror(errno)) }

/// Seconds of a clock that only goes forward.
private func now() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}
