#!/bin/sh
# The whole example: what `make demo` runs.
set -eu
cd "$(dirname "$0")/../.."
.venv/bin/python examples/01_arithmetic/demo.py
