#!/usr/bin/env bash
# Fuzzes each decoder for so many seconds, on stable Rust, seeded with the golden messages. Stops at the
# first crash and leaves it in tests/fuzz/artifacts.
#
#     tests/fuzz/run.sh [SECONDS]     (60)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly LIMIT=${1:-60}
# Coverage feedback without a sanitizer: what those find in C, safe Rust and overflow checks rule out.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# A target given by name keeps those flags away from build scripts and macros.
target=$(rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --release --target "$target"
build=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

mkdir -p artifacts
for name in grpc_message legacy_business legacy_interface; do
    mkdir -p "corpus/$name"
    [[ $name == legacy_* ]] && cp -n ../vectors/legacy/*.xml "corpus/$name/" || true
    "$build/$target/release/$name" -max_total_time="$LIMIT" -max_len=65536 -timeout=10 \
        -artifact_prefix=artifacts/ "corpus/$name"
done
