#!/usr/bin/env bash
# Installs what Riffle's build needs and the machine lacks. Asks for nothing; changes nothing where
# nothing is missing. A Swift toolchain is not installed but named, with the command that does it.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

linux() {
  local wanted=() missing=() package
  # GRDB uses the system's SQLite.
  [ -e /usr/include/sqlite3.h ] || wanted+=(libsqlite3-dev)
  # gzip bodies are unpacked by the system's zlib.
  [ -e /usr/include/zlib.h ] || wanted+=(zlib1g-dev)
  # What the Swift compiler and its linker call.
  command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 || wanted+=(build-essential)
  command -v git >/dev/null 2>&1 || wanted+=(git)
  command -v curl >/dev/null 2>&1 || wanted+=(curl)
  for package in "${wanted[@]}"; do missing+=("$package"); done
  [ "${#missing[@]}" -eq 0 ] && return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    say "missing: ${missing[*]} (these are Debian's names); this system has no apt-get, so"
    say "install them with its own package manager and run the command again."
    exit 1
  fi
  say "installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
}

macos() {
  # The SDK of Xcode's command line tools holds SQLite; nothing else is needed.
  if ! xcode-select -p >/dev/null 2>&1; then
    if command -v brew >/dev/null 2>&1; then
      say "installing sqlite"
      brew install sqlite
    else
      say "Xcode's command line tools are missing. Install them with: xcode-select --install"
      exit 1
    fi
  fi
}

case "$(uname -s)" in
  Linux) linux ;;
  Darwin) macos ;;
  *) say "this system ($(uname -s)) is not supported: Riffle builds on Linux and macOS."; exit 1 ;;
esac

if ! command -v swift >/dev/null 2>&1; then
  say "no Swift toolchain was found (Riffle needs Swift 6.2 or later). Install it with:"
  if [ "$(uname -s)" = Darwin ]; then
    say "  brew install swiftly && swiftly init --assume-yes"
  else
    say "  curl -fsSL https://download.swift.org/swiftly/linux/swiftly-\$(uname -m).tar.gz | tar -xz && ./swiftly init --assume-yes"
  fi
  exit 1
fi

version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
major=${version%%.*}
minor=${version#*.}
if [ -n "$version" ] && { [ "$major" -lt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -lt 2 ]; }; }; then
  say "Swift $version is too old; Riffle needs 6.2 or later. Install one with: swiftly install latest"
  exit 1
fi
