# make install       a virtual environment in .venv with nightmill in it
# make demo          the whole thing on an embedded default, in a few minutes
# make test          every test, on SQLite and on a real PostgreSQL where its programs are installed
# make test-fast     those that need no server and no browser
# make check         style, types, layering and docstrings
# make docs          the documentation, with the public API, as a site, in docs/_build
# make bench         the headline figures, each beside its floor
# make requirements  one line a requirement: proven by which test, or open
#
# PYTHON=python3.13 chooses another interpreter for a new .venv; PYTEST_ARGS="tests/backbone -k views" narrows a test run,
# and PYTEST_ARGS="-n 0" runs it in one process.

PYTHON ?= $(firstword $(shell command -v python3.11 python3))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
PIP_INSTALL := $(PIP) --constraint constraints.txt --editable
PIP_OF_GROUPS := $(PIP) --upgrade 'pip>=25.1' # older ones do not know dependency groups
SOURCES = $(wildcard $(shell git ls-files -- '*.py' '*.yaml' '*.toml'))

# Tests start hundreds of processes: nothing is compiled anew for each of them.
unexport PYTHONDONTWRITEBYTECODE

# Tests mostly wait for servers and processes: half as many more than there are cores.
WORKERS := $(shell echo $$(( ($$(nproc) * 3 + 1) / 2 )))
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8

.PHONY: install demo test test-fast check docs bench requirements clean
.DELETE_ON_ERROR:

install: $(VENV)/.installed

demo: $(VENV)/.installed-examples
	$(BIN)/nightmill demo

test: $(VENV)/.installed-test
	$(PYTEST) $(PYTEST_ARGS)

test-fast: $(VENV)/.installed-test
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/numpydoc lint $(filter-out tests/%,$(filter %.py,$(SOURCES)))

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet docs docs/_build
	@echo 'Open docs/_build/index.html'

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks

requirements: .requirements.json
	@$(BIN)/python -m tests.support.requirements

# A failed test proves nothing; the others still do.
.requirements.json: $(VENV)/.installed-test $(SOURCES)
	-@$(PYTEST) >&2

# Each stamp is younger than what it was installed from, so that a second call does nothing.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt nightmill/__init__.py | $(BIN)/python
	$(PIP_INSTALL) .
	@touch $@

$(VENV)/.installed-examples: pyproject.toml constraints.txt nightmill/__init__.py | $(BIN)/python
	$(PIP_INSTALL) '.[examples]'
	@touch $@ $(VENV)/.installed

# Suites of tests are documented from their docstrings, and import pytest.
$(VENV)/.installed-docs: pyproject.toml constraints.txt nightmill/__init__.py | $(BIN)/python
	$(PIP_OF_GROUPS)
	$(PIP_INSTALL) . --group docs --group test
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-test: pyproject.toml constraints.txt nightmill/__init__.py | $(BIN)/python
	$(PIP_OF_GROUPS)
	$(PIP_INSTALL) '.[postgres,examples]' --group bench --group docs --group test --group dev
	@touch $@ $(VENV)/.installed $(VENV)/.installed-examples $(VENV)/.installed-docs

clean:
	rm -rf $(VENV) .nox docs/_build .requirements.json .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
