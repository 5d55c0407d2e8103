#!/bin/sh
# Makes .venv and installs rlforge into it. PYTHON names the interpreter, EXTRA the device: cpu or gpu.
# Every refusal is one sentence.
set -eu
cd "$(dirname "$0")"
ASKED=${PYTHON:-python3.11}
EXTRA=${EXTRA:-cpu}
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

refuse() { echo "setup: $*" >&2; exit 1; }

PYTHON=$ASKED
if [ "$ASKED" = python3.11 ] && ! command -v python3.11 >/dev/null 2>&1; then PYTHON=python3; fi
command -v "$PYTHON" >/dev/null 2>&1 || refuse "there is no '$ASKED'; install Python 3.11 or say PYTHON=/path/to/python3.11 make setup."
"$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' ||
  refuse "$("$PYTHON" --version 2>&1) cannot run rlforge, which needs Python 3.11 to 3.13; say PYTHON=/path/to/python3.11 make setup."
case "$EXTRA" in cpu | gpu) ;; *) refuse "EXTRA=$EXTRA is not known; say EXTRA=cpu or EXTRA=gpu." ;; esac

echo "setup: making .venv with $("$PYTHON" --version 2>&1) and installing rlforge[$EXTRA,dev]"
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv || refuse "could not make .venv; on Debian, apt install python3-venv."
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv ||
  refuse "pip could not install uv; see its message above, usually a network or proxy problem."

# uv does not read pip's configuration: hand over what pip knows of indexes and wheel folders.
pip_setting() { .venv/bin/python -m pip config get "global.$1" 2>/dev/null || true; }
: "${UV_FIND_LINKS:=${PIP_FIND_LINKS:-$(pip_setting find-links)}}"
: "${UV_DEFAULT_INDEX:=${PIP_INDEX_URL:-$(pip_setting index-url)}}"
[ -n "$UV_FIND_LINKS" ] && export UV_FIND_LINKS=$(echo "$UV_FIND_LINKS" | tr ' ' ',') || unset UV_FIND_LINKS
[ -n "$UV_DEFAULT_INDEX" ] && export UV_DEFAULT_INDEX || unset UV_DEFAULT_INDEX

# Bytecode now, once: every process of a run would otherwise compile thousands of modules, or never keep them.
UV_INSTALL=".venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python"
if [ "$EXTRA" = cpu ] && [ "$(uname -s)" = Linux ]; then
  # The +cpu build, from the configured sources if they have it, else from PyTorch's public index of CPU wheels.
  $UV_INSTALL "torch==2.13.0+cpu" 2>/dev/null ||
    $UV_INSTALL "torch==2.13.0+cpu" --index "$TORCH_CPU_INDEX" --index-strategy unsafe-best-match ||
    refuse "no CPU wheel of torch 2.13.0 for this machine ($(uname -m), $("$PYTHON" --version 2>&1)) in pip's sources or at $TORCH_CPU_INDEX."
fi
$UV_INSTALL --editable ".[$EXTRA,dev]" ||
  refuse "installing rlforge[$EXTRA,dev] failed; the line above names the package that has no wheel for this machine ($(uname -sm))."
for project in environments/*/pyproject.toml; do
  folder=$(dirname "$project")
  $UV_INSTALL --editable "./$folder" ||
    refuse "installing $folder failed; the line above names the package that has no wheel for this machine ($(uname -sm))."
done
.venv/bin/python -c 'import torch, transformers' ||
  refuse "torch and transformers were installed but cannot be imported together; remove .venv and run make setup again."
echo "setup: ready"
