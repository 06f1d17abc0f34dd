# The two commands of the README, and those that engineers use. Everything is built with one
# profile and for the whole workspace: another profile, or `-p CRATE` (which changes how cargo
# unifies features), would compile RocksDB again, 20 CPU-minutes.

# Outside the checkout, so that a fresh clone finds what an earlier one compiled.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/earmark
export CARGO_TARGET_DIR ?= $(CACHE)/target
PYTHON_DIR := $(CACHE)/python

.PHONY: demo test torture fuzz soak siege lint bench setup test-setup

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

# A real server under adds, removals, clips, streams and nonsense at once; every answer is checked, and its memory
# watched. `make test` does it for seconds. Needs two cores of its own, or streams fall behind.
SOAK_TIME ?= 30m
soak: setup
	cargo build --release --workspace --locked
	"$(CARGO_TARGET_DIR)/release/soak" --duration $(SOAK_TIME)

# A real server with its usual limits, beset by clients at their worst; others must be served, and its memory stay
# bounded. `make test` does it on a smaller scale.
siege: setup
	cargo build --release --workspace --locked
	"$(CARGO_TARGET_DIR)/release/siege"

# Each target for FUZZ_SECONDS; what it finds new goes into fuzz/corpus, what fails into fuzz/artifacts. Our code
# has nothing unsafe in it, so no sanitizer is needed. Compiles everything for a nightly compiler first.
FUZZ_SECONDS ?= 3600
FUZZ := cargo +nightly fuzz run --fuzz-dir fuzz --features libfuzzer --sanitizer none
fuzz: setup
	cargo +nightly --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal
	cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --version 0.13.2 --locked
	for target in decode formats requests; do \
	  $(FUZZ) $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=3000 || exit 1; \
	done

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
