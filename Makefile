# The two commands of the README, and those that engineers use. Everything is built with one
# profile and for the whole workspace: another profile, or `-p CRATE` (which changes how cargo
# unifies features), would compile RocksDB again, 21 CPU-minutes.

# Outside the checkout, so that a fresh clone finds what an earlier one compiled.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/earmark/target

.PHONY: demo test lint setup

demo: setup
	cargo build --release --workspace --locked
	scripts/demo "$(CARGO_TARGET_DIR)/release/earmark"

# Lints before tests, so that the output ends in the test runner's summary.
test: setup lint
	cargo test --release --workspace --locked

lint: setup
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --locked

setup:
	scripts/setup
