#!/bin/sh
# The stand-in for a judge, and a training run that asks it.
set -eu
cd "$(dirname "$0")/../.."
.venv/bin/python examples/05_judge/server.py 50153 &
judge=$!
trap 'kill $judge' EXIT
.venv/bin/rlforge train examples/05_judge/recipe.yaml "$@"
