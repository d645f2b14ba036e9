"""Sends events with Segment's own Python library, through a proxy that misbehaves first.

Usage: segment_peer.py ADDRESS WRITE_KEY COUNT. The proxy refuses the first request with 429 and
`Retry-After: 1`, the second with 503, and loses the first answer that says that the server has stored
the events; the library repeats each. Half of the events are sent packed with gzip. The number of
requests that reached the proxy is printed; the exit code tells whether the library gave up on any.
"""

import http.server
import sys
import threading
import urllib.error
import urllib.request

import segment.analytics as analytics
from segment.analytics.client import Client

address, key, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
lock = threading.Lock()
requests = []
lost = False


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            requests.append(self.headers.get("Content-Encoding", "plain"))
            number = len(requests)
        if number == 1:
            return self.reply(429, b"{}", {"Retry-After": "1"})
        if number == 2:
            return self.reply(503, b"{}", {})
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("host", "connection", "content-length")
        }
        request = urllib.request.Request(address + self.path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                status, text, extra = answer.status, answer.read(), {}
        except urllib.error.HTTPError as error:
            status, text, extra = error.code, error.read(), {}
            if "Retry-After" in error.headers:
                extra["Retry-After"] = error.headers["Retry-After"]
        global lost
        with lock:
            loses = status == 200 and not lost
            lost = lost or loses
        if loses:
            self.close_connection = True
            self.connection.close()
            return None
        return self.reply(status, text, extra)

    def reply(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

    def handle(self):
        try:
            super().handle()
        except (OSError, ValueError):
            pass  # The connection that was closed on purpose.


proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
threading.Thread(target=proxy.serve_forever, daemon=True).start()
host = "http://127.0.0.1:%d" % proxy.server_port

failures = []
clients = [
    Client(
        key, host=host, gzip=gzip, upload_size=50, upload_interval=0.1,
        on_error=lambda error, items: failures.append((error, len(items))),
    )
    for gzip in (False, True)
]
for number in range(count):
    client = clients[number % 2]
    client.track(
        user_id="user-%d" % (number % 10), event="Video Watched",
        properties={"video_id": "v%d" % number, "watch_ratio": number / count},
        message_id="message-%d" % number,
    )
clients[0].identify(user_id="user-1", traits={"plan": "free"}, message_id="identify-1")
for client in clients:
    client.flush()
    client.join()
proxy.shutdown()
print(len(requests), "requests,", "gzip" in requests, analytics.Client is not None)
if failures:
    print("given up:", failures)
    sys.exit(1)
if "gzip" not in requests or "plain" not in requests:
    print("not both forms were sent:", requests)
    sys.exit(1)
