PYTHON ?= python3
VENV ?= .venv
# Test processes; each computes on one thread.
JOBS ?= auto
BIN := $(VENV)/bin
RUN := PATH="$(abspath $(BIN)):$$PATH" OMP_NUM_THREADS=1
PYTEST := $(RUN) pytest --numprocesses $(JOBS) --dist worksteal

# What make table and make figure run: experiments/table$(TABLE).yaml, at a scale of experiments/common.yaml.
TABLE ?= 5
FIGURE ?= 7
SCALE ?= quick
CORES ?= 2
EXPERIMENT := snakemake -s experiments/Snakefile --cores $(CORES) --config scale=$(SCALE) --configfile

.PHONY: help demo table figure fast test types tests format docs
.DELETE_ON_ERROR:

help:  ## lists the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/ready  ## runs the main job on the embedded dataset: tailor, predict, train, score
	PATH="$(abspath $(BIN)):$$PATH" sh docs/demo.sh

table: $(VENV)/ready  ## runs a table of the paper on the embedded dataset, TABLE=5 by default
	$(RUN) $(EXPERIMENT) experiments/table$(TABLE).yaml
	@echo "Look at runs/experiments/$(SCALE)/table$(TABLE)/index.html and runs/experiments/$(SCALE)/board/index.html"

figure: $(VENV)/ready  ## draws a figure of the paper from the embedded dataset, FIGURE=7 by default
	$(RUN) $(EXPERIMENT) experiments/figure$(FIGURE).yaml
	@echo "Look at runs/experiments/$(SCALE)/figure$(FIGURE)*/index.html"

fast: $(VENV)/ready  ## runs the fast tests; they need no data
	$(PYTEST) -m "not slow"

test: $(VENV)/ready  ## runs ruff, mypy and all tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(MAKE) --no-print-directory --jobs=2 types tests

# Side by side, as mypy keeps one core busy for a minute.
types: $(VENV)/ready
	$(BIN)/mypy

tests: $(VENV)/ready
	$(PYTEST)

format: $(VENV)/ready  ## formats the code and mends what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/ready  ## makes the tables of settings and the site in site/, checks links, commands and what they print
	$(RUN) python tests/settings_page.py
	$(RUN) mkdocs build
	$(PYTEST) tests/test_docs_links.py tests/test_docs_commands.py tests/test_docs_site.py tests/test_readme.py

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
