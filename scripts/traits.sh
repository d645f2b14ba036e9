#!/usr/bin/env bash
# Prints the package traits whose libraries this machine has, as arguments of `swift build` and
# `swift test`. Kafka needs librdkafka with its headers.
set -euo pipefail

if pkg-config --exists rdkafka 2>/dev/null || [ -e /usr/include/librdkafka/rdkafka.h ]; then
  echo "--traits Kafka"
fi
