# `make demo` and `make test` need Python 3.10 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL := tests/data/keras2.0.8-tf1.4/m1_stock.h5
DEMO := .demo

.PHONY: help demo test lint schema bench clean

help:
	@echo "make demo    export a real model, then look at what came out"
	@echo "make test    run every test"
	@echo "make lint    ruff, mypy, and the rules on imports"
	@echo "make schema  write schemas/ anew from the code"
	@echo "make bench   measure speed and memory"

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "wexport needs Python 3.10 or newer; say: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo: $(VENV)/made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/test: $(VENV)/made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@

demo: $(VENV)/demo
	@rm -rf $(DEMO) && mkdir $(DEMO)
	$(BIN)/wexport $(MODEL) $(DEMO)/stock
	@echo
	$(BIN)/wexport show $(DEMO)/stock
	@echo
	$(BIN)/wexport show $(DEMO)/stock lstm_1.forget.bias
	@echo
	$(BIN)/wexport explain $(DEMO)/stock dense_1
	@echo
	$(BIN)/wexport verify $(DEMO)/stock

test: $(VENV)/test
	$(BIN)/python -m pytest

lint: $(VENV)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

schema: $(VENV)/demo
	$(BIN)/python -m wexport.schema > schemas/manifest-1.schema.json
	$(BIN)/python -m wexport.delta.schema > schemas/diff-1.schema.json

bench: $(VENV)/test
	$(BIN)/python benchmarks/export.py
	$(BIN)/python benchmarks/restore.py
	$(BIN)/python benchmarks/diff.py

clean:
	rm -rf $(VENV) $(DEMO) build dist
