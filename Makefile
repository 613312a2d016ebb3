# blackmass: two commands for a newcomer, `make demo` and `make test`; the rest is for those who work on it.
# Settings: SPEED= (plant seconds a second), INFLUX=url, PORT=, DATA= for the demo; PYTHON= the interpreter to begin with.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PAGE   := controller/web/static/vendor/.done
# what computes runs side by side; what talks over sockets and ptys against the clock runs alone, but for the demo, which takes three minutes and
# a third of a core (one worker more than cores for that made it slower: each computes the batches that tests share)
DEMO   := tests/e2e/test_demo.py
PURE   := tests/unit tests/golden drivers recipes controller/core simulators
WIRE   := tests/integration tests/faults tests/e2e
PEERS  := tests/foreign/node_modules/.done

# every array here is small: threads of the linear algebra would only wait for each other
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test lint bench docs plots lock influxd clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(.*\)/\1/p' Makefile | head -2
	@echo "targets: demo test lint bench docs plots lock influxd clean"

demo: $(VENV)/.run $(PAGE)
	@$(BIN)/blackmass demo $(if $(SPEED),--speed $(SPEED)) $(if $(INFLUX),--influx $(INFLUX)) $(if $(PORT),--port $(PORT)) $(if $(DATA),--data $(DATA))

test: $(VENV)/.dev $(PAGE) $(PEERS) lint
	@$(BIN)/python -m controller.web.vendor --dev
	@if [ "$$CI" = "true" ]; then tests/influxd/build; fi
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(BIN)/python -m pytest -n auto --dist worksteal $(DEMO) $(PURE)
	@$(BIN)/python -m pytest --ignore=$(DEMO) $(WIRE)
endif

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Every benchmark runs, whatever another one finds. First comes what each peer costs by itself, and which ones cannot be run here and why:
# libmodbus needs gcc and libmodbus-dev, Telegraf go, the OPC UA source cargo and cmake, node-opcua npm; the first time takes some minutes to build them.
bench: $(VENV)/.dev
	-@$(MAKE) --silent --no-print-directory $(PEERS)
	@echo "== peers"; cd benchmarks && ../$(BIN)/python -m peers
	@failed=0; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || failed=1; done; exit $$failed

docs: $(VENV)/.dev
	@$(BIN)/python docs/make.py

# The pictures of the documentation, from the simulators' own code.
plots: $(VENV)/.dev
	@for file in docs/plots/*.py; do $(BIN)/python $$file || exit 1; done

# A real InfluxDB 2 for the tests: built once from its Go modules (about 8 minutes) and kept in the cache folder.
# With CI=true a failure to build is a failure of the tests; elsewhere they say in one line what they could not run.
influxd:
	@tests/influxd/build

# --- set-up ---------------------------------------------------------------------------------------------------------

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "blackmass needs Python 3.11 or newer; name one with PYTHON=, such as: make demo PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.run: requirements/run.txt pyproject.toml | $(VENV)/bin/pip
	@echo "Setting up (pinned and hashed dependencies) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/bin/pip
	@echo "Setting up for development (pinned and hashed dependencies) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.run $@

$(PAGE): controller/web/package-lock.json controller/web/vendor.py | $(VENV)/.run
	@command -v npm >/dev/null || \
	  { echo "The page's scripts come from npm, which is not installed; on Debian: apt-get install npm" >&2; exit 1; }
	@$(BIN)/python -m controller.web.vendor
	@touch $@

# Clients of other makes, which only the tests use.
$(PEERS): tests/foreign/package-lock.json
	@command -v npm >/dev/null || \
	  { echo "The foreign clients of the tests come from npm, which is not installed; on Debian: apt-get install npm" >&2; exit 1; }
	@cd tests/foreign && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# New pins: needs uv (pip install uv).
lock:
	uv pip compile pyproject.toml --group build --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --quiet --output-file requirements/run.txt
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --quiet --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) build dist tests/foreign/node_modules controller/web/node_modules controller/web/static/vendor .mypy_cache .ruff_cache .pytest_cache
