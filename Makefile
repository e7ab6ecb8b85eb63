# Everything runs from one virtual environment, .venv, which `make setup` makes and keeps current.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# What `make build` passes on: make build TAG=berth:mine WEIGHTS="resnet18 resnet50"
TAG        ?= berth:latest
PLATFORM   ?= linux/amd64
BASE_IMAGE ?=
EXTRA_CA   ?=
WEIGHTS    ?=

# What the berth command is given: make train DATA=s3://bucket/photos ARGS="--spot -p epochs=5"
DATA   ?=
NAME   ?=
JOB    ?=
IMAGES ?=
ARGS   ?=

# Tests run side by side; many of them wait for a server or a job most of the time.
WORKERS ?= 3

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo up down tune train report deploy invoke test quick nightly check build push bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv and install everything in it (needs Python 3.11 and a C compiler)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	    || { echo "setup: needs Python 3.11; name it with: make setup PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --use-pep517 \
	    --quiet -c constraints.txt -e '.[image,local,sdk,dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	    --quiet --no-deps -r docker/no-deps.txt
	@# Once more: the sagemaker-training toolkit has a command 'train' as well, and the last one stays.
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --use-pep517 \
	    --quiet -c constraints.txt --no-deps --force-reinstall -e .
	@touch $@

demo: setup ## tune, train, deploy and ask a small classifier, on this machine alone
	$(BIN)/python -m local.demo

up: setup ## start the SageMaker of this machine
	$(BIN)/berth up $(ARGS)

down: setup ## end it; nothing is lost
	$(BIN)/berth down $(ARGS)

tune: setup ## search hyperparameters; DATA, ARGS are passed on
	$(BIN)/berth tune $(DATA) $(ARGS)

train: setup ## train a classifier; DATA, ARGS are passed on
	$(BIN)/berth train $(DATA) $(ARGS)

report: setup ## look at what a job left, the last one without JOB; JOB, ARGS are passed on
	$(BIN)/berth report $(JOB) $(ARGS)

deploy: setup ## serve what a job learnt; NAME, JOB, ARGS are passed on
	$(BIN)/berth deploy $(NAME) --job $(JOB) $(ARGS)

invoke: setup ## ask an endpoint; NAME, IMAGES, ARGS are passed on
	$(BIN)/berth invoke $(NAME) $(IMAGES) $(ARGS)

test: setup ## run the tests; those that need Docker run where an engine answers
	$(BIN)/python -m pytest -n $(WORKERS)

quick: setup ## run the tests that need no server, container, browser or training job (2 minutes)
	$(BIN)/python -m pytest -n 2 -m "not slow" tests/unit

nightly: setup ## train, resume, export and serve every torchvision classifier once (hours; 16 GB)
	BERTH_ARCHITECTURES=all $(BIN)/python -m pytest -n 1 tests/unit/container/test_models_architectures.py

check: setup ## lint, formatting, types and the walls between the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docker/lock.py --check

build: setup ## build the image; TAG, PLATFORM, BASE_IMAGE, EXTRA_CA, WEIGHTS are passed on
	$(BIN)/python -m local.image build --tag $(TAG) --platform $(PLATFORM) \
	    $(if $(BASE_IMAGE),--base-image $(BASE_IMAGE)) \
	    $(if $(EXTRA_CA),--extra-ca '$(EXTRA_CA)') \
	    $(if $(WEIGHTS),--weights $(WEIGHTS))

push: setup ## push the image to ECR; TAG, ARGS are passed on
	$(BIN)/berth push $(TAG) $(ARGS)

bench: setup ## measure; every script in tests/benchmarks in turn
	@for script in tests/benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

lock: setup ## write constraints.txt and docker/requirements.txt from .venv
	$(BIN)/python docker/lock.py

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
