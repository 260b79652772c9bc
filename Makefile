# GNU make, from 3.81 on (the version that macOS has). Every target sets itself up first; `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.underpaint-installed
STUDY := runs/stages_tiny
# A process a core, as far as memory allows; the tests of a file share what the file has made.
PROCESSES := -n auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install the package with everything that demo, test and check need

# The version stands in underpaint/_version.py, everything else about the installation in pyproject.toml.
$(STAMP): pyproject.toml underpaint/_version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "underpaint needs Python 3.11 or later, and '$(PYTHON)' is older: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "Installing into $(VENV) (PyTorch is large: minutes on the first time)"
	@start=$$(date +%s); set -e; \
	  test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; \
	  touch $@; \
	  echo "Installation took $$(($$(date +%s) - start)) s"

demo: $(STAMP) ## run the study: MAE, WSP and MAE then WSP on real tagged images, 12 minutes on 2 cores
	@start=$$(date +%s); set -e; \
	  $(BIN)/underpaint study stages --size tiny --out $(STUDY); \
	  echo "The study took $$(($$(date +%s) - start)) s, without the installation"; \
	  echo "Open the report: $(CURDIR)/$(STUDY)/report.html"

test: $(STAMP) ## run the fast tests (11 minutes on 2 cores)
	$(BIN)/python -m pytest $(PROCESSES)

test-slow: $(STAMP) ## run the tests that take more than five seconds each
	$(BIN)/python -m pytest $(PROCESSES) -m "slow and not cuda" --durations 60 --durations-min 10

check: $(STAMP) ## lint, format, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/house/test_import_rules.py

docs: $(STAMP) ## build the documentation site into build/site; a broken link or reference fails
	$(BIN)/python tools/site/check_markdown.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "Open $(CURDIR)/build/site/index.html"

clean: ## remove caches and builds; .venv and runs/ stay
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find underpaint tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
