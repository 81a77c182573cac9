#!/usr/bin/env bash
# Counts the instructions of one legacy request and its answer, and lists the functions that take most.
#
#     bench/instructions.sh [ROUNDS]     (200)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly ROUNDS=${1:-200}
command -v valgrind >/dev/null || { echo "missing; please run: sudo apt-get install -y valgrind" >&2; exit 1; }
cargo build --quiet --locked --release -p skproxy-bench --bin rules
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
valgrind --quiet --tool=callgrind --callgrind-out-file="$scratch/out" \
    --toggle-collect='rules::legacy_round*' "$target/release/rules" --legacy-rounds "$ROUNDS"
total=$(sed -n 's/^\(summary\|totals\): //p' "$scratch/out" | tail -n 1)
echo "$((total / ROUNDS)) instructions a round"
callgrind_annotate "$scratch/out" | grep '%)' | head -n 25
