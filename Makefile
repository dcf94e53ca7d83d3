# Every target does its own set-up; the second time it is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY ?= examples/1_quickstart.toml

.PHONY: setup shell study test check slow docs clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "==> setting up $(VENV) (a few minutes the first time, most of it PyTorch)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "isoflop needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Say which: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/installed  ## set up $(VENV), and nothing else
	@echo "Call it as ./isoflop, or open a shell that knows isoflop: make shell"

shell: $(VENV)/installed  ## open a shell in which `isoflop` is found; leave it with exit
	@echo "==> a shell with isoflop; leave it with: exit"
	@PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)" "$${SHELL:-/bin/sh}" || true

study: $(VENV)/installed  ## design, train, fit, plan, prove and report the quickstart study (STUDY=file for another)
	@echo "==> isoflop run $(STUDY)"
	@$(BIN)/isoflop run $(STUDY)
	@echo "Call isoflop as ./isoflop, or open a shell that knows it: make shell"

test: check  ## all checks, then the tests
	@echo "==> pytest"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/installed  ## style, types and who may import whom
	@echo "==> ruff, mypy, import-linter"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

slow: $(VENV)/installed  ## the tests that take minutes
	@$(BIN)/python -m pytest -q -m slow

docs: $(VENV)/installed  ## write docs/cli.md from --help
	@$(BIN)/python docs/_cli.py > docs/cli.md.new && mv docs/cli.md.new docs/cli.md

clean:  ## remove the environment and caches, not the studies
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
