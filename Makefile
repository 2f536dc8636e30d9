# make demo        .venv with the locked core dependencies, then LeNet-5 on the digits that come with scikit-learn
# make test        installs what the tests need and runs all but the slow ones        make test-all   the slow ones too
# make lint | types | imports | docs | bench
#
# PYTHON=python3.12        the interpreter to make .venv with (3.11 or later; found by itself otherwise)
# TORCH_INDEX=ADDRESS      another package index for torch alone: https://download.pytorch.org/whl/cpu has the small build without CUDA
# WORKERS=4                test processes, one thread each

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?=
TORCH_INDEX ?=
WORKERS ?= 2

# Locks what pip fetches, the isolated build of this package included (two names: pip before and since 25.3).
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-all lint types imports docs bench

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.core
	$(BIN)/layerwise train lenet5 --run runs/demo

# The fast set: one thread a worker, so that as many workers run as there are cores.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow and not kill" --durations=10

test-all: $(VENV)/.dev
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --durations=20

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/basedpyright --pythonpath $(BIN)/python --project .ci/strict-types.json

imports: $(VENV)/.dev
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.core
	$(BIN)/python -m bench

# ------------------------------------------------------------------------------------------------------------ installing

$(BIN)/python:
	@python=; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		found=$$($(or $(PYTHON),python3) --version 2>/dev/null || echo "not found"); \
		echo "Layerwise needs Python 3.11 or later; $(or $(PYTHON),python3) is $$found." >&2; \
		echo "Install a newer one and name it: make demo PYTHON=/path/to/python3.12" >&2; exit 3; \
	fi; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$$python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 3; }

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
ifneq ($(TORCH_INDEX),)
	$(BIN)/python -m pip install --no-deps --index-url $(TORCH_INDEX) torch
else
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
		echo "No NVIDIA GPU here: TORCH_INDEX=https://download.pytorch.org/whl/cpu would fetch a torch without CUDA, far smaller."; fi
endif
	$(BIN)/python -m pip install --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@
