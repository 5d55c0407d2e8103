#!/bin/sh
# What runs on any machine: the same recipe with a tiny random model of the same architecture, two real steps.
set -eu
cd "$(dirname "$0")/../.."
.venv/bin/rlforge train --dry-run examples/04_code_repair/recipe.yaml --runs-dir examples/04_code_repair/runs
