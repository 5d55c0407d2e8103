#!/bin/sh
# The stand-in for a judge, and a training run that asks it. Ctrl-C is for the training, whose step still needs the judge.
set -eu
cd "$(dirname "$0")/../.."
.venv/bin/python examples/apart.py .venv/bin/python examples/05_judge/server.py 50153 &
judge=$!
trap 'kill $judge 2>/dev/null; wait $judge || true' EXIT
trap 'exit 130' HUP INT TERM
.venv/bin/rlforge train examples/05_judge/recipe.yaml "$@"
