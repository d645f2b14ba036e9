#!/usr/bin/env python3
"""How many events become durable a second, how soon are they seen, and how long does a restart take?

    Benchmarks/ingest.py bulk       rows in bulk bodies over HTTP, with the server's memory on the way
    Benchmarks/ingest.py single     one event a request (needs the load program: swift build ... --product load)
    Benchmarks/ingest.py csv        import of a CSV file by `riffle table-insert`
    Benchmarks/ingest.py restart    events and items, a clean stop, a start; then the same after kill -9
    Benchmarks/ingest.py freshness  from sending an insert to the answer that holds it, under load

Every program starts a server of its own (--riffle, default .build/release/riffle) on a directory that it
removes at the end (--keep leaves it), checks the number of rows that are there, and prints one line of JSON
for each figure. The client runs on the same machine. Needs nothing beside Python 3.9.
"""
import argparse, http.client, json, os, random, shutil, signal, socket, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
EPOCH = 1_700_000_000_000


class Server:
    def __init__(self, args, directory):
        self.args, self.directory = args, directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = None

    def start(self):
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [self.args.riffle, "serve", "--data-dir", self.directory, "--port", str(self.port), "--log-level", "error"])
        while True:
            try:
                self.call("GET", "/readyz")
                return time.monotonic() - begun
            except OSError:
                if self.process.poll() is not None:
                    sys.exit("ingest.py: the server did not start")
                time.sleep(0.005)

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def call(self, method, path, body=None, headers=None):
        connection = self.connection()
        connection.request(method, path, json.dumps(body) if isinstance(body, (dict, list)) else body, headers or {})
        reply = connection.getresponse()
        data = reply.read()
        if reply.status >= 300:
            sys.exit(f"ingest.py: {method} {path}: {reply.status} {data[:500]}")
        return json.loads(data) if data[:1] == b"{" else data

    def stop(self, kill=False):
        if self.process:
            begun = time.monotonic()
            self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            self.process.wait()
            self.process = None
            return time.monotonic() - begun

    def memory(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) // 1024

    def make_tables(self, unique=False, items=False):
        columns = {"user_id": "String", "item_id": "String", "event_value": "String", "label": "Int32", "created_at": "DateTime"}
        if unique:
            columns = {"event_id": "String", **columns}
        self.call("POST", "/v2/tables", {"name": "events", "column_schema": columns, "unique_keys": ["event_id"] if unique else []})
        if items:
            self.call("POST", "/v2/tables", {"name": "items", "unique_keys": ["item_id"], "column_schema": {
                "item_id": "String", "title": "String", "topic": "String", "price": "Double", "published_at": "DateTime"}})


def event(i, users, items, unique):
    # A cheap mixture that spreads over users and items: no random generator for each event.
    mixed = (i * 2654435761) & 0xFFFFFFFF
    key = f'"event_id":"e{i}",' if unique else ""
    return (f'{{{key}"user_id":"u{mixed % users}","item_id":"i{(mixed >> 7) % items}","event_value":"{"like" if mixed & 7 == 0 else "view"}",'
            f'"label":{mixed & 1},"created_at":{EPOCH + i}}}')


def body(start, count, args, lines):
    rows = [event(i, args.users, args.items, args.unique) for i in range(start, start + count)]
    return "\n".join(rows).encode() + b"\n" if lines else ('{"data":[' + ",".join(rows) + "]}").encode()


def report(**figures):
    print(json.dumps(figures), flush=True)


def rows_there(server, table="events"):
    return server.call("GET", f"/v2/tables/{table}")["row_count"]


def bulk(args, server):
    """Bodies are made beforehand, so that the client costs little while it is measured. Without unique keys the
    same bodies are sent again and again; with them every row is new and bodies are made on the way."""
    server.start()
    server.make_tables(unique=args.unique)
    if args.engine:
        server.call("POST", "/v2/engines", "name: feed\ndata: {interaction_table: events}", {"content-type": "application/yaml"})
    made = min(args.rows, args.rows if args.unique else args.batch * 16)
    bodies = [body(s, args.batch, args, args.lines) for s in range(0, made, args.batch)]
    kind = {"content-type": "application/x-ndjson" if args.lines else "application/json"}
    total = args.rows // args.batch
    turn, lock, done, memory = iter(range(total)), threading.Lock(), [0], []

    def send():
        connection = server.connection()
        while True:
            with lock:
                n = next(turn, None)
            if n is None:
                return
            while True:
                connection.request("POST", "/v2/tables/events/insert", bodies[n % len(bodies)], kind)
                reply = connection.getresponse()
                answer = reply.read()
                if reply.status == 200:
                    break
                if reply.status not in (429, 503):
                    sys.exit(f"ingest.py: {reply.status} {answer[:300]}")
                time.sleep(0.05)
            with lock:
                done[0] += args.batch
                if done[0] * 10 // args.rows > len(memory) - 1:
                    memory.append(server.memory())

    memory.append(server.memory())
    begun = time.monotonic()
    threads = [threading.Thread(target=send) for _ in range(args.connections)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    seconds = time.monotonic() - begun
    there = rows_there(server)
    assert there == total * args.batch, (there, total * args.batch)
    report(figure="bulk", rows=there, seconds=round(seconds, 2), rows_per_second=round(there / seconds), batch=args.batch,
           connections=args.connections, unique=args.unique, lines=args.lines, engine=args.engine, megabytes=memory)


def single(args, server):
    server.start()
    server.make_tables(unique=False)
    load = os.path.join(HERE, ".build", "release", "load")
    if not os.path.exists(load):
        sys.exit("ingest.py: build the load program first: swift build -c release --package-path Benchmarks --product load")
    path = os.path.join(server.directory + "-bodies.jsonl")
    with open(path, "wb") as out:
        for i in range(5000):
            out.write(body(i, 1, args, False) + b"\n")
    for rate in args.rates:
        before = rows_there(server)
        result = subprocess.run(
            [load, "--url", f"http://127.0.0.1:{server.port}/v2/tables/events/insert", "--bodies", path, "--rate", str(rate),
             "--connections", "64", "--warm-up", "2", "--seconds", str(args.seconds), "--json"], stdout=subprocess.PIPE, text=True)
        figures = json.loads(result.stdout)
        figures["figure"], figures["rows"] = "single", rows_there(server) - before
        report(**figures)
    os.unlink(path)


def csv(args, server):
    server.start()
    server.make_tables(unique=args.unique)
    path = server.directory + ".csv"
    with open(path, "w") as out:
        names = (["event_id"] if args.unique else []) + ["user_id", "item_id", "event_value", "label", "created_at"]
        out.write(",".join(names) + "\n")
        for i in range(args.rows):
            row = json.loads(event(i, args.users, args.items, args.unique))
            out.write(",".join(str(row[name]) for name in names) + "\n")
    size = os.path.getsize(path)
    begun = time.monotonic()
    subprocess.run([args.riffle, "table-insert", "--table-name", "events", "--file", path, "--url",
                    f"http://127.0.0.1:{server.port}"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    there = rows_there(server)
    assert there == args.rows, there
    os.unlink(path)
    report(figure="csv", rows=there, file_bytes=size, seconds=round(seconds, 2), rows_per_second=round(there / seconds),
           megabytes=server.memory())


def restart(args, server):
    server.start()
    server.make_tables(unique=args.unique, items=True)
    server.call("POST", "/v2/engines", "name: feed\ndata: {interaction_table: events, item_table: items}",
                {"content-type": "application/yaml"})
    for start in range(0, args.items, 20_000):
        rows = [{"item_id": f"i{i}", "title": f"The title of item {i}", "topic": f"topic {i % 50}", "price": i % 1000 / 10,
                 "published_at": EPOCH + i} for i in range(start, min(start + 20_000, args.items))]
        server.call("POST", "/v2/tables/items/insert", {"data": rows})
    for start in range(0, args.rows, 20_000):
        server.call("POST", "/v2/tables/events/insert", body(start, min(20_000, args.rows - start), args, False))
    for kill in (False, True):
        if kill:
            # What came since the stored state has to be folded.
            server.call("POST", "/v2/tables/events/insert", body(args.rows, 20_000, args, False))
        stopped = server.stop(kill=kill)
        ready = server.start()
        engine = server.call("GET", "/v2/engines/feed")
        report(figure="restart", after="kill -9" if kill else "clean stop", events=args.rows, items=args.items,
               stop_seconds=round(stopped, 2), ready_seconds=round(ready, 2), as_of=engine["as_of"],
               megabytes=server.memory(),
               state_bytes=sum(e.stat().st_size for e in os.scandir(os.path.join(server.directory, "states"))))
        assert engine["as_of"] >= args.rows + args.items


def freshness(args, server):
    """An insert of one event, then a query that must not show the item any more: both round trips together."""
    server.start()
    server.make_tables(unique=False, items=True)
    server.call("POST", "/v2/tables/items/insert", {"data": [
        {"item_id": f"i{i}", "title": f"t{i}", "topic": "a", "price": 1, "published_at": EPOCH} for i in range(3000)]})
    server.call("POST", "/v2/engines", """
name: feed
data: {interaction_table: events, item_table: items}
queries:
  feed:
    parameters: {user_id: {default: u0}}
    query: |
      SELECT title FROM column_order(columns='_derived_popular_rank ASC', limit=200)
      WHERE prebuilt('already_seen', input_user_id=$user_id) LIMIT 20
""", {"content-type": "application/yaml"})
    stop, sent = threading.Event(), [0]
    bodies = [body(i, 1, args, False) for i in range(5000)]

    def background(worker, workers):
        connection, start, n = server.connection(), time.monotonic(), 0
        while not stop.is_set():
            due = start + n * workers / args.rate
            time.sleep(max(0, due - time.monotonic()))
            connection.request("POST", "/v2/tables/events/insert", bodies[(n * workers + worker) % 5000])
            connection.getresponse().read()
            sent[0] += 1
            n += 1

    threads = [threading.Thread(target=background, args=(w, 16)) for w in range(16)]
    [t.start() for t in threads]
    time.sleep(1)
    connection, times, wrong, count, begun = server.connection(), [], 0, sent[0], time.monotonic()
    while time.monotonic() - begun < args.seconds:
        user, item = f"p{random.randrange(500)}", None
        connection.request("POST", "/v2/engines/feed/queries/feed", json.dumps({"parameters": {"user_id": user}}))
        item = json.loads(connection.getresponse().read())["results"][0]["id"]
        row = {"user_id": user, "item_id": item, "event_value": "view", "label": 1, "created_at": EPOCH}
        at = time.monotonic()
        connection.request("POST", "/v2/tables/events/insert", json.dumps({"data": [row]}))
        connection.getresponse().read()
        connection.request("POST", "/v2/engines/feed/queries/feed", json.dumps({"parameters": {"user_id": user}}))
        answer = json.loads(connection.getresponse().read())
        times.append((time.monotonic() - at) * 1000)
        wrong += any(result["id"] == item for result in answer["results"])
    rate = (sent[0] - count) / (time.monotonic() - begun)
    stop.set()
    [t.join() for t in threads]
    times.sort()
    report(figure="freshness", probes=len(times), background_events_per_second=round(rate), not_seen=wrong,
           p50_ms=round(times[len(times) // 2], 2), p99_ms=round(times[len(times) * 99 // 100], 2), max_ms=round(times[-1], 2))
    assert wrong == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=["bulk", "single", "csv", "restart", "freshness"])
    parser.add_argument("--riffle", default=os.path.join(HERE, "..", ".build", "release", "riffle"))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, default=100_000, help="(restart: give 1000000)")
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=10_000, help="rows in a body")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--unique", action="store_true", help="a unique event_id in each row")
    parser.add_argument("--lines", action="store_true", help="JSON lines instead of one document")
    parser.add_argument("--engine", action="store_true", help="with an engine that folds the events")
    parser.add_argument("--rates", type=int, nargs="+", default=[5000], help="single: requests a second")
    parser.add_argument("--rate", type=int, default=1000, help="freshness: events a second beside the probes")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--dir", default=None, help="where the data directory is made, default the system's")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    root = tempfile.mkdtemp(prefix="riffle-ingest-", dir=args.dir)
    server = Server(args, os.path.join(root, "data"))
    try:
        globals()[args.figure](args, server)
    finally:
        server.stop()
        if args.keep:
            print(f"# data in {root}", file=sys.stderr)
        else:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
