# Everything runs from one virtual environment, .venv, which `make setup` makes and keeps current.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# What `make build` passes on: make build TAG=berth:mine WEIGHTS="resnet18 resnet50"
TAG        ?= berth:latest
BASE_IMAGE ?=
EXTRA_CA   ?=
WEIGHTS    ?=

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test check build bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv and install everything in it (needs Python 3.11 and a C compiler)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	    || { echo "setup: needs Python 3.11; name it with: make setup PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --use-pep517 \
	    --quiet -c constraints.txt -e '.[image,local,dev]'
	@touch $@

demo: setup ## train, serve and look at a small classifier, on this machine alone
	$(BIN)/python -m local.demo

test: setup ## run the tests; those that need Docker run where an engine answers
	$(BIN)/python -m pytest

check: setup ## lint, formatting, types and the walls between the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docker/lock.py --check

build: setup ## build the image; TAG, BASE_IMAGE, EXTRA_CA, WEIGHTS are passed on
	$(BIN)/python -m local.image build --tag $(TAG) \
	    $(if $(BASE_IMAGE),--base-image $(BASE_IMAGE)) \
	    $(if $(EXTRA_CA),--extra-ca $(EXTRA_CA)) \
	    $(if $(WEIGHTS),--weights $(WEIGHTS))

bench: setup ## measure; every script in tests/benchmarks in turn
	@for script in tests/benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

lock: setup ## write constraints.txt and docker/requirements.txt from .venv
	$(BIN)/python docker/lock.py

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
