# make demo    sets up everything and runs the main job on the embedded dataset
# make test    sets up everything and runs all checks

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test
.DELETE_ON_ERROR:

demo: $(VENV)/ready
	PATH="$(abspath $(BIN)):$$PATH" sh docs/demo.sh

test: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
