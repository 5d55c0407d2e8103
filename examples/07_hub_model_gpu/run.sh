#!/bin/sh
# What runs on any machine: the same recipe with a tiny random model of the same architecture, two real steps.
set -eu
cd "$(dirname "$0")/../.."
.venv/bin/rlforge train --dry-run examples/07_hub_model_gpu/recipe.yaml --runs-dir examples/07_hub_model_gpu/runs
