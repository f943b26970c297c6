# `make run` and `make test` set up everything they need on a fresh machine.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Where `make run` writes; every run gets its own folder in it.
RUNS   ?= $(CURDIR)/runs

# Nothing the platform runs on reports home.
export FLWR_TELEMETRY_ENABLED=0
export FLWR_DISABLE_UPDATE_CHECK=1
export RAY_USAGE_STATS_ENABLED=0
export MLFLOW_DISABLE_TELEMETRY=true

.PHONY: run test setup lint types layers unit simulation test-deployment test-cluster clean

run: setup            ## train a federation, finetune its model, print what came out
	$(BIN)/endofed quickstart --runs $(RUNS)

test: lint types layers unit simulation   ## every check

setup: $(READY)

# torch comes first and by its exact pin, so that no other package picks a build.
# A quarter of the 25,000 modules is ever imported: Python compiles those as it meets them.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

lint: setup           ## style and docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup          ## mypy, strict where the mathematics is
	$(BIN)/mypy

layers: setup         ## who may import whom
	$(BIN)/lint-imports

# Two processes of one thread: on two cores faster than one of two threads.
unit: setup           ## everything that needs no SuperLink
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not simulation and not deployment' -n 2 --dist worksteal

# Two at once: a run spends much of its time on starting Ray and waiting for it.
simulation: setup     ## the tests that really call `flwr run`
	$(BIN)/python -m pytest -m simulation -n 2 --dist worksteal tests/experiments

# A real federation over network namespaces of its own: server and hospitals apart.
# ENDOFED_DEPLOYMENT_TABLE=FILE keeps the table of cases.
test-deployment: setup   ## three hospitals and a centre, broken and recovered; as root
	@test "$$(id -u)" = 0 || { \
	  echo "test-deployment needs root: only root makes network namespaces." >&2; exit 1; }
	@for program in ip nft tc; do command -v $$program >/dev/null || { \
	  echo "test-deployment needs '$$program': install iproute2 and nftables." >&2; \
	  exit 1; }; done
	$(BIN)/python -m pytest -m deployment tests/deployment tests/experiments/deployment

test-cluster: setup      ## three Ray nodes on loopback, and the containers' start in a sandbox
	$(BIN)/python -m pytest -m deployment tests/docker

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
