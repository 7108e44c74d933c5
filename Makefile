# Two commands matter: `make quickstart` and `make test`. Each installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: help install install-dev quickstart test test-all lint bench docs clean

help:
	@echo "make quickstart  install, then MovieLens-100K from raw events to top-10 lists and a report"
	@echo "make test        install, then the quick tests"
	@echo "make test-all    the slow tests too"
	@echo "make lint        format, lint, types, import layers"
	@echo "make bench       the recorded benchmarks (about an hour; see benchmarks/README.md)"
	@echo "make docs        the documentation as a site in site/"
	@echo "make clean       remove builds, caches, runs and artifacts (not .venv)"

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "moerec needs Python 3.11 or newer; try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Torch first and pinned by constraints.txt, so that no other package pulls another build of it.
$(VENV)/.installed: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[encoders,bundled-encoders,track]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

quickstart: $(VENV)/.installed
	$(BIN)/moerec run recipes/quickstart.yaml

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not gpu" --timeout=1200

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/ml_100k.py
	$(BIN)/python benchmarks/speed.py

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf build dist site runs artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -type d -exec rm -rf {} +
