#!/usr/bin/env bash
# Latency of one recommendation over HTTP: the FastAPI + FAISS + torch service of the baselines and a
# Riffle server, side by side, with the same load program at the same rates in the same run.
#
#   Benchmarks/serving.sh RIFFLE_URL ENGINE USERS [QUERY]
#
#   RIFFLE_URL  a running Riffle server on this machine, such as http://127.0.0.1:8080
#   ENGINE      the engine's name
#   USERS       a file with one user id a line; every request asks for one of them
#   QUERY       a query with the parameter $user_id; without it SAVED_QUERY names a saved one
#
# Environment:
#   SAVED_QUERY   a saved query of the engine, default `feed` (asked without QUERY)
#   RIFFLE_PID    the Riffle server's process; it is pinned to SERVER_CPU as the baseline is
#   SERVER_CPU    core of both servers, default 0;  CLIENT_CPU  core of the load program, default 1
#   RATES         requests a second, default "200 800"
#   SECONDS_PER_RUN  default 8;  REPEATS  default 3;  CONNECTIONS  default 32
#   ITEMS         catalogue of the baseline, default 3416 (take Riffle's number of items)
#   INDEX         flat or hnsw, the baseline's index, default flat
#   BASELINES     folder of serve.py, default ../shared/baselines beside the checkout
#   PYTHON        a Python with fastapi, uvicorn, uvloop, httptools, torch and faiss, default python3
#   JSON          a file that gets one line of JSON per run
#
# Both servers are up all the time and asked in turns, so that noise of the machine meets both. The
# baseline encodes a history of 50 items that comes with the request, takes candidates from FAISS and
# ranks them again; Riffle reads the history from its state, filters, ranks and gives the items'
# columns. Traffic goes to 127.0.0.1 only.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ $# -lt 3 ] || [ $# -gt 4 ]; then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
riffle=${1%/} engine=$2 users=$3 query=${4-}
server_cpu=${SERVER_CPU:-0} client_cpu=${CLIENT_CPU:-1}
baselines=${BASELINES:-$here/../../shared/baselines}
python=${PYTHON:-python3}
port=${BASELINE_PORT:-8123}
work=$(mktemp -d)
baseline_pid=
cleanup() {
  if [ -n "$baseline_pid" ]; then kill "$baseline_pid" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

fail() { echo "serving.sh: $*" >&2; exit 2; }
case $riffle in
  http://127.0.0.1:*|http://localhost:*) ;;
  *) fail "RIFFLE_URL is $riffle; it must be http://127.0.0.1:PORT" ;;
esac
[ -f "$baselines/serve.py" ] || fail "no serve.py in $baselines (set BASELINES)"
[ -s "$users" ] || fail "$users holds no user ids"
pin() { if command -v taskset >/dev/null; then taskset -c "$1" "${@:2}"; else "${@:2}"; fi; }

swift build -c release --package-path "$here" --product load >&2
load=$(swift build -c release --package-path "$here" --show-bin-path)/load

# The bodies: one request a line.
"$python" - "$users" "$query" "${ITEMS:-3416}" "$work" <<'PYTHON_PROGRAM'
import json, random, sys
users, query, items, work = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
random.seed(7)
ids = [line.strip() for line in open(users) if line.strip()]
random.shuffle(ids)
with open(f"{work}/riffle.jsonl", "w") as out:
    for user in ids[:20000]:
        body = {"parameters": {"user_id": user}}
        if query:
            body["query"] = query
        out.write(json.dumps(body) + "\n")
with open(f"{work}/baseline.jsonl", "w") as out:
    for _ in range(256):
        out.write(json.dumps({"history": [random.randint(1, items) for _ in range(50)], "k": 10}) + "\n")
PYTHON_PROGRAM
if [ -n "$query" ]; then
  riffle_url=$riffle/v2/engines/$engine/query
else
  riffle_url=$riffle/v2/engines/$engine/queries/${SAVED_QUERY:-feed}
fi

(cd "$baselines" && INDEX=${INDEX:-flat} ITEMS=${ITEMS:-3416} THREADS=1 OMP_NUM_THREADS=1 \
  PYTHONDONTWRITEBYTECODE=1 exec $(command -v taskset >/dev/null && echo "taskset -c $server_cpu") \
  "$python" -m uvicorn serve:app --host 127.0.0.1 --port "$port" --log-level warning \
  --no-access-log --loop uvloop --http httptools) &
baseline_pid=$!
for _ in $(seq 150); do
  curl -sf -m 1 "http://127.0.0.1:$port/health" >/dev/null && break
  kill -0 "$baseline_pid" 2>/dev/null || fail "the baseline did not start"
  sleep 0.2
done
curl -sf -m 1 "http://127.0.0.1:$port/health" >/dev/null || fail "the baseline did not answer"

# The answers first: a fast error page is no result.
first=$(head -n 1 "$work/riffle.jsonl")
answer=$(curl -sS -m 10 -w '\n%{http_code}' -H 'Content-Type: application/json' -d "$first" "$riffle_url") \
  || fail "Riffle does not answer at $riffle_url"
if [ "${answer##*$'\n'}" != 200 ]; then fail "Riffle answers ${answer##*$'\n'}: ${answer%$'\n'*}"; fi
echo "Riffle's answer to $first:" >&2
echo "  ${answer%$'\n'*}" | cut -c 1-300 >&2
if [ -n "${RIFFLE_PID-}" ] && command -v taskset >/dev/null; then
  taskset -a -p -c "$server_cpu" "$RIFFLE_PID" >/dev/null
fi

model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1 || true)
echo "# ${model:-$(uname -m)}, servers on core $server_cpu, load on core $client_cpu," \
  "baseline index ${INDEX:-flat} with ${ITEMS:-3416} items, latency from the due time in ms"
printf '%-10s %6s %4s %9s %8s %8s %8s %8s %8s\n' server rate run achieved p50 p90 p99 max errors
status=0
for rate in ${RATES:-200 800}; do
  for run in $(seq "${REPEATS:-3}"); do
    for server in baseline riffle; do
      url=$riffle_url
      if [ $server = baseline ]; then url=http://127.0.0.1:$port/recommend; fi
      pin "$client_cpu" "$load" --url "$url" --bodies "$work/$server.jsonl" --rate "$rate" \
        --connections "${CONNECTIONS:-32}" --warm-up 2 --seconds "${SECONDS_PER_RUN:-8}" \
        --seed "$run" --json > "$work/run.json" || status=1
      if [ -n "${JSON-}" ]; then
        sed "s/^{/{\"server\":\"$server\",\"run\":$run,/" "$work/run.json" >> "$JSON"
      fi
      "$python" - "$work/run.json" "$server" "$run" <<'PYTHON_PROGRAM'
import json, sys
r = json.load(open(sys.argv[1]))
f = lambda k: "-" if r[k] is None else f"{r[k]:.2f}"
print(f"{sys.argv[2]:<10} {r['rate']:>6.0f} {sys.argv[3]:>4} {r['achieved_rate']:>9.1f} {f('p50_ms'):>8} {f('p90_ms'):>8} "
      f"{f('p99_ms'):>8} {f('max_ms'):>8} {r['non_2xx'] + r['failed']:>8}")
PYTHON_PROGRAM
    done
  done
done
if [ $status -ne 0 ]; then echo "serving.sh: some requests were not answered with 2xx" >&2; fi
exit $status
