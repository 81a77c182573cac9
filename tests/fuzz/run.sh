#!/usr/bin/env bash
# Fuzzes decoders for so many seconds each, on stable Rust, seeded with tests/vectors. Stops at the first
# crash and says where its input is. Build and corpus stay in the cache, so that a run goes on from the last.
#
#     tests/fuzz/run.sh [SECONDS] [pair | NAME...]     (60, all; pair: two of them, others each day)
#
#   SKPROXY_CACHE    where build and corpus are kept   (~/.cache/skproxy)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly ALL=(grpc_message legacy_business legacy_interface)
readonly CACHE=${SKPROXY_CACHE:-$HOME/.cache/skproxy}/fuzz
readonly LIMIT=${1:-60}
names=("${@:2}")
if ((${#names[@]} == 0)); then
    names=("${ALL[@]}")
elif [[ ${names[0]} == pair ]]; then
    day=$((10#$(date -u +%j)))
    names=("${ALL[day % ${#ALL[@]}]}" "${ALL[(day + 1) % ${#ALL[@]}]}")
fi

export CARGO_TARGET_DIR=$CACHE/target
# Coverage feedback without a sanitizer: what those find in C, safe Rust and overflow checks rule out.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# A target given by name keeps those flags away from build scripts and macros.
target=$(rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --release --target "$target"

mkdir -p "$CACHE/crashes"
for name in "${names[@]}"; do
    mkdir -p "$CACHE/corpus/$name"
    seeds=("../vectors/fuzz/$name")
    case $name in
    grpc_*) seeds+=(../vectors/grpc) ;;
    legacy_*) seeds+=(../vectors/legacy) ;;
    esac
    printf '%s, %s s\n' "$name" "$LIMIT"
    if ! "$CARGO_TARGET_DIR/$target/release/$name" -max_total_time="$LIMIT" -max_len=65536 -timeout=10 \
        -verbosity=0 -print_final_stats=1 -artifact_prefix="$CACHE/crashes/" \
        "$CACHE/corpus/$name" "${seeds[@]}" 2>"$CACHE/$name.log"; then
        tail -n 40 "$CACHE/$name.log" >&2
        exit 1
    fi
    grep -E 'executed_units|new_units_added' "$CACHE/$name.log"
done
