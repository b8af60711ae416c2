# One word a job. `make` alone prints this menu; CI says the same words.
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(if $(SEED),--seed=$(SEED))
STAMP := $(VENV)/.ready
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help setup check test test-quick e2e chaos bench bench-drift bench-loop demo docs lock clean

help: ## this menu
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## the virtual environment with everything in it
$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "driftloop needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing what requirements.lock names (about 2 GB on disk, a minute)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes --requirement requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

check: setup ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup ## all tests but the long ones; needs Java 17 and Maven for real Kafka, Chromium for the page (SEED=...)
	$(PYTEST) -m "unit or integration"

test-quick: setup ## what needs no broker, no browser and no MLflow server (a minute)
	$(PYTEST) -m unit tests/unit driftloop

e2e: setup ## the whole loop on real data, as `make demo` runs it, checked (minutes)
	$(BIN)/python -m pytest -m e2e

chaos: setup ## kill -9 of anybody under load, nothing lost (minutes; CHAOS_KILLS=20, SEED=... repeats one)
	@mkdir -p .driftloop
	$(BIN)/python -m pytest -m chaos -s --basetemp=.driftloop/chaos $(if $(CHAOS_KILLS),--chaos-kills=$(CHAOS_KILLS)) $(if $(SEED),--seed=$(SEED))

bench: setup ## what the data plane costs, as ratios inside one run; writes docs/benchmarks.md (ten minutes; ARGS=--long)
	$(BIN)/python -m benchmarks.speed docs/benchmarks.md $(ARGS)

bench-drift: setup ## how good drift detection is, on streams with known changes (ten minutes; ARGS=--quick)
	$(BIN)/python -m benchmarks.drift_quality docs/drift-quality.md $(ARGS)

bench-loop: setup ## what the loop is worth beside cron jobs, on six streams (an hour; ARGS='--data elec --rows 5000')
	$(BIN)/python -m benchmarks.loop_quality docs/loop-quality.md $(ARGS)

demo: setup ## the loop closes on a year of flights (ARGS=--fast: four to six minutes)
	$(BIN)/driftloop demo $(ARGS)

docs: setup ## generate what docs/ takes from code
	$(BIN)/python -m docs.generate

lock: ## pin all dependencies anew, with hashes (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml --output-file requirements.lock

clean: ## remove what was made
	rm -rf $(VENV) .driftloop build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
