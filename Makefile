# Each target installs what it lacks on a Debian with a Rust toolchain; the work is done by `cargo xtask`.
.PHONY: up test bench check linker
.NOTPARALLEL:

export CARGO_TERM_PROGRESS_WHEN ?= never

# Builds the product, starts a cluster on this machine and a demo on it, and ends with the demo's URL.
up: linker
	@cargo xtask up

# Runs every test; the last line is `N passed, N failed`.
test: linker
	@cargo xtask test

# Measures the product, and beside it what can be had of others; prints a Markdown table.
bench: linker
	@cargo xtask bench

# Formatting, lints, rules of the house.
check: linker
	@cargo xtask check

# Rust needs a C linker before anything else can be built.
linker:
	@command -v cc >/dev/null || { apt-get -q update && apt-get -q -y install --no-install-recommends gcc libc6-dev; }
