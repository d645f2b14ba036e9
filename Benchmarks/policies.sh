#!/usr/bin/env bash
# item2vec beside gensim's Word2Vec, als and item-knn beside the implicit package: training time and
# leave-one-out quality on the same histories, settings and threads, and the ratio of the times.
#
#   Benchmarks/policies.sh [FILE] [--core N] [--threads N] [--runs N] [--only NAMES]
#
# Environment:
#   PYTHON        a Python with numpy, scipy, gensim and implicit, default python3
#   POLICY_BENCH  Riffle's program, default the product `policy-bench` of the checkout, built first
#   DATA          default ../shared/data beside the checkout; FILE defaults to its ml-1m
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
data=${DATA:-$root/../shared/data}
file=$data/ml-1m/interactions.tsv.gz
if [ $# -gt 0 ] && [ -f "$1" ]; then file=$1; shift; fi
[ -f "$file" ] || { echo "policies.sh: no file $file (set DATA, or name one)" >&2; exit 2; }
if [ -n "${POLICY_BENCH-}" ]; then
  bench=$POLICY_BENCH
else
  swift build -c release --package-path "$root" --product policy-bench >&2
  bench=$root/.build/release/policy-bench
fi
# glibc gives large blocks back to the kernel after each use otherwise; it is tuned for both sides.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
exec "${PYTHON:-python3}" "$here/policies.py" "$bench" "$file" "$@"
