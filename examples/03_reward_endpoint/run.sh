#!/bin/sh
# Two endpoints, a training run that asks them, and the end of both in the middle of it.
set -eu
cd "$(dirname "$0")/../.."
exec .venv/bin/python examples/03_reward_endpoint/demo.py "$@"
