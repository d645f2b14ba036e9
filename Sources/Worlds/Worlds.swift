/// `Worlds` makes and reads data for demonstrations, tests and benchmarks: a seeded short-video
/// world, and the rating files of MovieLens.
///
/// What goes out are table schemas and rows as JSON objects, the form that the public insert path
/// takes, so that a demonstration loads them as any client would. The simulator reads no clock and
/// no file and uses arithmetic that is the same on every machine; only the readers of real data touch
/// the file system. Nothing that serves or trains may import this target.
