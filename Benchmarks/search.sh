#!/usr/bin/env bash
# Search of nearest rows under filters: Riffle's exact and partitioned search beside FAISS flat, IVF and
# HNSW and hnswlib, on the same vectors and filters at equal recall, in one run on one core.
#
#   Benchmarks/search.sh
#
# Environment:
#   CPU      the core, default 1
#   CASES    ROWS:NOISE:GRAPHS, default "10000:0.6:faiss,hnswlib 100000:0.6:faiss,hnswlib
#            100000:1.6:faiss,hnswlib 1000000:0.6:faiss,hnswlib 1000000:1.6:faiss"; noise 0.6 makes clear
#            clusters, 1.6 weak ones; a graph of a million rows takes minutes to build
#   LARGE    rows of a case for Riffle alone, default 4000000; 0 for none
#   WORK     folder for vectors and filters (280 MB a million rows), default a new one, removed at the end
#   PYTHON   a Python with numpy, faiss-cpu and hnswlib, default python3
#
# All searches ask for 100 rows, one query at a time. Recall is measured against the exact answer under the
# same filter; of IVF and HNSW the quickest setting that reaches 0.98 is shown, or the best there is. A call
# from Python costs FAISS and hnswlib about 5 µs. hnswlib filters through a Python function, which
# slows it more than a filter in C++ would. Times are processor time: all are single-threaded, and other
# programs' turns on the core do not count.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
cpu=${CPU:-1}
python=${PYTHON:-python3}
cases=${CASES:-10000:0.6:faiss,hnswlib 100000:0.6:faiss,hnswlib 100000:1.6:faiss,hnswlib \
  1000000:0.6:faiss,hnswlib 1000000:1.6:faiss}
[ $# -eq 0 ] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" >&2; exit 2; }
"$python" -c 'import faiss, hnswlib, numpy' || {
  echo "search.sh: $python needs numpy, faiss-cpu and hnswlib (set PYTHON)" >&2; exit 2; }
if [ -z "${WORK-}" ]; then
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
fi
pin() { if command -v taskset >/dev/null; then nice -n 15 taskset -c "$cpu" "$@"; else "$@"; fi; }

# A target of the main package, not of Benchmarks: `package` access ends at the package.
nice swift build -c release --package-path "$root" --product search-bench >&2
bench=$(swift build -c release --package-path "$root" --show-bin-path)/search-bench

model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1 || true)
echo "# ${model:-$(uname -m)}, core $cpu, load $(cut -d ' ' -f 1-3 /proc/loadavg 2>/dev/null || true)"
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
for case in $cases; do
  IFS=: read -r rows noise graphs <<< "$case"
  pin "$python" "$here/search.py" "$bench" "$WORK" --rows "$rows" --noise "$noise" --graphs "$graphs"
done
if [ "${LARGE:-4000000}" != 0 ]; then
  for noise in 0.6 1.6; do
    folder=$WORK/${LARGE:-4000000}-$noise
    mkdir -p "$folder"
    [ -f "$folder/mask-0.001.u64" ] \
      || pin "$python" "$here/search_data.py" "$folder" "${LARGE:-4000000}" "$noise"
    printf '\n## %s x 64, noise %s, Riffle alone\n\n' "${LARGE:-4000000}" "$noise"
    pin "$bench" "$folder" --ways bytes,searcher --rounds 1 --queries 64
  done
fi
