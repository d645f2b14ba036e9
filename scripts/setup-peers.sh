#!/usr/bin/env bash
# Installs what tests talk to beside the Python clients: librdkafka, which also brings Kafka into the
# build, kcat, and, for the test that cuts the network, socat and ip. Where librdkafka or kcat cannot be
# had, Riffle is built without Kafka and its tests are left out; the others' test says so and skips.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

has_kafka() {
  [ -n "$("$(dirname "$0")/traits.sh")" ] && command -v kcat >/dev/null 2>&1
}

has_all() {
  has_kafka || return 1
  # Networks of its own only Linux has.
  [ "$(uname -s)" != Linux ] ||
    { command -v socat >/dev/null 2>&1 && command -v ip >/dev/null 2>&1; }
}

has_all && exit 0
case "$(uname -s)" in
  Linux)
    if command -v apt-get >/dev/null 2>&1; then
      say "installing librdkafka-dev kcat socat iproute2"
      { as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
          librdkafka-dev pkg-config kcat socat iproute2 >/dev/null; } || true
    fi
    ;;
  Darwin) command -v brew >/dev/null 2>&1 && { brew install librdkafka kcat || true; } ;;
esac
has_kafka || say "librdkafka or kcat is missing: what reads from Kafka is not built or not tested."
has_all || say "socat or ip is missing: the network is not cut in a test."
