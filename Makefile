# Warren's commands; `make` alone lists them.

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# The official JavaScript client, which tests talk to edges with.
JS := tests/js
JS_INSTALLED := $(if $(wildcard $(JS)/package-lock.json),$(JS)/node_modules/.installed)

.DEFAULT_GOAL := help
.PHONY: help setup run services services-stop test load lint types format docs lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) $(JS_INSTALLED) ## Install what is missing: Python packages, the JavaScript test client

run: $(INSTALLED) ## Run all of Warren in the foreground: services, two edges, four workers
	@$(PYTHON) -m infra.local.run $(ARGS)

services: $(INSTALLED) ## Start RabbitMQ and MongoDB in the background and print their URLs
	@$(PYTHON) -m infra.local start

services-stop: $(INSTALLED) ## Stop them
	@$(PYTHON) -m infra.local stop

test: setup lint types ## Check style and types, then run the tests (they start the services they need)
	@$(PYTHON) -m pytest $(ARGS)

load: $(INSTALLED) ## Measure throughput and latency
	@$(PYTHON) -m tests.load $(ARGS)

lint: $(INSTALLED) ## Check style
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/ruff check --quiet

types: $(INSTALLED) ## Check types
	@$(VENV)/bin/mypy

format: $(INSTALLED) ## Put the code into style
	@$(VENV)/bin/ruff check --fix --quiet
	@$(VENV)/bin/ruff format

docs: $(INSTALLED) ## Write what is generated from contracts/
	@$(PYTHON) -m contracts

lock: $(INSTALLED) ## Resolve requirements.lock anew from pyproject.toml
	@$(VENV)/bin/pip install -qq uv
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
		--no-header --generate-hashes --all-extras --output-file requirements.lock pyproject.toml

clean: ## Remove caches; data in .stack and the environment in .venv stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -not -path './$(VENV)/*' -not -path '*/node_modules/*' -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock
	@test -x $(PYTHON) || for python in python3.11 python3.12 python3.13 python3; do \
		$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
			&& $$python -m venv $(VENV) && break; \
	done; test -x $(PYTHON) || { echo 'Python 3.11, 3.12 or 3.13 with venv is needed (Debian: apt-get install python3-venv).'; exit 1; }
	@echo 'Installing Python packages into $(VENV).'
	@$(VENV)/bin/pip install -qq --disable-pip-version-check --require-hashes --requirement requirements.lock
	@touch $@

$(JS)/node_modules/.installed: $(JS)/package-lock.json
	@cd $(JS) && npm ci --silent --no-audit --no-fund
	@touch $@
