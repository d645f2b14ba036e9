package import Domain

/// An event of the tracking API, made ready to be mapped.
package enum SegmentEvent {
  /// The kinds of events, by the paths that take one each. The short forms are what browser and mobile
  /// libraries use.
  package static func type(ofPath name: String) -> String? {
    switch name {
    case "track", "t": "track"
    case "identify", "i": "identify"
    case "page", "p": "page"
    case "screen", "s": "screen"
    case "group", "g": "group"
    case "alias", "a": "alias"
    default: nil
    }
  }

  /// Gives an event its type, its corrected time and what a mapping likes to find.
  ///
  /// The sender's clock may be wrong: `timestamp` becomes the time of receipt less the time that passed
  /// between event and sending by the sender's own clock, both ends of which are off by as much. An
  /// event that bears `originalTimestamp` beside `timestamp` was corrected before.
  ///
  /// - Parameters:
  ///   - type: the path's, for an event that names none.
  ///   - sentAt: the batch's, for an event that has none of its own.
  ///   - isHistory: the event is told long after it happened, so its time stands as it is.
  package static func prepared(
    _ event: JSON, type: String?, sentAt: JSON?, receivedAt: Timestamp, isHistory: Bool
  ) -> JSON {
    guard case .object(var members) = event else { return event }
    func set(_ name: String, _ value: JSON) {
      if let place = members.firstIndex(where: { $0.name == name }) {
        members[place].value = value
      } else {
        members.append(JSON.Member(name, value))
      }
    }
    if let type, event["type"] == nil || event["type"] == .null { set("type", .string(type)) }
    let given = time(event["timestamp"])
    let original = time(event["originalTimestamp"])
    let sent = time(event["sentAt"]) ?? time(sentAt)
    if let happened = original ?? given {
      var corrected = given ?? happened
      if !isHistory, given == nil || original == nil, let sent {
        corrected = shifted(receivedAt, by: sent, to: happened)
      }
      if original == nil { set("originalTimestamp", .string(happened.iso8601)) }
      set("timestamp", .string(corrected.iso8601))
    } else if event["timestamp"] == nil || event["timestamp"] == .null {
      set("timestamp", .string(receivedAt.iso8601))
    }
    if event["receivedAt"] == nil { set("receivedAt", .string(receivedAt.iso8601)) }
    return .object(members)
  }

  /// `receivedAt - (sentAt - happened)`, kept within what a time can be.
  private static func shifted(
    _ receivedAt: Timestamp, by sent: Timestamp, to happened: Timestamp
  ) -> Timestamp {
    let (elapsed, overflow) = sent.microsecondsSinceEpoch.subtractingReportingOverflow(
      happened.microsecondsSinceEpoch)
    if overflow { return happened }
    let (time, tooFar) = receivedAt.microsecondsSinceEpoch.subtractingReportingOverflow(elapsed)
    return tooFar ? happened : Timestamp(microsecondsSinceEpoch: time)
  }

  /// A time as libraries write it: ISO 8601, or milliseconds since 1970.
  private static func time(_ json: JSON?) -> Timestamp? {
    switch json {
    case .string(let text)?: return Timestamp(iso8601: text)
    case .int(let milliseconds)?:
      let (microseconds, overflow) = milliseconds.multipliedReportingOverflow(by: 1000)
      return overflow ? nil : Timestamp(microsecondsSinceEpoch: microseconds)
    default: return nil
    }
  }

  /// The mapping of a source that declares none: a table's columns by their names.
  package static func mapping(for columns: [String]) -> RecordMapping {
    RecordMapping(columns.map { RecordMapping.Rule(column: $0, paths: paths(for: $0)) })
  }

  private static func paths(for column: String) -> [RecordPath] {
    let names: [String] =
      switch column.lowercased() {
      case "message_id", "messageid", "event_id", "id": ["messageId"]
      case "user_id", "userid": ["userId", "anonymousId"]
      case "anonymous_id", "anonymousid": ["anonymousId"]
      case "group_id", "groupid": ["groupId"]
      case "previous_id", "previousid": ["previousId"]
      case "event", "event_name", "event_value", "event_type": ["event", "name", "type"]
      case "type": ["type"]
      case "timestamp", "created_at", "time", "event_time", "occurred_at": ["timestamp"]
      case "received_at", "receivedat": ["receivedAt"]
      case "sent_at", "sentat": ["sentAt"]
      case "properties": ["properties"]
      case "traits": ["traits"]
      case "context": ["context"]
      default:
        [column, camelCase(column)].flatMap { name in
          ["properties", "traits", "context"].map { "\($0).\"\(name)\"" }
        }
      }
    return names.compactMap { try? RecordPath(parsing: $0) }
  }

  private static func camelCase(_ name: String) -> String {
    let words = name.split(separator: "_")
    guard let first = words.first else { return name }
    return String(first)
      + words.dropFirst().map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
  }
}
