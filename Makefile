# `make help` lists what there is. Everything is installed into $(VENV); nothing needs activating.
SHELL := bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile
LOCKED := $(PIP) install --no-deps --require-hashes --requirement
export PYTHONNOUSERSITE := 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: quickstart
quickstart: ## install what it takes; fine-tune a small model on real data, measure it, serve it (12 minutes on 2 cores)
	@start=$$(date +%s) && $(MAKE) --no-print-directory $(VENV)/.quickstart && installed=$$(date +%s) && \
	PATH="$(CURDIR)/$(BIN):$$PATH" RUNS_DIR="$(CURDIR)/runs" bash recipes/quickstart/run.sh && finished=$$(date +%s) && \
	awk -v i=$$((installed - start)) -v r=$$((finished - installed)) \
		'BEGIN {printf "\nminutes: %.1f installing, %.1f for the run\n", i / 60, r / 60}'

.PHONY: install
install: $(VENV)/.dev ## install everything for development

.PHONY: test-deps
test-deps: ## install the programs that tests need (Chromium, a C++ compiler); as root on Debian or Ubuntu
	@bash scripts/test_deps.sh

.PHONY: lint
lint: $(VENV)/.dev ## formatting, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/python scripts/check_types.py

.PHONY: check
check: lint ## lint and the fast tests (under 5 minutes)
	@$(PYTEST) -m "not slow and not integration" --durations 5

.PHONY: test
test: lint test-deps ## lint and all tests but the slow ones (under 20 minutes)
	@$(PYTEST) -m "not slow" --durations 20

.PHONY: test-slow
test-slow: $(VENV)/.dev test-deps ## the slow tests
	@code=0; $(PYTEST) -m slow --durations 20 || code=$$?; \
	if [ $$code -eq 5 ]; then echo "0 passed, 0 failed"; else exit $$code; fi

.PHONY: bench
bench: $(VENV)/.dev ## the benchmarks behind docs/benchmarks.md (long)
	@set -e; for script in scripts/bench/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: bench-large
bench-large: $(VENV)/.dev ## search one million vectors, beside faiss (hours)
	@$(BIN)/python scripts/bench/index.py --large --install-peers

.PHONY: soak
soak: $(VENV)/.dev ## genai serve under mixed load for 30 minutes: memory, slots
	@$(BIN)/python scripts/soak.py

.PHONY: docs
docs: $(VENV)/.dev ## write anew what is generated in docs/
	@$(BIN)/python scripts/docs.py

.PHONY: clean
clean: ## remove what was built and cached here, but neither .venv nor runs
	@rm -rf build dist .build .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "genai needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@$(PYTHON) -m venv $(VENV)

# The lock comes first and torch last, so that nothing of the lock is taken without its hash. Which build of torch it is, the
# machine's index decides; TORCH="torch==2.13.0 --index-url ..." chooses another one.
define install_lock
	@echo "installing $(1) and $(TORCH) into $(VENV)"
	@$(LOCKED) $(1)
	@$(PIP) install $(TORCH)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(VENV)/.quickstart: requirements/quickstart.lock pyproject.toml | $(BIN)/python
	$(call install_lock,requirements/quickstart.lock)

$(VENV)/.dev: requirements/dev.lock pyproject.toml | $(BIN)/python
	$(call install_lock,requirements/dev.lock)
	@touch $(VENV)/.quickstart
