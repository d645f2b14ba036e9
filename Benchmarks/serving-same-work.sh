#!/usr/bin/env bash
# The same work beside the FastAPI + FAISS + torch service of the baselines, as fast as each server can: a history of 50
# items comes with the request, is encoded, the nearest 100 of 3,416 items without those of the history are scored
# again, and ten come back with their scores.
#
#   Benchmarks/serving-same-work.sh
#
# Both servers are pinned to one core and asked in turns by wrk on another, with 8 kept-open connections, each of which
# sends its next request when the last one is answered (a closed loop, as the baseline's own script does). Requests a
# second per core are requests by the processor time that the server took for them, and also by the clock.
#
# Environment: ITEMS (3416), CONNECTIONS (8), SECONDS_PER_RUN (8), REPEATS (3), SERVER_CPU (0), CLIENT_CPU (1),
#   BASELINES (folder of serve.py), PYTHON (with fastapi, uvicorn, uvloop, httptools, torch, faiss), INDEX (flat),
#   WORK, RIFFLE, PORT, BASELINE_PORT. Needs wrk.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case ${1-} in -h|--help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; exit 0 ;; esac
items=${ITEMS:-3416} connections=${CONNECTIONS:-8} seconds=${SECONDS_PER_RUN:-8}
server_cpu=${SERVER_CPU:-0} client_cpu=${CLIENT_CPU:-1}
baselines=${BASELINES:-$here/../../shared/baselines}
python=${PYTHON:-python3}
port=${PORT:-8231} baseline_port=${BASELINE_PORT:-8123}
work=${WORK:-$here/../.bench/queries}/$items-50
riffle=${RIFFLE:-$here/../.build/release/riffle}
url=http://127.0.0.1:$port
pids=()
cleanup() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done; }
trap cleanup EXIT
fail() { echo "serving-same-work.sh: $*" >&2; exit 2; }
command -v wrk >/dev/null || fail "wrk is not installed (Debian and Ubuntu: apt-get install wrk)"
command -v taskset >/dev/null || fail "taskset is needed: two servers on one core and the load on another"
[ -f "$baselines/serve.py" ] || fail "no serve.py in $baselines (set BASELINES)"
[ -x "$riffle" ] || fail "no $riffle: swift build -c release --product riffle"

(cd "$baselines" && INDEX=${INDEX:-flat} ITEMS=$items THREADS=1 OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 \
  exec taskset -c "$server_cpu" "$python" -m uvicorn serve:app --host 127.0.0.1 --port "$baseline_port" \
  --log-level warning --no-access-log --loop uvloop --http httptools) &
baseline=$!; pids+=("$baseline")
mkdir -p "$work"
fresh=; [ -f "$work/ready" ] || { fresh=1; rm -rf "$work"; mkdir -p "$work"; "$python" "$here/synthetic.py" "$items" "$work" 50; }
taskset -c "$server_cpu" "$riffle" serve --data-dir "$work/data" --port "$port" >"$work/server.log" 2>&1 &
server=$!; pids+=("$server")
up() { for _ in $(seq 300); do curl -sf -m 1 "$1" >/dev/null && return; kill -0 "$2" 2>/dev/null || break; sleep 0.2; done; fail "$1 did not come up"; }
up "$url/readyz" "$server"
up "http://127.0.0.1:$baseline_port/health" "$baseline"
if [ -n "$fresh" ]; then
  curl -sf "$url/v2/tables" -d '{"name":"items","unique_keys":["item_id"],"column_schema":{"item_id":"String",
    "title":"String","topic":"LowCardinality(String)","creator_id":"String","language":"LowCardinality(String)",
    "duration_s":"Int32"}}' >/dev/null
  curl -sf "$url/v2/tables" -d '{"name":"events","column_schema":{"user_id":"String","item_id":"String",
    "created_at":"DateTime"}}' >/dev/null
  for table in items events; do
    "$riffle" table-insert --url "$url" --table-name "$table" --file "$work/$table.csv" >&2
  done
  "$riffle" create-engine --url "$url" --file "$work/engine.yaml" --watch >&2
  touch "$work/ready"
fi
"$python" - "$items" "$work/baseline.jsonl" <<'PYTHON_PROGRAM'
import json, random, sys
random.seed(7)
with open(sys.argv[2], "w") as out:
    for _ in range(4000):
        out.write(json.dumps({"history": [random.randint(1, int(sys.argv[1])) for _ in range(50)], "k": 10}) + "\n")
PYTHON_PROGRAM

# The answers first: a fast error page is no result.
count() { curl -sS -m 10 -H 'content-type: application/json' -d "$(head -n 1 "$2")" "$1" | "$python" -c "import json,sys; r=json.load(sys.stdin); print(len(r.get('results') or r.get('items')))"; }
baseline_url=http://127.0.0.1:$baseline_port/recommend riffle_url=$url/v2/engines/bench/queries/small
[ "$(count "$baseline_url" "$work/baseline.jsonl")" = 10 ] || fail "the baseline does not give ten items"
[ "$(count "$riffle_url" "$work/small.jsonl")" = 10 ] || fail "Riffle does not give ten items"

ticks=$(getconf CLK_TCK)
cpu() { awk '{print $14+$15}' "/proc/$1/stat"; }
model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
echo "# ${model:-$(uname -m)}, servers on core $server_cpu, wrk on core $client_cpu, $connections connections, $items items, baseline index ${INDEX:-flat}"
printf '%-10s %4s %10s %10s %12s %14s %8s\n' server run p50_ms p99_ms requests/s per_core/s errors
results=$work/results.txt; : > "$results"
for run in 0 $(seq "${REPEATS:-3}"); do
  for name in baseline riffle; do
    pid=$baseline target=$baseline_url bodies=$work/baseline.jsonl
    if [ $name = riffle ]; then pid=$server target=$riffle_url bodies=$work/small.jsonl; fi
    before=$(cpu "$pid")
    BODIES=$bodies taskset -c "$client_cpu" wrk -t1 -c"$connections" -d"$([ "$run" = 0 ] && echo 3 || echo "$seconds")s" --latency \
      -s "$here/bodies.lua" "$target" > "$work/wrk.txt" 2>&1
    after=$(cpu "$pid")
    [ "$run" = 0 ] && continue
    "$python" - "$work/wrk.txt" "$name" "$run" "$((after - before))" "$ticks" "$results" <<'PYTHON_PROGRAM'
import re, sys
text = open(sys.argv[1]).read()
def time(label):
    value, unit = re.search(rf"\s{label}\s+([\d.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]
requests = int(re.search(r"(\d+) requests in", text).group(1))
rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
core = requests / (int(sys.argv[4]) / int(sys.argv[5]))
print(f"{sys.argv[2]:<10} {sys.argv[3]:>4} {time('50%'):>10.2f} {time('99%'):>10.2f} {rate:>12.0f} {core:>14.0f} {errors.group(1) if errors else 0:>8}", flush=True)
open(sys.argv[6], "a").write(f"{sys.argv[2]} {time('99%')} {rate} {core}\n")
PYTHON_PROGRAM
  done
done
"$python" - "$results" <<'PYTHON_PROGRAM'
import statistics, sys
rows = [line.split() for line in open(sys.argv[1])]
def median(server, column):
    return statistics.median(float(r[column]) for r in rows if r[0] == server)
print(f"# medians: requests/s {median('riffle', 2) / median('baseline', 2):.2f}x, per core of processor time "
      f"{median('riffle', 3) / median('baseline', 3):.2f}x, p99 1/{median('baseline', 1) / median('riffle', 1):.2f}")
PYTHON_PROGRAM
