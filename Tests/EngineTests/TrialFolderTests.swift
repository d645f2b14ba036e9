import Domain
import Engine
import Foundation
import Testing

@Suite struct `The folder of trials` {
  @Test func `removes what was not used for longest beyond its size, figures and weights together`()
    throws
  {
    let path = FileManager.default.temporaryDirectory
      .appending(path: "riffle-trials-\(UUID().uuidString)").path()
    defer { try? FileManager.default.removeItem(atPath: path) }
    let folder = TrialFolder(path: path, bytesAtMost: 3500)
    func age(_ key: String, days: Double) throws {
      for suffix in ["json", "safetensors"] {
        try FileManager.default.setAttributes(
          [.modificationDate: Date(timeIntervalSinceNow: -days * 86_400)],
          ofItemAtPath: "\(path)/\(key).\(suffix)")
      }
    }
    for (days, key) in [(3.0, "a"), (2.0, "b"), (1.0, "c")] {
      folder.keep(weights: [UInt8](repeating: 1, count: 1000), key)
      folder.keep(["key": .string(key)], key)
      try age(key, days: days)
    }
    #expect(folder.trial("a")?["key"]?.string == "a", "and now it was used")
    folder.keep(weights: [UInt8](repeating: 2, count: 1000), "d")
    #expect(folder.weights("b") == nil && folder.trial("b") == nil)
    #expect(folder.weights("a")?.count == 1000 && folder.weights("d")?.count == 1000)
    #expect(folder.trial("c")?["key"]?.string == "c")
    folder.keep(weights: [UInt8](repeating: 3, count: 9000), "large")
    #expect(folder.weights("large")?.count == 9000, "what is being written stays")
    #expect(folder.trial("a") == nil && folder.weights("d") == nil)
  }
}
