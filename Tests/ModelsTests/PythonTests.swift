import Domain
import Foundation
import Kernels
import Models
import Neural
import Testing

/// Weight files in the hands of the library that everyone else opens them with.
@Suite struct `Weight files in Python` {
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  static let python: String? = {
    let path =
      ProcessInfo.processInfo.environment["RIFFLE_CLIENT_PYTHON"]
      ?? root.appendingPathComponent(".build/clients/python/bin/python").path
    return FileManager.default.isExecutableFile(atPath: path) ? path : nil
  }()

  @Test(
    .enabled(
      if: `Weight files in Python`.python != nil,
      "Python with safetensors is not installed: run Tests/Clients/install.sh"))
  func `open with the same names, shapes and numbers`() throws {
    let python = try #require(Self.python)
    let kernels = try #require(Kernels(environment: [:]))
    var configuration = SASRecConfiguration(itemCount: 7)
    configuration.width = 4
    configuration.maximumLength = 5
    let layout = TransformerLayout(configuration.shape)
    let parameters = Buffer(count: layout.count)
    var generator = SplitMix64(seed: 3)
    layout.initialise(parameters, deviation: 0.5, using: &generator)
    let model = SASRec(configuration, parameters: parameters, kernels: kernels)
    let file = FileManager.default.temporaryDirectory.appendingPathComponent(
      "riffle-\(ProcessInfo.processInfo.processIdentifier).safetensors")
    defer { try? FileManager.default.removeItem(at: file) }
    try Data(model.safetensors(metadata: ["note": "ü"]).bytes).write(to: file)
    let program = """
      import sys
      from safetensors import safe_open
      with safe_open(sys.argv[1], framework="numpy") as f:
          print(f.metadata()["note"], f.metadata()["heads"])
          for name in sorted(f.keys()):
              t = f.get_tensor(name)
              print(name, t.dtype, list(t.shape), repr(float(t.astype("float64").sum())))
      """
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: python)
    process.arguments = ["-c", program, file.path]
    process.environment = ["PYTHONIOENCODING": "utf-8"]
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(output)")
    let lines = output.split(separator: "\n").map(String.init)
    #expect(lines.first == "ü 2")
    #expect(lines.count == 1 + layout.entries.count)
    for (line, entry) in zip(lines.dropFirst(), layout.entries.sorted { $0.name < $1.name }) {
      let words = line.split(separator: " ")
      #expect(line.hasPrefix("\(entry.name) float32 \(entry.shape) "), "\(line)")
      let sum = (0..<entry.count).reduce(0.0) {
        $0 + Double(parameters.pointer[entry.offset + $1])
      }
      #expect(abs((words.last.flatMap { Double($0) } ?? .nan) - sum) < 1e-9, "\(line)")
    }
  }
}
