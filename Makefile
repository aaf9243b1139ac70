# The words of this project, the same in CI and by hand: `make help` lists them.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The tools that generate code have requirements of their own, so they live apart.
PROTO_VENV := .venv-proto
PROTO_INSTALLED := $(PROTO_VENV)/.installed
PROTO_TOOLS := grpcio-tools==1.80.0 'mypy-protobuf==5.1.*'
PROTO_FILES := $(wildcard proto/federation/v1/*.proto)

# The first Python that this project runs on; `make setup PYTHON=...` takes another.
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for python in python3.12 python3.11 python3.13 python3 python; do \
	"$$python" -c '$(SUITABLE)' 2>/dev/null && echo "$$python" && break; done)

# TensorFlow without GPU code exists for x86 only; elsewhere the whole one is installed.
CLIENT_EXTRA := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' '-')),client-cpu,client)
EXTRAS ?= $(CLIENT_EXTRA),webserver,dev
ARGS ?=
SEEDS ?= 1000
# Half of the tests wait for processes and timers, so three share two cores.
WORKERS ?= $(shell echo $$((3 * $$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN) / 2)))

# Beside .venv, since what they pin is not what is developed with.
LOCK_VENV := .venv-lock
LOCK_INSTALLED := $(LOCK_VENV)/.installed
LOCK_TOOLS := 'uv==0.13.*'
LOCK := $(LOCK_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock'

.PHONY: help setup proto proto-check check test prove crashes soak simulate demo browser screenshots bench digits-model
.PHONY: containers lock release-check

help: ## List these words
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(INSTALLED) ## Create .venv with everything, once, and again when pyproject.toml changes

$(INSTALLED): pyproject.toml
	@$(if $(PYTHON),,echo "Python 3.11, 3.12 or 3.13 is needed: make setup PYTHON=/path/to/python" >&2; exit 1)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

$(PROTO_INSTALLED): Makefile
	@$(if $(PYTHON),,echo "Python 3.11, 3.12 or 3.13 is needed: make proto PYTHON=/path/to/python" >&2; exit 1)
	$(PYTHON) -m venv $(PROTO_VENV)
	$(PROTO_VENV)/bin/python -m pip install --quiet $(PROTO_TOOLS)
	touch $@

# $(call generate,DIRECTORY) writes DIRECTORY/federation/v1.
generate = PATH="$(PROTO_VENV)/bin:$$PATH" $(PROTO_VENV)/bin/python -m grpc_tools.protoc -Iproto \
	--python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) \
	$(PROTO_FILES)

proto: $(PROTO_INSTALLED) ## Generate federation/v1 from proto/
	find federation/v1 -name '*_pb2*.py*' -maxdepth 1 -type f -delete
	$(call generate,.)

proto-check: $(PROTO_INSTALLED) ## Fail if federation/v1 is not what proto/ says
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(call generate,"$$fresh"); \
	diff -r -x __init__.py -x __pycache__ "$$fresh/federation/v1" federation/v1 \
		|| { echo "federation/v1 is out of date: run make proto" >&2; exit 1; }

check: setup proto-check ## Lint, format, types, layers, generated code and documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m headwater.settings_docs --check
	$(BIN)/python -m headwater.errors_docs --check

test: setup ## Run all tests; ARGS="-k name" for some
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

prove: crashes ## Run every long proof
	$(BIN)/python -m tests.simulation.model_check --faults 3
	$(MAKE) simulate SEEDS=10000
	$(MAKE) soak

crashes: setup ## Run the whole matrix of crashes and print it as a table; ARGS="-k name" for some
	$(BIN)/python -m pytest -n 2 -p tests.prove.table -m prove --timeout 300 $(ARGS)

soak: setup ## Run 200 rounds in which clients and selectors die; ARGS="--rounds 50 --seed 1"
	$(BIN)/python -m tests.prove.soak $(ARGS)

simulate: setup ## Run many rounds in virtual time, with all that can go wrong; SEEDS=10000 for more
	$(BIN)/python -m tests.simulation $(SEEDS) $(ARGS)
	$(BIN)/python -m tests.simulation $(SEEDS) --profile storm $(ARGS)

demo: setup ## Run a whole federation on this machine; ARGS="--rounds 3" for a short one
	$(BIN)/headwater demo $(ARGS)

browser: setup ## Test the page in the system's Chromium; ARGS="-k name" for some
	$(BIN)/python -m pytest -n0 -m browser -s tests/browser $(ARGS)

screenshots: setup ## Take the pictures in docs/screenshots of a real federation
	$(BIN)/python -m tests.browser.screenshots

bench: setup ## Measure rounds next to the floor; ARGS="--cases 10x100" for others
	$(BIN)/python -m benchmarks.round $(ARGS)

digits-model: setup ## Make the built-in model, headwater/digits.h5
	$(BIN)/python -m headwater.digits_model

containers: setup ## Build the images and try them on a Docker engine; DOCKER=, COMPOSE= name others
	$(BIN)/python -m pytest -n0 -m containers tests/containers $(ARGS)

release-check: ## Build wheel and sdist into dist/, and try them in clean environments elsewhere
	@$(if $(PYTHON),,echo "Python 3.11, 3.12 or 3.13 is needed: make release-check PYTHON=..." >&2; exit 1)
	deploy/release-check $(PYTHON) $(CLIENT_EXTRA)

$(LOCK_INSTALLED): Makefile
	$(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip install --quiet $(LOCK_TOOLS)
	touch $@

lock: $(LOCK_INSTALLED) ## Choose the images' dependencies anew; ARGS=--upgrade takes the newest
	$(LOCK) $(ARGS) --output-file deploy/requirements-build.txt deploy/build.in
	$(LOCK) $(ARGS) --output-file deploy/requirements-servers.txt pyproject.toml
	$(LOCK) $(ARGS) --output-file deploy/requirements-webserver.txt --extra webserver pyproject.toml
	$(LOCK) $(ARGS) --output-file deploy/requirements-client.txt --extra client-cpu pyproject.toml
