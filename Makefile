# `make run` and `make test` set up everything they need on a fresh machine. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help env run test test-slow lint format constraints clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"make: expected Python 3.11 or later, got {sys.version}; name another: make PYTHON=python3.12")'
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

env: $(VENV)/.installed ## Build the environment in .venv

run: env ## The main job: the whole loop on the embedded default, then its report
	dvc repro
	al-dgm report

test: env lint ## Static checks and the default test suite
	pytest -m "not slow" -n logical --maxprocesses 4

test-slow: env ## The tests that take minutes: real clusters, kills, servers
	pytest -m slow

lint: env ## ruff, mypy --strict and the import contracts
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: env ## Let ruff format and fix what it can
	ruff check --fix .
	ruff format .

constraints: env ## Resolve constraints.txt anew (torch stays pinned, its CUDA companions stay free)
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links pyproject.toml \
		| sed -E -e '/^(nvidia-|cuda-|triton)/d' -e 's/^torch==.*/torch==2.13.0/' > constraints.new
	mv constraints.new constraints.txt

clean: ## Remove what runs produce, except people's labels
	rm -rf data/prepared rounds report checkpoints mlflow.db mlartifacts
