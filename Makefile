# One-line verbs. `make demo` and `make test` each work alone on a fresh clone.
PYTHON ?= python3.11
EXTRA ?= cpu
BIN := .venv/bin
AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo test test-all check fix protos bench examples clean

setup: .venv/.ready-$(EXTRA)

.venv/.ready-$(EXTRA): pyproject.toml setup.sh $(wildcard environments/*/pyproject.toml)
	@PYTHON="$(PYTHON)" EXTRA="$(EXTRA)" sh setup.sh
	@touch $@

demo: setup
	@$(BIN)/python examples/01_arithmetic/demo.py

test: setup
	$(BIN)/pytest -m "not slow" $(AT_ONCE)

test-all: setup
	$(BIN)/pytest $(AT_ONCE)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

fix: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos:
	@PYTHON="$(PYTHON)" sh protos/generate.sh

# `resume` is left to `rlforge bench resume`: it kills and restarts a run ten times.
bench: setup
	@for name in generate learn step sync control environment score; do $(BIN)/rlforge bench $$name --json || exit 1; done

examples: setup
	@for example in examples/*/run.sh; do sh $$example || exit 1; done

clean:
	rm -rf .venv runs
