# Every chore is one command. `make demo` needs nothing but python3 >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

# Some peers are tuned by what only the newest zarr has, and that wants Python 3.12; without it their rows are left out
NEWEST ?= $(shell for python in python3.13 python3.12; do $$python -c '' 2>/dev/null && echo $$python && break; done)
PEERS = .venv-lindi/.installed .venv-peers/.installed $(if $(NEWEST),.venv-newest-peers/.installed)

.PHONY: demo test check format bench bench-full soak report-look slurm clean
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

bench: $(VENV)/.installed-test $(PEERS) ## reading, indexing and converting beside others: some minutes
	BENCH_COMMAND='make $@' $(BIN)/python tests/bench/read.py
	$(BIN)/python tests/bench/references.py
	$(BIN)/python tests/bench/indexing.py
	$(BIN)/python tests/bench/converting.py

bench-full: $(VENV)/.installed-test $(PEERS) ## all that can be measured: half an hour and more
	BENCH_COMMAND='make $@' $(BIN)/python tests/bench/read.py --full --write docs/benchmarks.md
	$(BIN)/python tests/bench/references.py --full
	$(BIN)/python tests/bench/indexing.py
	$(BIN)/python tests/bench/converting.py --full

soak: $(VENV)/.installed-test ## read for minutes while requests fail, leases expire and workers are killed
	$(BIN)/python tests/bench/soak.py

report-look: $(VENV)/.installed-test ## open a conversion's report in a browser; pictures of it in build/report-look
	-command -v chromium || apt-get install --yes --no-install-recommends chromium
	mkdir -p build
	$(BIN)/python -m pytest tests/cli/test_report.py -k browser --basetemp build/report-look

slurm: $(VENV)/.installed-test ## run a pipeline on a SLURM cluster of one node, this machine (Debian, as root)
	if ! command -v slurmctld >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update && apt-get install --yes --no-install-recommends slurm-wlm munge; fi
	$(BIN)/python -m pytest tests/pipelines/on_slurm.py

clean: ## remove what the other chores made
	rm -rf $(VENV) .venv-lindi .venv-peers .venv-newest-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist lindi-dask-demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lindi_dask needs Python 3.11 or newer; this is %d.%d. Say which: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

# LINDI itself wants zarr 2, and the peers what they want: each in a venv of its own
.venv-newest-peers/.installed: override PYTHON = $(NEWEST)
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
