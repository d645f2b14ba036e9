#!/usr/bin/env bash
# Training throughput of SASRec on ML-1M, one core: the PyTorch program of the baselines, its malloc
# tuned, and Riffle's, at equal settings in the same run. Prints non-padding tokens a second and the
# ratio.
#
#   Benchmarks/training.sh
#
# Environment:
#   CPU        the core, default 0;  STEPS  timed steps of one run, default 20;  REPEATS  default 3
#   PRECISION  float32 (default) or bfloat16 (the baseline runs under autocast)
#   D  width, default 64;  L  window, default 200;  HEADS  default 2
#   DATA       default ../shared/data/ml-1m beside the checkout
#   BASELINES  default ../shared/baselines
#   PYTHON     a Python with torch and numpy, default python3
#   TRAIN_BENCH  Riffle's program, default the product `train-bench` of the checkout, built first
#
# Equal settings: 2 blocks, feed-forward 4d with GELU, dropout 0.2, 128 users a step, full softmax over
# the catalogue, Adam, one thread. A token is a position
# with a target; padding does not count. The runs of both take turns. The baseline keeps its own
# padded batches, because that is how it is used; Riffle packs.
#
# What is asked of TRAIN_BENCH: the options that are given to it below, and as the last line of its
# output one JSON object with `tokens_per_s`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
precision=${PRECISION:-float32} d=${D:-64} length=${L:-200} heads=${HEADS:-2}
cpu=${CPU:-0} steps=${STEPS:-20} repeats=${REPEATS:-3}
data=${DATA:-$root/../shared/data/ml-1m}
baselines=${BASELINES:-$root/../shared/baselines}
python=${PYTHON:-python3}

fail() { echo "training.sh: $*" >&2; exit 2; }
[ $# -eq 0 ] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" >&2; exit 2; }
[ -f "$baselines/sasrec.py" ] || fail "no sasrec.py in $baselines (set BASELINES)"
interactions=$data/interactions.tsv.gz
[ -f "$interactions" ] || interactions=$data/interactions.tsv
[ -f "$interactions" ] || fail "no interactions.tsv or .tsv.gz in $data (set DATA)"
if [ -n "${TRAIN_BENCH-}" ]; then
  read -r -a riffle <<< "$TRAIN_BENCH"
else
  # A target of the main package, not of Benchmarks: `package` access ends at the package.
  swift build -c release --package-path "$root" --product train-bench >&2
  riffle=("$(swift build -c release --package-path "$root" --show-bin-path)/train-bench")
fi
pin() { if command -v taskset >/dev/null; then taskset -c "$cpu" "$@"; else "$@"; fi; }
tokens() { tail -n 1 | "$python" -c 'import json,sys; print(round(json.loads(sys.stdin.readline())["tokens_per_s"]))'; }

# Without these glibc gives large tensors back to the kernel after every step, which costs the baseline
# 20 to 45 % of its time; anyone who reads PyTorch's tuning guide sets them or uses jemalloc.
torch() {
  OMP_NUM_THREADS=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 \
    MALLOC_TOP_PAD_=268435456 GLIBC_TUNABLES=glibc.malloc.hugetlb=1 PYTHONDONTWRITEBYTECODE=1 \
    pin "$python" "$baselines/sasrec.py" --data "$interactions" --d "$d" --heads "$heads" --blocks 2 \
    --mult 4 --act gelu --dropout 0.2 --maxlen "$length" --batch 128 --threads 1 \
    --bench "$steps" $([ "$precision" = bfloat16 ] && echo --bf16) "$@"
}
ours() {
  pin "${riffle[@]}" speed --data "$interactions" --d "$d" --heads "$heads" --blocks 2 --mult 4 \
    --act gelu --dropout 0.2 --maxlen "$length" --batch 128 --threads 1 --steps "$steps" \
    --precision "$precision" --pass 500 "$@"
}

model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1 || true)
echo "# ${model:-$(uname -m)}, core $cpu, $precision, d $d, windows of $length, $heads heads," \
  "$steps steps a run, non-padding tokens/s"
printf '%4s %12s %12s %8s\n' run PyTorch Riffle ratio
ratios=()
for run in $(seq "$repeats"); do
  theirs=$(torch --seed "$run" | tokens) || fail "the baseline failed"
  mine=$(ours --seed "$run" | tokens) || fail "\`${riffle[*]}\` failed"
  ratio=$("$python" -c "print(f'{$mine / $theirs:.2f}')")
  ratios+=("$ratio")
  printf '%4s %12s %12s %8s\n' "$run" "$theirs" "$mine" "$ratio"
done
printf '%s\n' "${ratios[@]}" | sort -n \
  | awk '{a[NR] = $1} END {printf "median ratio %s (%s to %s)\n", a[int((NR + 1) / 2)], a[1], a[NR]}'
