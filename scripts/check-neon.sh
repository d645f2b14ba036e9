#!/usr/bin/env bash
# Compares the NEON kernels with the plain reference: on arm64 as it is, elsewhere under emulation.
# Elsewhere it takes clang, a cross gcc for its libraries (gcc-aarch64-linux-gnu) and qemu-user.
set -euo pipefail
cd "$(dirname "$0")/.."
kernels=Sources/CKernels
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clang=${CLANG:-clang}
target=() run=() link=("$clang")
if [ "$(uname -m)" != aarch64 ] && [ "$(uname -m)" != arm64 ]; then
  for program in qemu-aarch64 aarch64-linux-gnu-gcc; do
    command -v "$program" >/dev/null || {
      echo "check-neon: no $program: apt-get install gcc-aarch64-linux-gnu qemu-user" >&2
      exit 2
    }
  done
  target=(--target=aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include)
  run=(qemu-aarch64 -L /usr/aarch64-linux-gnu)
  link=(aarch64-linux-gnu-gcc)
fi
for source in $kernels/reference.c $kernels/portable.c $kernels/select.c Tests/NEON/check.c; do
  "$clang" "${target[@]}" -O2 -std=c11 -I $kernels/include -I $kernels -c "$source" -o "$work/$(basename "$source").o"
done
"${link[@]}" "$work"/*.o -o "$work/check" -lm
"${run[@]}" "$work/check"
