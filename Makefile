# One build configuration for everything: release, without testable imports, so that `swift build`
# and `swift test` share every object file.
SWIFT ?= swift
# Kafka is part of the build where librdkafka is installed; found out when a recipe runs.
TRAITS = $$(scripts/traits.sh)
BUILD = $(SWIFT) build -c release $(TRAITS)
# The optimised tests run against the binary that is shipped; RIFFLE_KILLS sets how often the kill
# test kills the server.
TEST = $(SWIFT) test -c release --disable-testable-imports $(TRAITS)
RIFFLE_KILLS ?= 5
DEMO_ARGUMENTS ?=

.PHONY: demo test check-demo lint format bench setup peers build

# Sets up, builds, runs the short-video demo and leaves the server in the foreground.
demo: build
	.build/release/riffle demo $(DEMO_ARGUMENTS)

# Sets up and runs every test.
test: setup peers
	RIFFLE_KILLS=$(RIFFLE_KILLS) $(TEST)

# Runs the demo without a person and checks each of its steps.
check-demo: build
	scripts/check-demo.sh

build: setup
	$(BUILD) --product riffle

lint:
	$(SWIFT) format lint --strict --recursive Sources Tests Package.swift

format:
	$(SWIFT) format --in-place --recursive Sources Tests Package.swift

bench: build
	$(MAKE) -C Benchmarks

# Installs what is missing: headers of SQLite and zlib, and what a Swift toolchain needs.
setup:
	@scripts/setup.sh

# Installs librdkafka and kcat, where they can be had.
peers:
	@scripts/setup-peers.sh
