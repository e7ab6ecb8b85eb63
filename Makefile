# Everything runs from one virtual environment, .venv, which docker/setup.sh makes and keeps current:
# what runs for `make demo` and the commands; for the others what tests and checks need as well.
VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNS  := $(VENV)/.runs
# The Python to make it with; docker/setup.sh finds one.
export PYTHON

# What `make build` passes on: make build TAG=berth:mine WEIGHTS="resnet18 resnet50"
# TARGET is full, or serve for an image that serves on CPUs only; TAG is berth:latest and berth:serve.
TARGET     ?= full
TAG        ?=
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
.PHONY: help setup demo up down tune train report deploy invoke test quick nightly gpu check build push bench soak lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv and install everything in it (Python 3.11 to 3.13 and a C compiler)

LOCKS := pyproject.toml constraints.txt docker/no-deps.txt

$(STAMP): $(LOCKS)
	@bash docker/setup.sh $(VENV) all,sdk,dev "about 3.4 GB, less where PyTorch comes without CUDA (a Mac), into $(VENV), which takes 7.0 GB"
	@touch $@ $(RUNS)

$(RUNS): $(LOCKS)
	@bash docker/setup.sh $(VENV) all "about 3.3 GB, less where PyTorch comes without CUDA (a Mac), into $(VENV), which takes 6.7 GB"
	@touch $@

demo: $(RUNS) ## tune, train, deploy and ask a small classifier, on this machine alone
	$(BIN)/python -m local.demo

up: $(RUNS) ## start the local SageMaker
	$(BIN)/berth up $(ARGS)

down: $(RUNS) ## end it; nothing is lost
	$(BIN)/berth down $(ARGS)

tune: $(RUNS) ## search hyperparameters; DATA, ARGS are passed on
	$(BIN)/berth tune $(DATA) $(ARGS)

train: $(RUNS) ## train a classifier; DATA, ARGS are passed on
	$(BIN)/berth train $(DATA) $(ARGS)

report: $(RUNS) ## look at what a job left, the last one without JOB; JOB, ARGS are passed on
	$(BIN)/berth report $(JOB) $(ARGS)

deploy: $(RUNS) ## serve what a job learnt; NAME, JOB, ARGS are passed on
	$(BIN)/berth deploy $(NAME) --job $(JOB) $(ARGS)

invoke: $(RUNS) ## ask an endpoint; NAME, IMAGES, ARGS are passed on
	$(BIN)/berth invoke $(NAME) $(IMAGES) $(ARGS)

test: setup ## run the tests; those that need Docker run where an engine answers
	$(BIN)/python -m pytest -n $(WORKERS)

quick: setup ## run the tests that need no server, container, browser or training job (2 to 5 minutes)
	$(BIN)/python -m pytest -n 2 -m "not slow" tests/unit

nightly: setup ## train, resume, export and serve every torchvision classifier once (hours; 16 GB)
	BERTH_ARCHITECTURES=all $(BIN)/python -m pytest -n 1 tests/unit/container/test_models_architectures.py

gpu: ## on a machine with an NVIDIA GPU: run what only a GPU can show, and print a table; PYTHON has PyTorch
	$(or $(PYTHON),$(wildcard $(BIN)/python),python3) tests/gpu/run.py $(ARGS)

check: setup ## lint, formatting, types and the walls between the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docker/lock.py --check

build: $(RUNS) ## build the image; TARGET, TAG, PLATFORM, BASE_IMAGE, EXTRA_CA, WEIGHTS are passed on
	$(BIN)/python -m local.image build --target $(TARGET) --platform $(PLATFORM) \
	    $(if $(TAG),--tag $(TAG)) \
	    $(if $(BASE_IMAGE),--base-image $(BASE_IMAGE)) \
	    $(if $(EXTRA_CA),--extra-ca '$(EXTRA_CA)') \
	    $(if $(WEIGHTS),--weights $(WEIGHTS))

push: $(RUNS) ## push the images to ECR; TAG, ARGS are passed on
	$(BIN)/berth push $(TAG) $(ARGS)

bench: setup ## measure; every script in tests/benchmarks in turn
	@for script in $(filter-out %/soak.py,$(wildcard tests/benchmarks/*.py)); do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

soak: setup ## load a server for ten minutes, a tenth of it hostile: what it holds stays flat
	$(BIN)/python tests/benchmarks/soak.py $(ARGS)

lock: setup ## write constraints.txt and docker/requirements.txt from .venv
	$(BIN)/python docker/lock.py

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
