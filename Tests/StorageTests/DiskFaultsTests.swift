import Domain
import Foundation
import Storage
import Testing

/// Goal: the faults that the drill asks for are those of a disk, and the store withstands them. Each test
/// is a process of its own, because the faults are those of the whole process.
@Suite struct `Faults of the disk` {
  private struct Broken: Error {}

  @Test(arguments: [DiskFaults.Kinds.fullDisk.rawValue, DiskFaults.Kinds.failingSyncs.rawValue])
  func `refuse rows while they last, and the store goes on after them`(kinds: Int64) async throws {
    await #expect(processExitsWith: .success) { [kinds] in
      let place = try TemporaryDirectory()
      let page = place.path + "/page"
      let faults = try DiskFaults(page, creates: true)
      try DiskFaults.install(page)
      let store = try place.open()
      try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
      _ = try await store.append(table: "events", rows: [event("before")])
      faults.kinds = DiskFaults.Kinds(rawValue: kinds)
      for i in 0..<5 {
        do throws(Diagnostic) {
          _ = try await store.append(table: "events", rows: [event("under \(i)")])
          exit(10)
        } catch {
          guard error.code == (kinds == 1 ? "disk_full" : "disk_error"), error.kind == .unavailable
          else { exit(11) }
        }
      }
      guard try store.rows(of: "events").count == 1 else { exit(12) }
      // What is no file of SQLite's has the faults too.
      let artifacts = ArtifactStore(store.directory)
      do throws(Diagnostic) {
        _ = try artifacts.write([1, 2, 3], suffix: "json")
        exit(13)
      } catch { guard error.code == "artifact_not_written" else { exit(14) } }
      guard artifacts.names().isEmpty else { exit(15) }
      faults.kinds = []
      let receipt = try await store.append(table: "events", rows: [event("after")])
      guard receipt.first == LogPosition(2) else { exit(16) }
      _ = try artifacts.write([1, 2, 3], suffix: "json")
      let count = kinds == 1 ? faults.count(.refusedWrites) : faults.count(.failedSyncs)
      guard count >= 6 else { exit(17) }
      store.close()
      let again = try place.open()
      guard try again.rows(of: "events").map(\.position.rawValue) == [1, 2] else { exit(18) }
      exit(0)
    }
  }

  @Test func `are asked for on a page that is one`() throws {
    let place = try TemporaryDirectory()
    try Data(count: 8192).write(to: URL(filePath: place.path + "/other"))
    for name in ["missing", "other"] {
      let problem = #expect(throws: Diagnostic.self) {
        _ = try DiskFaults("\(place.path)/\(name)", creates: false)
      }
      #expect(problem?.code == "invalid_drill_page")
    }
  }

  @Test func `do not change what a witness reads beside the store`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    _ = try await store.append(table: "events", rows: [event("a"), event("b")])
    let witness = try LogWitness(place.path)
    _ = try await store.append(table: "events", rows: [event("c")])
    var found: [Int64] = []
    try witness.rows(of: "events", columns: ["event_id"], after: LogPosition(1)) { position, _ in
      found.append(position.rawValue)
    }
    #expect(found == [2, 3])
    #expect(try witness.end() == LogPosition(3) && witness.rowCount(of: "events") == 3)
  }
}
