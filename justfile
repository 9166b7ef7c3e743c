# Short names for what one does every day. Each line is an ordinary command: `just` is a convenience, not a need.

# Show the recipes.
default:
    @just --list

# Run the platform on ./kilter-data.
run *ARGS:
    cargo run --release -- serve {{ARGS}}

# Run the simulated pump station and open http://127.0.0.1:8080.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Test everything that needs nothing installed; what needs an outside tool says SKIPPED.
test *ARGS:
    cargo test {{ARGS}}

# Format, lints, tidy: what CI refuses.
lint:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo xtask tidy

# Throughput and latency of the ingest, beside Debian's mosquitto where it is installed.
bench *ARGS:
    cargo run --release -- bench ingest {{ARGS}}

# Fuzz one target for ten minutes (needs nightly and cargo-fuzz): just fuzz policy
fuzz TARGET SECONDS="600":
    cd fuzz && cargo +nightly fuzz run {{TARGET}} -- -max_total_time={{SECONDS}}

# What CI runs, from formatting to a smoke run of the release binary.
ci:
    .ci/run
