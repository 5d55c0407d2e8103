#!/bin/sh
# Starts the simulator as a server in a process of its own, trains against it, and stops it. Arguments go to `rlforge train`.
# Ctrl-C is for the training, which finishes its step and needs the simulator for that.
set -eu
cd "$(dirname "$0")/../.."
EXAMPLE=examples/02_robot_over_grpc
mkdir -p $EXAMPLE/runs
[ -f $EXAMPLE/runs/traces.jsonl ] || .venv/bin/python -m pick_and_place.traces $EXAMPLE/runs/traces.jsonl --count 1600 --slips 0.03
.venv/bin/python examples/apart.py .venv/bin/rlforge serve environment pick_and_place:PickAndPlace --at grpc://127.0.0.1:50051 &
SIMULATOR=$!
trap 'kill $SIMULATOR 2>/dev/null; wait $SIMULATOR || true' EXIT
trap 'exit 130' HUP INT TERM
.venv/bin/rlforge train $EXAMPLE/recipe.yaml --runs-dir $EXAMPLE/runs "$@"
