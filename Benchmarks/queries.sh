#!/usr/bin/env bash
# How long does a whole query take over HTTP, at a fixed rate, with 10,000 and with 1,000,000 items; and how long do
# parsing and planning take?
#
#   Benchmarks/queries.sh [ITEMS ...]        default 10000 1000000
#
# The query: encode 200 events (d = 64, two blocks), retrieve 300 by exact search, under a personal filter and two
# conditions, score by an expression with the model, diversify by an attribute, and give 20 rows with five columns.
# Two forms: `given` sends the 200 items with the request, so that every request encodes them; `stored` sends the user
# alone, whose vector is kept as long as the history stands.
#
# Environment:
#   WORK          folder for data and server, kept between runs; default .bench/queries beside the sources
#   RIFFLE        the binary, default .build/release/riffle
#   RATE          requests a second; default 1000 up to 100,000 items, 200 beyond
#   SECONDS_PER_RUN  default 10;  REPEATS  default 3;  CONNECTIONS  default 16
#   SERVER_CPUS, CLIENT_CPU   cores, such as 0 and 1; default: not pinned
#   PORT          default 8231;  PYTHON  default python3
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case ${1-} in -h|--help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; exit 0 ;; esac
work=${WORK:-$here/../.bench/queries}
riffle=${RIFFLE:-$here/../.build/release/riffle}
python=${PYTHON:-python3}
port=${PORT:-8231}
url=http://127.0.0.1:$port
server=
cleanup() { if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi; }
trap cleanup EXIT
fail() { echo "queries.sh: $*" >&2; exit 2; }
pin() { if [ -n "$1" ] && command -v taskset >/dev/null; then taskset -c "$1" "${@:2}"; else "${@:2}"; fi; }
[ -x "$riffle" ] || fail "no $riffle: swift build -c release --product riffle"
swift build -c release --package-path "$here" --product load >&2
load=$(swift build -c release --package-path "$here" --show-bin-path)/load

start() {
  # In a shell of its own, so that the process is the server and not a function's shell.
  local prefix=()
  if [ -n "${SERVER_CPUS-}" ] && command -v taskset >/dev/null; then prefix=(taskset -c "$SERVER_CPUS"); fi
  "${prefix[@]}" "$riffle" serve --data-dir "$1/data" --port "$port" >"$1/server.log" 2>&1 &
  server=$!
  for _ in $(seq 600); do
    curl -sf -m 1 "$url/readyz" >/dev/null && return
    kill -0 "$server" 2>/dev/null || fail "the server ended: $(tail -n 3 "$1/server.log")"
    sleep 0.5
  done
  fail "the server did not come up"
}

prepare() {
  local items=$1 folder=$2
  if [ -f "$folder/ready" ]; then start "$folder"; return; fi
  rm -rf "$folder"; mkdir -p "$folder"
  echo "making $items items in $folder" >&2
  "$python" "$here/synthetic.py" "$items" "$folder"
  start "$folder"
  curl -sf "$url/v2/tables" -d '{"name":"items","unique_keys":["item_id"],"column_schema":{"item_id":"String",
    "title":"String","topic":"LowCardinality(String)","creator_id":"String","language":"LowCardinality(String)",
    "duration_s":"Int32"}}' >/dev/null
  curl -sf "$url/v2/tables" -d '{"name":"events","column_schema":{"user_id":"String","item_id":"String",
    "created_at":"DateTime"}}' >/dev/null
  "$riffle" table-insert --url "$url" --table-name items --file "$folder/items.csv" >&2
  "$riffle" table-insert --url "$url" --table-name events --file "$folder/events.csv" >&2
  "$riffle" create-engine --url "$url" --file "$folder/engine.yaml" --watch >&2
  touch "$folder/ready"
}

model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1 || true)
echo "# ${model:-$(uname -m)}, $(nproc 2>/dev/null || echo '?') cores, server on ${SERVER_CPUS:-any}, load on ${CLIENT_CPU:-any}; latency from the due time in ms"
printf '%9s %-8s %6s %4s %9s %8s %8s %8s %8s %7s\n' items form rate run achieved p50 p90 p99 max errors
status=0
for items in "${@:-10000 1000000}"; do for items in $items; do
  folder=$work/$items
  prepare "$items" "$folder"
  rate=${RATE:-$([ "$items" -le 100000 ] && echo 1000 || echo 200)}
  answer=$(curl -sS -m 20 -d "$(head -n 1 "$folder/given.jsonl")" "$url/v2/engines/bench/queries/given")
  "$python" -c 'import json,sys; r=json.loads(sys.argv[1]); assert len(r["results"])==20, r' "$answer" \
    || fail "the query does not give 20 rows: ${answer:0:300}"
  for run in $(seq "${REPEATS:-3}"); do
    for form in given stored; do
      pin "${CLIENT_CPU-}" "$load" --url "$url/v2/engines/bench/queries/$form" --bodies "$folder/$form.jsonl" \
        --rate "$rate" --connections "${CONNECTIONS:-16}" --warm-up 2 --seconds "${SECONDS_PER_RUN:-10}" \
        --seed "$run" --json > "$folder/run.json" || status=1
      "$python" - "$folder/run.json" "$items" "$form" "$run" <<'PYTHON_PROGRAM'
import json, sys
r = json.load(open(sys.argv[1]))
f = lambda k: "-" if r[k] is None else f"{r[k]:.2f}"
print(f"{sys.argv[2]:>9} {sys.argv[3]:<8} {r['rate']:>6.0f} {sys.argv[4]:>4} {r['achieved_rate']:>9.1f} {f('p50_ms'):>8} "
      f"{f('p90_ms'):>8} {f('p99_ms'):>8} {f('max_ms'):>8} {r['non_2xx'] + r['failed']:>7}", flush=True)
PYTHON_PROGRAM
    done
  done
  # Parsing and planning: EXPLAIN runs nothing else. Each text is another one, so none was parsed before; the same
  # text again has its tree kept.
  "$python" - "$url/v2/engines/bench/query" "$folder/engine.yaml" "$items" <<'PYTHON_PROGRAM'
import http.client, json, re, sys
from urllib.parse import urlparse
url = urlparse(sys.argv[1])
text = re.search(r"  stored:.*?query: \|\n(.*?)\n  given:", open(sys.argv[2]).read(), re.S).group(1)
connection = http.client.HTTPConnection(url.hostname, url.port)
def ask(query, user):
    connection.request("POST", url.path, json.dumps({"query": query, "parameters": {"user_id": user}}))
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    return 1000 * float(answer.headers["server-timing"].split("dur=")[1])
for kind in ("new text", "known text"):
    # The limit alone differs: every text is another query, of the same length.
    times = sorted(ask("EXPLAIN " + text.replace("LIMIT 20", f"LIMIT {100 + i % 800}" if kind == "new text" else "LIMIT 20"),
                       f"u{i}") for i in range(800))
    print(f"# {sys.argv[3]} items: parse and plan of a {kind}: p50 {times[400]:.0f} us, p99 {times[792]:.0f} us")
PYTHON_PROGRAM
  cleanup; server=
done; done
exit $status
