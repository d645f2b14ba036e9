#!/usr/bin/env bash
# Question: what does a training cost the queries that are served meanwhile?
#
#   Benchmarks/training-beside-serving.sh DATA_DIR ENGINE USERS
#
# DATA_DIR is a data directory with a trained engine (such as `riffle demo` leaves), USERS a file with
# one user id a line. The same load program asks the saved query `feed` at the same rate, at rest and
# while another engine of the same data trains in the same process; both latencies are printed.
#
# Environment: RATE (requests a second, default 500), SECONDS_PER_RUN (default 10), RIFFLE (the
# binary, default .build/release/riffle of the checkout), PORT (default 8197).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -eq 3 ] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0" >&2; exit 2; }
data=$1 engine=$2 users=$3
rate=${RATE:-500} seconds=${SECONDS_PER_RUN:-10} port=${PORT:-8197}
riffle=${RIFFLE:-$here/../.build/release/riffle}
url=http://127.0.0.1:$port
work=$(mktemp -d)
server=
cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
cp -r "$data" "$work/data"
rm -f "$work/data/LOCK"

swift build -c release --package-path "$here" --product load >&2
load=$(swift build -c release --package-path "$here" --show-bin-path)/load
sed 's/.*/{"parameters": {"user_id": "&"}}/' "$users" >"$work/bodies"

"$riffle" serve --data-dir "$work/data" --port "$port" >"$work/log" 2>&1 &
server=$!
for _ in $(seq 100); do curl -sf -m 1 "$url/readyz" >/dev/null && break; done

ask() { # what is measured
  "$load" --url "$url/v2/engines/$engine/queries/feed" --bodies "$work/bodies" --rate "$rate" \
    --seconds "$seconds" --warm-up 1 --connections 8 --json \
    | sed -E "s/^\{/{\"measured\":\"$1\",\"engine\":\"$engine\",/"
}
ask "at rest"
# A long training of the same data, in the same process.
sed -e "s/^name:.*/name: trains_beside/" -e 's/n_epochs: [0-9]*/n_epochs: 400/' \
  -e 's/early_stopping_step: [0-9]*/early_stopping_step: 400/' "$work/data/$engine.yaml" >"$work/beside.yaml"
curl -sf -X POST --data-binary "@$work/beside.yaml" -H 'content-type: application/yaml' "$url/v2/engines" >/dev/null
until curl -sf "$url/v2/engines/trains_beside" | grep -q '"status":"TRAINING"'; do :; done
ask "while training"
curl -sf "$url/v2/engines/trains_beside" | grep -o '"status":"[A-Z]*"' | head -n 1
