#!/usr/bin/env bash
# Measures the proxy alone: acceptance simulator, proxy and load client are processes of their own.
#
#   bench/run.sh FOLDER_WITH_BINARIES [options of skproxy-bench …]
#
# Works in a temporary folder, on loopback, and stops what it started.
set -euo pipefail

bin=$1
shift
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

wait_for() { # wait_for FILE PATTERN: until the line is there, 20 s at most
    for _ in $(seq 200); do
        grep -q "$2" "$1" 2>/dev/null && return
        sleep 0.1
    done
    cat "$1" >&2
    return 1
}
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

sim=127.0.0.1:$(free_port) platform=127.0.0.1:$(free_port) ops=127.0.0.1:$(free_port)
pki=$work/pki
"$bin/skproxy" certs init --dir "$pki" >/dev/null
"$bin/skproxy" certs issue --dir "$pki" --name platform >/dev/null
(umask 077 && head -c 24 /dev/urandom | base64 >"$work/passphrase")
"$bin/skproxy" authority-sim --dir "$work/authority" --listen "$sim" --ca "$pki/ca.pem" \
    --cert "$pki/authority.pem" --key "$pki/authority.key" >"$work/sim.log" 2>&1 &
pids+=($!)
wait_for "$work/sim.log" "acceptance simulator"

mkdir "$work/data"
cat >"$work/skproxy.toml" <<CONFIG
data_dir = "$work/data"
platform_address = "$platform"
ops_address = "$ops"
[tls]
server_cert = "$pki/server.pem"
server_key = "$pki/server.key"
client_ca = "$pki/ca.pem"
[upstream]
ca = "$pki/ca.pem"
cert = "$pki/proxy-client.pem"
key = "$pki/proxy-client.key"
[key_store]
passphrase_file = "$work/passphrase"
[limits]
open_claims_max = 4096
CONFIG
"$bin/skproxy" config check --config "$work/skproxy.toml" >/dev/null 2>&1
"$bin/skproxy" serve --config "$work/skproxy.toml" >"$work/serve.log" 2>&1 &
server=$!
pids+=("$server")
wait_for "$work/serve.log" "serving"

export SKPROXY_SOCKET=$work/data/admin.sock
taxpayer=91000000TEST000001 seller=示例销售有限公司
operate() { "$bin/skproxy" "$@" >>"$work/operate.log"; }
operate route add --province '*' --address "$sim" --server-name localhost \
    --receipt-key "$work/authority/receipt-key.der"
operate platform add --id BENCH --name 压测平台 --cert "$pki/platform.pem"
operate taxpayer add --id "$taxpayer" --name "$seller" --province 44
operate binding add --platform BENCH --taxpayer "$taxpayer"
operate device add --id BENCH-1 --taxpayer "$taxpayer" --machine-number 000000000001 \
    --backend "${SKPROXY_BACKEND:-software-p256}" --kind e-normal --test
operate stock add --device BENCH-1 --kind e-normal --code 044002699911 \
    --first 00000001 --last 99999999

cat >"$work/demo.json" <<JSON
{"platform_address": "$platform", "ca": "$pki/ca.pem", "client_certificate": "$pki/platform.pem",
 "client_key": "$pki/platform.key", "taxpayer_id": "$taxpayer", "seller_name": "$seller",
 "device_id": "BENCH-1"}
JSON
"$bin/skproxy-bench" --demo "$work/demo.json" --server-pid "$server" --data-dir "$work" "$@"
kill "$server"
wait "$server"
"$bin/skproxy" verify --data "$work/data"
