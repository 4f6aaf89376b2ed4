# Everything a developer or CI needs. Each step leaves a stamp, so that a second call does only what changed.
SHELL := /bin/sh
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
STAMPS := .stamps
# On two cores: most tests wait for processes and clocks.
TEST_JOBS ?= 4
CODE := $(wildcard src tests scripts benchmarks examples)
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
BRIDGE_PATH := PATH="$(BIN):$$PATH"
# A virtual environment holds absolute paths: one that is gone, or made elsewhere, voids the stamps.
$(shell [ "$$(cat $(STAMPS)/venv 2>/dev/null)" = "$(VENV)" ] && [ -x $(BIN)/python ] || rm -rf $(STAMPS))
$(shell [ -d bridge/node_modules ] || rm -f $(STAMPS)/node)
# Which index is asked is the calling machine's own setting (UV_DEFAULT_INDEX); the locks name no host.
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header

.PHONY: help run setup setup-dev test test-bridge test-python lint bench drill fuzz chaos chaos-chat lock clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

run: setup ## set up, then run the service with the WhatsApp simulator and two demo companies
	@exec $(BIN)/standfast up --simulator

setup: $(STAMPS)/package $(STAMPS)/node ## install what the service needs, into .venv and bridge/node_modules
	@:

setup-dev: setup $(STAMPS)/dev
	@:

test: test-bridge test-python ## run the Node and the Python tests

test-bridge: setup-dev
	@cd bridge && $(BRIDGE_PATH) npm test --silent

# A short base: a socket's path has room for 100 bytes. The files that take longest are begun first (tests/file_order.py),
# not those with most tests. Compiled files are kept: each of the processes reads them all.
test-python: setup-dev
	@dir=$$(mktemp -d "$${TMPDIR:-/tmp}/sf.XXXX") && trap 'rm -rf "$$dir"' EXIT && \
		$(BRIDGE_PATH) PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(TEST_JOBS) \
		--dist loadfile --no-loadscope-reorder --basetemp="$$dir/t" $(PYTEST_ARGS)

lint: setup-dev ## check style, types, import rules and house rules
	@echo "lint: ruff" && $(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@echo "lint: mypy" && $(BIN)/mypy --no-error-summary $(CODE)
	@echo "lint: import rules" && PYTHONPATH=src $(BIN)/lint-imports --no-logo >$(STAMPS)/lint-imports.log 2>&1 \
		|| { cat $(STAMPS)/lint-imports.log; exit 1; }
	@echo "lint: bridge" && cd bridge && $(BRIDGE_PATH) npm run --silent lint
	@echo "lint: house rules" && $(BIN)/python scripts/check_house.py
	@echo "lint: long runs can begin" && $(BIN)/python -m pytest -q -m chaos --setup-plan >$(STAMPS)/long-runs.log 2>&1 \
		|| { cat $(STAMPS)/long-runs.log; exit 1; }

bench: setup-dev ## measure what keeping sessions standing costs; BENCH_ARGS='line outage --rounds 1' for a part
	@$(BRIDGE_PATH) $(BIN)/python -m benchmarks $(BENCH_ARGS)

drill: setup ## rehearse an outage on parts of its own, in full length; DRILL_ARGS=--fast for a minute
	@$(BRIDGE_PATH) $(BIN)/python -m standfast drill --yes $(DRILL_ARGS)

fuzz: setup-dev ## requests at random against the HTTP API, by its description: FUZZ_SECONDS=120
	@$(BRIDGE_PATH) FUZZ_SECONDS=$(or $(FUZZ_SECONDS),120) $(BIN)/python -m pytest -q tests/e2e/test_http_fuzz.py $(PYTEST_ARGS)

chaos: setup-dev ## random faults against the vault, checked against a model: SEED=1 RUNS=100
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) $(CHAOS_ARGS)

chaos-chat: setup-dev ## kill and cut things while two real sessions chat
	@$(BRIDGE_PATH) $(BIN)/python -m pytest -m chaos $(PYTEST_ARGS)

lock: setup-dev ## resolve all dependencies anew and rewrite the lock files
	@$(PIP_INSTALL) "uv>=0.9"
	@$(COMPILE) pyproject.toml --group build -o requirements.lock
	@$(COMPILE) pyproject.toml --group build --group dev -c requirements.lock -o requirements-dev.lock
	@$(COMPILE) --group node -o requirements-node.lock

clean: ## remove everything that setup, tests and tools have made
	@rm -rf .venv .stamps bridge/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis .cache build dist bench-results
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMPS)/venv:
	@mkdir -p $(STAMPS)
	@python=$$(sh scripts/find_python.sh) && echo "setup: virtual environment ($$python)" && \
		rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@echo $(VENV) >$@

$(STAMPS)/python: requirements.lock $(STAMPS)/venv
	@echo "setup: Python packages"
	@$(PIP_INSTALL) --require-hashes --only-binary=:all: -r requirements.lock
	@touch $@

$(STAMPS)/package: pyproject.toml $(STAMPS)/python
	@echo "setup: standfast itself"
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(STAMPS)/dev: requirements-dev.lock $(STAMPS)/python
	@echo "setup: development tools"
	@$(PIP_INSTALL) --require-hashes --only-binary=:all: -r requirements-dev.lock
	@touch $@

$(STAMPS)/node: requirements-node.lock scripts/setup_node.sh $(wildcard bridge/package-lock.json) $(STAMPS)/venv
	@sh scripts/setup_node.sh $(VENV)
	@touch $@
