# Every chore is one command. `make demo` needs nothing but python3 >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test check format bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo ## do the main job against the embedded archive: offline, without credentials
	$(BIN)/lindi-dask demo

test: $(VENV)/.installed-test .venv-lindi/.installed ## run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-dev ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## mend what can be mended by a program
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-test .venv-lindi/.installed .venv-peers/.installed ## reading, and opening references, beside others
	$(BIN)/python tests/bench/read.py
	$(BIN)/python tests/bench/references.py

clean: ## remove what the other chores made
	rm -rf $(VENV) .venv-lindi .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist lindi-dask-demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lindi_dask needs Python 3.11 or newer; this is %d.%d. Say which: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

# LINDI itself wants zarr 2, and the peers what they want: each in a venv of its own
.venv-%/.installed: tests/bench/peers/%.txt
	$(PYTHON) -m venv .venv-$*
	@echo "Installing $* into .venv-$* (a minute or so) ..."
	.venv-$*/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	@touch $@

# One stamp an extra: what is installed is what pyproject.toml says now
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing lindi-dask[$*] into $(VENV) (a minute or so) ..."
	$(PIP) install --editable '.[$*]'
	@touch $@
