package import Domain

/// How far an engine has come, as its caller sees it.
package struct EngineStatus: Sendable {
  package enum State: String, Sendable {
    case scheduling = "SCHEDULING"
    case training = "TRAINING"
    case active = "ACTIVE"
    case error = "ERROR"

    /// Whether nothing more happens by itself.
    package var isTerminal: Bool { self == .active || self == .error }
  }

  package struct LogLine: Hashable, Sendable {
    package var time: Timestamp
    package var level: String
    package var stage: String
    package var component: String
    package var message: String
  }

  package var state: State = .scheduling
  /// Why the state is `error`.
  package var error: String?
  /// Only while a model trains.
  package var progress: EngineProgress?
  /// The newest lines, oldest first.
  package private(set) var log: [LogLine] = []

  mutating func note(
    _ message: String, component: String, at time: Timestamp, level: String = "INFO"
  ) {
    log.append(
      LogLine(
        time: time, level: level, stage: state.rawValue, component: component, message: message))
    if log.count > 50 { log.removeFirst(log.count - 50) }
  }
}

/// How far the training of one model has come.
package struct EngineProgress: Hashable, Sendable {
  package var model: String
  /// The epoch that runs, from 1.
  package var epoch: Int
  package var epochs: Int
  /// Of the whole training, 0 to 1, as if no epoch were saved by early stopping.
  package var fraction: Double
  package var loss: Double?
  /// Positions of real events that one second trains; nothing is padded.
  package var tokensPerSecond: Double?
  /// NDCG@10 on the validation events, full ranking; nil before the first evaluation.
  package var validationNDCG: Double?
  /// The epoch after which that was.
  package var validatedEpoch: Int?
  package var secondsLeft: Double?
}
