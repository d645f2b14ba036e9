/// `HTTPAPI` speaks the documented REST API, version 2: requests come in as bytes, are answered by a
/// `RiffleDatabase`, and go out as bytes.
///
/// It holds no state of its own and decides nothing about data. A small client for the same API
/// stands beside the server, for the command line and for tests.
