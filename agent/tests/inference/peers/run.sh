#!/usr/bin/env bash
# The inference sidecar between tritonclient and MLServer, over HTTP and gRPC. Installs both from PyPI into a virtual environment in the
# target folder (about 400 MB, which is why this is no part of `./run test`), binds to loopback only, and ends what it started.
#
#   agent/tests/inference/peers/run.sh [HTTP-PORT [GRPC-PORT]]
#
# PEERS_VENV names an environment that has them already.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
http=${1:-18080} grpc=${2:-18081}

venv=${PEERS_VENV:-$target/peers-venv}
if [ ! -x "$venv/bin/mlserver" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet "mlserver==1.7.1" "tritonclient[grpc,http]==2.73.0" pillow
fi
cargo ${CARGO_OPTIONS:-} build --locked --manifest-path "$root/Cargo.toml" -p driftglass-agent --example sidecar

work=$(mktemp -d)
cp "$here/model/"* "$work"
cat > "$work/settings.json" <<JSON
{ "host": "127.0.0.1", "http_port": $http, "grpc_port": $grpc, "metrics_port": $((http + 50)), "parallel_workers": 0, "debug": false,
  "grpc_max_message_length": 67108864 }
JSON
(cd "$work" && exec "$venv/bin/mlserver" start .) > "$work/log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
"$venv/bin/python" "$here/check.py" "$target/debug/examples/sidecar" "$http" "$grpc" || { tail -n 40 "$work/log"; exit 1; }
