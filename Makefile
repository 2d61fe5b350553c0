# Two commands on a fresh machine with Python 3.11+ (with venv), git and make:
#   make demo   sets up and runs the whole stage on the embedded starter model and data
#   make test   sets up and runs the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed
SETUP_TEST := $(VENV)/.installed-test
SETUP_DOCS := $(VENV)/.installed-docs

.PHONY: demo test test-slow soak audit lint format types check docs starter clean

demo: $(SETUP)
	$(BIN)/sftprep demo --out sftprep-demo

test: $(SETUP_TEST)
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(SETUP_TEST)
	$(BIN)/python -m pytest

# Every crash point of every stage, then two hours of train, kill, continue.
soak: $(SETUP_TEST)
	$(BIN)/python -m pytest -m slow tests/faults
	$(BIN)/python scripts/soak.py --minutes 120

# Published weaknesses of the locked packages; asks a network service about each of them.
audit: | $(BIN)/python
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip_audit --require-hashes --disable-pip -r requirements.lock

lint: $(SETUP_TEST)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(SETUP_TEST)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(SETUP_TEST)
	$(BIN)/mypy

check: lint types

# The documentation site, into site/; a warning is an error.
docs: $(SETUP_DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Rebuilds the starter model from nothing (about 40 minutes on 2 cores).
starter: $(SETUP_TEST)
	$(BIN)/python scripts/starter/pretrain.py --out src/sftprep/starter/model --seed 0

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(SETUP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(SETUP_TEST): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,lint,lora,docs]"
	@touch $(SETUP) $@

$(SETUP_DOCS): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $(SETUP) $@

clean:
	rm -rf site $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
