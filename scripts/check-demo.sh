#!/usr/bin/env bash
# Runs the demo without a person, in a data directory of its own: makes the world, trains, serves,
# sends the three requests that the demo shows, and checks what each of them answers.
set -euo pipefail
cd "$(dirname "$0")/.."

directory=$(mktemp -d "${TMPDIR:-/tmp}/riffle-check-demo.XXXXXX")
trap 'rm -rf "$directory"' EXIT

# Port 0: any free port, so that a server that runs already is not in the way.
.build/release/riffle demo --check --port 0 --data-dir "$directory/data" "$@"
