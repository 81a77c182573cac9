#!/usr/bin/env bash
# Runs every check of this repository. Needs no argument, no input and no clone but this one; installs
# what it lacks when it may, and else says the exact line to run.
#
#   SKPROXY_TARGET   where the build is kept   (~/.cache/skproxy/target)
#   SKPROXY_CACHE    where the tools are kept  (~/.cache/skproxy)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CACHE=${SKPROXY_CACHE:-$HOME/.cache/skproxy}
readonly VENV=$CACHE/venv NPM=$CACHE/npm
export CARGO_TARGET_DIR=${SKPROXY_TARGET:-$HOME/.cache/skproxy/target}
# Nothing is built twice here, so the records for incremental builds are only cost.
export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
export PATH=$HOME/.cargo/bin:$PATH
readonly PIP=(grpcio grpcio-tools grpcio-status grpcio-health-checking grpcio-reflection gmalg)
readonly NODE=(@bufbuild/buf@1.75.0 @grpc/grpc-js@1.14.7 @grpc/proto-loader@0.8.1)
readonly BIN=$CARGO_TARGET_DIR/release

mkdir -p "$CACHE" "$CARGO_TARGET_DIR"
scratch=$(mktemp -d)
demo_pid=
started=$SECONDS

finish() {
    local code=$?
    stop_demo
    rm -rf "$scratch"
    if ((code == 0)); then
        printf '\nall checks passed in %d s\n' $((SECONDS - started))
    else
        printf '\nchecks FAILED after %d s: %s\n' $((SECONDS - started)) "${current:-start}" >&2
    fi
}
trap finish EXIT

# step LIMIT_S NAME COMMAND...: runs a command, within its limit, and prints how long it took.
step() {
    local limit=$1 begin=$SECONDS
    current=$2
    shift 2
    printf '\n== %s\n' "$current"
    if [[ $(type -t "$1") == function ]]; then "$@"; else timeout --kill-after=10 "$limit" "$@"; fi
    printf -- '-- %s: %d s\n' "$current" $((SECONDS - begin))
}

have() { command -v "$1" >/dev/null 2>&1; }

need() { # need LINE: stops with the line that a person has to run
    printf 'missing; please run:\n    %s\n' "$1" >&2
    exit 1
}

tools() {
    have cargo || need "curl https://sh.rustup.rs -sSf | sh"
    local packages=()
    have cc || packages+=(gcc libc6-dev)
    have cmake || packages+=(cmake)
    have openssl || packages+=(openssl)
    have sqlite3 || packages+=(sqlite3)
    have softhsm2-util || packages+=(softhsm2)
    have promtool || packages+=(prometheus)
    have npm || packages+=(npm)
    python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
    if ((${#packages[@]})); then
        local line="apt-get install -y --no-install-recommends ${packages[*]}"
        ((EUID == 0)) || need "sudo $line"
        export DEBIAN_FRONTEND=noninteractive
        timeout 300 apt-get update -qq </dev/null
        # shellcheck disable=SC2086
        timeout 600 $line -qq </dev/null >"$scratch/apt.log" 2>&1 || { tail "$scratch/apt.log"; exit 1; }
    fi
    have cargo-nextest || timeout 1200 cargo install --locked --quiet cargo-nextest
    have cargo-deny || timeout 1200 cargo install --locked --quiet cargo-deny
    if [[ ! -x $NPM/node_modules/.bin/buf || ! -d $NPM/node_modules/@grpc/proto-loader ]]; then
        timeout 300 npm install --silent --no-audit --no-fund --prefix "$NPM" "${NODE[@]}"
    fi
    if [[ ! -x $VENV/bin/python ]] || ! "$VENV/bin/python" -c 'import gmalg, grpc_status, grpc_tools' 2>/dev/null; then
        python3 -m venv "$VENV"
        timeout 300 "$VENV/bin/pip" install --quiet --disable-pip-version-check "${PIP[@]}"
    fi
}

docs() { RUSTDOCFLAGS="-D warnings" timeout 900 cargo doc --quiet --workspace --no-deps; }

scripts() { # the file modes that a checkout may lose, and bash that does not parse
    [[ -x .ci/run && -x tests/check.sh ]] || need "chmod +x .ci/run tests/check.sh"
    local script
    for script in tests/check.sh tests/fuzz/run.sh bench/instructions.sh .ci/run; do bash -n "$script"; done
}

unit_file() { # a service unit that systemd can read; its program need not be installed here
    have systemd-analyze || { echo "no systemd-analyze here, skipped"; return; }
    sed "s#^ExecStart=/usr/bin/skproxy#ExecStart=$BIN/skproxy#; s#^ExecStartPre=.*##" \
        deploy/skproxy.service >"$scratch/skproxy.service"
    timeout 60 systemd-analyze verify "$scratch/skproxy.service"
    timeout 60 systemd-analyze security --offline=true --threshold=20 "$scratch/skproxy.service" |
        tail -n 1
}

demo_once() {
    timeout 120 "$BIN/skproxy" demo --once --format json >"$scratch/once.json"
    python3 -c 'import json,sys; print(len(json.load(open(sys.argv[1]))), "keys in one JSON value")' \
        "$scratch/once.json"
}

# Starts a demo that stays, and waits until its JSON value is whole.
start_demo() {
    "$BIN/skproxy" demo --dir "$scratch/bench" --format json >"$scratch/demo.json" \
        2>"$scratch/demo.log" </dev/null &
    demo_pid=$!
    local tries=0
    until python3 -c 'import json,sys; json.load(open(sys.argv[1]))' "$scratch/demo.json" 2>/dev/null; do
        if ! kill -0 "$demo_pid" 2>/dev/null || ((++tries > 300)); then
            cat "$scratch/demo.log" >&2
            return 1
        fi
        sleep 0.2
    done
}

stop_demo() {
    [[ -n $demo_pid ]] || return 0
    kill "$demo_pid" 2>/dev/null || true
    wait "$demo_pid" 2>/dev/null || true
    demo_pid=
}

metrics() { # what Prometheus itself says of the ops port's text
    start_demo
    local ops
    ops=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["ops_address"])' \
        "$scratch/demo.json")
    python3 -c 'import sys,urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())' \
        "http://$ops/metrics" | timeout 60 promtool check metrics
    python3 -c 'import sys,urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())' \
        "http://$ops/readyz"
    stop_demo
}

fuzz() { # two of the decoders, others each day; its own build, cached beside the others
    SKPROXY_CACHE=$CACHE timeout --kill-after=10 1800 tests/fuzz/run.sh 30 pair
}

bench_smoke() { # not a measurement: that the load client works and that nothing fails under it
    start_demo
    timeout 120 "$BIN/skproxy-bench" --demo "$scratch/demo.json" --server-pid "$demo_pid" \
        --data-dir "$scratch" --connections 4 --in-flight 8 --count 2000
    stop_demo
}

step 2400 "tools" tools
step 30 "scripts" scripts
step 60 "format" cargo fmt --all --check
step 60 "proto lint" "$NPM/node_modules/.bin/buf" lint proto
step 120 "licences, bans, sources" cargo deny --log-level error check bans licenses sources
step 1500 "clippy" cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
step 2400 "tests" cargo nextest run --locked --workspace
step 900 "doc tests" cargo test --quiet --locked --workspace --doc
step 900 "docs" docs
step 1800 "release build" cargo build --quiet --locked --workspace --release
step 60 "service unit" unit_file
step 120 "demo" demo_once
step 300 "python client" "$VENV/bin/python" tests/clients/python/test_issue.py "$BIN/skproxy"
step 200 "sm2 judged by python" "$VENV/bin/python" tests/clients/python/test_sm2.py "$BIN/skproxy"
step 200 "javascript client" env NODE_PATH="$NPM/node_modules" \
    node tests/clients/node/test_issue.js "$BIN/skproxy"
step 100 "metrics" metrics
step 200 "bench smoke" bench_smoke
step 1900 "fuzz" fuzz
