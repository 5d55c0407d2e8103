#!/bin/sh
# Starts the warehouse (Node.js 18 or newer), writes conversations to imitate, and trains. Arguments go to `rlforge train`.
# Ctrl-C is for the training, which finishes its step and needs the warehouse for that.
set -eu
cd "$(dirname "$0")/../.."
EXAMPLE=examples/06_warehouse_js
WAREHOUSE=environments/warehouse_js
command -v npm >/dev/null || { echo "$EXAMPLE: there is no npm; install Node.js 18 or newer." >&2; exit 1; }
[ -d $WAREHOUSE/node_modules ] || (cd $WAREHOUSE && npm ci --ignore-scripts --no-audit --no-fund)
export TOKEN=${TOKEN:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
.venv/bin/python examples/apart.py node $WAREHOUSE/server.js &
warehouse=$!
trap 'kill $warehouse 2>/dev/null; wait $warehouse || true' EXIT
trap 'exit 130' HUP INT TERM
[ -f $EXAMPLE/runs/traces.jsonl ] || .venv/bin/python $EXAMPLE/traces.py grpc://127.0.0.1:50061 $EXAMPLE/runs/traces.jsonl
.venv/bin/rlforge train $EXAMPLE/recipe.yaml "$@"
