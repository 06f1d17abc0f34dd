# The two commands of the README, and those that engineers use. Everything is built with one
# profile and for the whole workspace: another profile, or `-p CRATE` (which changes how cargo
# unifies features), would compile RocksDB again, 20 CPU-minutes.

# Outside the checkout, so that a fresh clone finds what an earlier one compiled.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/earmark
export CARGO_TARGET_DIR ?= $(CACHE)/target
PYTHON_DIR := $(CACHE)/python

.PHONY: demo test torture lint bench setup test-setup

demo: setup
	cargo build --release --workspace --locked
	scripts/demo "$(CARGO_TARGET_DIR)/release"

# Lints first and tests last, so that the output ends in the test runner's summary. The benches
# run once, untimed: a bench that no longer works is a failure.
test: test-setup lint
	cargo test --release --workspace --locked --benches
	EARMARK_TEST_PYTHON="$(PYTHON_DIR)/bin/python" cargo test --release --workspace --locked

# What `test` does to the index a few times, hundreds of times: kill -9, damaged files; and kills of
# the programs. Half an hour. A failure prints its EARMARK_TEST_SEED.
torture: test-setup
	EARMARK_TORTURE=1 cargo test --release --workspace --locked --no-fail-fast -- \
	  kills damage interrupted full_disk two_processes --include-ignored

lint: setup
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --locked

bench: setup
	cargo bench --workspace --locked

setup:
	scripts/setup

test-setup:
	scripts/setup "$(PYTHON_DIR)"
