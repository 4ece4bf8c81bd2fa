# `make help` says what there is. Everything works on a clean clone with Python 3.11+ and make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup run example test lint format proto lock fuzz docs-settings interop-table traces attacks bench-quick profile load capacity clean

# The first Python that is new enough; `make setup PYTHON=python3.13` chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
# Every package is checked against its hash. Some come as source only: they are built with the setuptools of
# requirements-build.lock, so that nothing unpinned is fetched on the way.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-build-isolation --use-pep517
PROTOS := $(wildcard actors/proto/*.proto transports/proto/*.proto)

help: ## show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

setup: $(VENV)/.setup ## prepare .venv with everything `run` needs
	@:

run: setup ## start the relay with the default configuration
	@exec $(BIN)/frost-relay run

EXAMPLE := examples/browser
# Not from the environment: shells and hosting services set variables of these names.
HOST := 127.0.0.1
PORT := 8090
example: setup $(EXAMPLE)/dist ## a page for two browsers, with a relay (HOST=, PORT=, CERT= and KEY=: its README)
	@exec $(BIN)/python $(EXAMPLE)/serve.py --host "$(HOST)" --port "$(PORT)" --cert "$(CERT)" --key "$(KEY)" --stun "$(STUN)"

# Files of tests at a time; each test waits more than it works.
JOBS ?= 2
test: lint ## every gate: linters, types, import contracts, all tests (ARGS="-k name" narrows the tests)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(VENV)/.setup-dev ## ruff, mypy, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.setup-dev ## let ruff mend and format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: $(VENV)/.setup-dev ## write the protobuf code again after a change to a .proto file
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I. --python_out=. --mypy_out=. $(PROTOS)

SECONDS ?= 60
fuzz: $(VENV)/.setup-dev ## fuzz every decoder, each for SECONDS (what is found stays in .cache/fuzz)
	$(BIN)/python -m tests.fuzz.run all $(SECONDS)

# Pins stay as they are, as far as pyproject.toml allows, unless UPGRADE=--upgrade asks for newer ones.
UV := $(VENV)-lock/bin/uv
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links $(UPGRADE)
lock: $(UV) ## resolve the requirements*.lock files again (UPGRADE=--upgrade for newer versions)
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) pyproject.toml --extra dev -c requirements.lock -o requirements-dev.lock
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(LOCK) - -c requirements-dev.lock -o requirements-build.lock
	! grep -n '://' requirements*.lock

docs-settings: $(VENV)/.setup-dev ## write docs/settings.md again after a change to a setting
	$(BIN)/python -m config.document > docs/settings.md

interop-table: $(VENV)/.setup-dev ## measure all pairs of foreign peers and write their table into docs/interop.md
	UPDATE_DOCS=1 $(BIN)/python -m pytest tests/interop/test_all_pairs.py

.PHONY: faults
faults: $(VENV)/.setup-dev ## break every process in every way, idle and busy, and write docs/faults.md (a quarter of an hour)
	UPDATE_DOCS=1 $(BIN)/python -m pytest -q tests/faults/test_matrix.py

.PHONY: bench
bench: $(VENV)/.setup-dev ## build all relays, measure them beside each other, write docs/bench.md (half an hour)
	@$(BIN)/python -m loadtests.bench $(ARGS)

bench-quick: $(VENV)/.setup-dev ## CPU an operation beside rust and go in under 2 minutes, and against the last time (ARGS=--build)
	@$(BIN)/python -m loadtests.quick $(ARGS)

WHAT ?= session
profile: $(VENV)/.setup-dev ## where a worker's time goes: WHAT=session, reserve, circuit, roundtrip or bulk
	@$(BIN)/python -m loadtests.profiling $(WHAT) $(ARGS)

load: SECONDS = 120
load: $(VENV)/.setup-dev ## locust's browsers against a relay of its own: SECONDS=120 USERS=100 SHAPE=ramp, storm or soak
	@SECONDS=$(SECONDS) USERS=$(USERS) SHAPE=$(SHAPE) $(BIN)/python -m loadtests.load

PEERS ?= 40000
capacity: $(VENV)/.setup-dev ## how many reserved browsers fit on one core and in 1 GiB, and storms of them: writes docs/capacity.md
	@$(BIN)/python -m loadtests.capacity --peers $(PEERS) $(ARGS)

MINUTES ?= 30
.PHONY: soak
soak: $(VENV)/.setup-dev ## churn, rude strangers and kills for MINUTES together; from 10 minutes on it writes docs/soak.md
	@$(BIN)/python -m loadtests.soak --minutes $(MINUTES) $(ARGS)

attacks: $(VENV)/.setup-dev ## attack a relay in every way there is, and write docs/attacks.md (8 minutes; ARGS="--only NAME" for one)
	@$(BIN)/python -m tests.attacks.report $(ARGS)

traces: $(VENV)/.setup-dev ## record how each foreign peer reserves and connects, into docs/traces
	UPDATE_DOCS=1 $(BIN)/python -m pytest tests/interop/test_traces.py

clean: ## remove everything that make made
	rm -rf $(VENV) $(VENV)-lock $(EXAMPLE)/node_modules $(EXAMPLE)/dist build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .cache
	find . -name __pycache__ -type d -not -path '*/node_modules/*' -prune -exec rm -rf {} +

# Standard output belongs to the addresses that `make run` prints, so all of this speaks on standard error.
$(VENV)/.setup: requirements.lock requirements-build.lock pyproject.toml
	@exec >&2; \
	if [ -z "$(PYTHON)" ]; then \
		echo "FROST Relay needs Python 3.11 or newer; python3 is $$(python3 --version 2>&1 || true)." \
			"Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; \
	fi; \
	if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "$(PYTHON) cannot make virtual environments: its venv module is missing." \
			"On Debian and Ubuntu: apt-get install python3-venv"; exit 1; \
	fi; \
	echo "Setting up $(VENV) (the first time takes a minute)"; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }; \
	$(PIP) --require-hashes -r requirements-build.lock; \
	$(PIP) --require-hashes -r requirements.lock; \
	$(PIP) --no-deps --editable .; \
	touch $@

$(VENV)/.setup-dev: $(VENV)/.setup requirements-dev.lock
	@exec >&2; echo "Installing what the tests need"; $(PIP) --require-hashes -r requirements-dev.lock; touch $@

$(EXAMPLE)/node_modules: $(addprefix $(EXAMPLE)/,package.json package-lock.json .npmrc)
	@exec >&2; command -v npm >/dev/null || { echo "The page is built with Node and npm. On Debian and Ubuntu: apt-get install npm"; exit 1; }; \
	echo "Fetching js-libp2p"; npm --prefix $(EXAMPLE) ci --prefer-offline --silent; touch $@

$(EXAMPLE)/dist: $(EXAMPLE)/node_modules $(wildcard $(addprefix $(EXAMPLE)/*.,js css html))
	@npm --prefix $(EXAMPLE) run --silent build >&2; touch $@

$(UV):
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip --disable-pip-version-check --quiet install uv
