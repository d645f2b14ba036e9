import Dispatch
import Foundation

/// Ends this process with the one that started it, for servers that serve nobody else.
enum ParentWatch {
  static func start() {
    let parent = getppid()
    Thread.detachNewThread {
      while getppid() == parent { usleep(500_000) }
      _exit(ExitStatus.failed.rawValue)
    }
  }
}
