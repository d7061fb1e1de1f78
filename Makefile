# Warren's commands; `make` alone lists them.

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# Apart from the others, so that it changes nothing that is tested.
AUDIT := $(VENV)/audit/bin/pip-audit
PIP_AUDIT := pip-audit==2.10.1
# What the image holds beside the bare processes.
IMAGE_EXTRAS := canary otel
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --no-emit-index-url --no-emit-find-links --no-header --generate-hashes
# Says something even where all is well.
DEPTRY := $(VENV)/bin/deptry --no-ansi
# What the wheel holds.
PACKAGES := contracts edge infra workers
# What `make check` and `make test` check before they run tests, and how: two at a time, the output of each in one piece.
CHECKS := lint types web-check
IN_PARALLEL = $(MAKE) --no-print-directory --jobs=2 --output-sync=target
# How `make test` runs tests: in two processes, as most of a test's time is waiting. Each has a Warren of its own. The
# tests of a file stay together, and slow folders come first, so that both processes end at about the same time.
SIDE_BY_SIDE := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
# What puts load on a Warren or measures times: these tests run afterwards, one at a time.
MEASURING := tests/abuse tests/browser tests/faults tests/e2e/test_security.py
# The official JavaScript client, which tests talk to edges with.
JS := tests/js
JS_INSTALLED := $(JS)/node_modules/.installed
# The system on Node that `make bench` compares Warren with.
PEER := infra/bench/peers/node
PEER_INSTALLED := $(PEER)/node_modules/.installed
# The web client; Node comes with the Python packages.
WEB := web
WEB_INSTALLED := $(WEB)/node_modules/.installed
PAGE := $(WEB)/dist/.built
WEB_SOURCES := $(shell find $(WEB)/src $(WEB)/public $(WEB)/scripts -type f 2>/dev/null) \
	$(wildcard $(WEB)/*.json $(WEB)/*.ts $(WEB)/*.html) docs/schema/protocol.json
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup run cluster rolling services services-stop web wheel web-check chromium promtool redis check test unit test-rabbitmq4 load bench faults abuse fuzz audit lint types format docs lock release-notes clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) $(JS_INSTALLED) $(PAGE) chromium promtool ## Install what is missing: packages, the page, a browser for tests

run: $(INSTALLED) $(PAGE) ## Run all of Warren in the foreground: services, two edges, four workers
	@$(PYTHON) -m infra.local.run $(ARGS)

cluster: $(INSTALLED) $(PAGE) ## Run a whole cluster in the foreground: three of each service, three edges, two of each worker
	@$(PYTHON) -m infra.local.run_cluster $(ARGS)

rolling: $(INSTALLED) ## Restart each part of such a cluster under load, then drain a backlog; print what clients noticed
	@$(PYTHON) -m tests.faults.rolling $(ARGS)

services: $(INSTALLED) ## Start RabbitMQ and MongoDB in the background and print their URLs
	@$(PYTHON) -m infra.local start

services-stop: $(INSTALLED) ## Stop them
	@$(PYTHON) -m infra.local stop

web: $(PAGE) ## Build the web client

wheel: $(INSTALLED) $(PAGE) ## Build a wheel in dist/, with the web client in it
	@$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

web-check: $(WEB_INSTALLED) ## Check the web client: types, style, generated protocol, unit tests
	@cd $(WEB) && npm run --silent check && npm test --silent

chromium: # What the browser tests drive; Debian's package, as Playwright's own download has no place here.
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& echo 'Installing Chromium.' && { apt-get install -qq -y --no-install-recommends chromium >/dev/null 2>&1 \
		|| { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; }; }; } \
		|| { echo 'The browser tests need Chromium (Debian: apt-get install chromium).'; exit 1; }

promtool: # What the tests of alerts run; Debian's package, whose service must not start (RUNLEVEL=1, and policy-rc.d where set).
	@command -v promtool >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& echo 'Installing Prometheus for promtool.' && export RUNLEVEL=1 && { apt-get install -qq -y \
		--no-install-recommends prometheus >/dev/null 2>&1 || { apt-get update -qq \
		&& apt-get install -qq -y --no-install-recommends prometheus >/dev/null; }; } \
		&& { ! test -d /run/systemd/system || systemctl disable --now prometheus; }; } \
		|| { echo 'The tests of alerts need promtool (Debian: apt-get install prometheus).'; exit 1; }

check: $(INSTALLED) $(WEB_INSTALLED) ## Check style, types, the web client and the unit tests; needs no service, takes under a minute
	@$(IN_PARALLEL) $(CHECKS) unit

test: setup ## Make the same checks, then run all tests (they start the services they need)
	@$(IN_PARALLEL) $(CHECKS)
ifdef ARGS
	@$(PYTHON) -m pytest $(ARGS)
else
	@failed=0; $(PYTHON) -m pytest $(SIDE_BY_SIDE) $(MEASURING:%=--ignore=%) || failed=1; \
		$(PYTHON) -m pytest $(MEASURING) || failed=1; exit $$failed
endif

unit: $(INSTALLED) ## Run the unit tests
	@$(PYTHON) -m pytest --quiet tests/unit $(ARGS)

test-rabbitmq4: setup ## Run the broker-facing tests against RabbitMQ 4, in a Debian root of its own (takes root's rights)
	@$(PYTHON) -m tests.run_with_rabbitmq4 $(ARGS)

load: $(INSTALLED) ## Measure throughput and latency on this machine, or put load on a cluster (ARGS='--edge URL …')
	@$(PYTHON) -m infra load $(ARGS)

redis: # The Node peer of `make bench` needs it; RUNLEVEL=1 keeps Debian from starting the system's own.
	@command -v redis-server >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& echo 'Installing Redis.' && export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
		&& { apt-get install -qq -y --no-install-recommends redis-server >/dev/null 2>&1 \
		|| { apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server >/dev/null; }; }; } \
		|| { echo 'The benchmark needs redis-server (Debian: apt-get install redis-server).'; exit 1; }

bench: $(INSTALLED) $(PEER_INSTALLED) redis ## Compare Warren with other systems, draw the charts (under 30 min)
	@$(PYTHON) -m infra.bench.benchmark $(ARGS)

faults: $(INSTALLED) ## Break each part under load, and compare what clients, store and server say afterwards
	@$(PYTHON) -m tests.faults $(ARGS)

abuse: $(INSTALLED) ## Attack a running Warren in every way, and measure what bystanders notice (8 min)
	@$(PYTHON) -m tests.abuse $(ARGS)

fuzz: $(INSTALLED) ## Send random frames, payloads and events of several users for about half an hour
	@$(PYTHON) -m pytest tests/fuzz --hypothesis-profile=long --timeout=3600 $(ARGS)

audit: $(INSTALLED) $(AUDIT) ## Find known vulnerabilities in dependencies and unsafe code (needs network; ARGS=--strict)
	@$(PYTHON) .ci/audit.py $(ARGS)

lint: $(INSTALLED) ## Check style, unsafe code, and that what is imported is declared
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/ruff check --quiet
	@said=$$($(DEPTRY) . 2>&1) || { echo "$$said"; exit 1; }
	@said=$$($(DEPTRY) $(PACKAGES) --optional-dependencies-dev-groups dev --ignore DEP002 2>&1) || { echo "$$said"; exit 1; }

types: $(INSTALLED) ## Check types
	@$(VENV)/bin/mypy

format: $(INSTALLED) ## Put the code into style
	@$(VENV)/bin/ruff check --fix --quiet
	@$(VENV)/bin/ruff format

docs: $(INSTALLED) ## Write what is generated: schemas, channels, the dashboard, scaling
	@$(PYTHON) -m contracts
	@$(PYTHON) -m infra.deploy.dashboard
	@$(PYTHON) -m infra.bench.scaling_document

lock: $(INSTALLED) ## Resolve requirements.lock anew from pyproject.toml, and the image's from that
	@$(VENV)/bin/pip install -qq uv
	@$(COMPILE) --python-version 3.11 --all-extras --output-file requirements.lock pyproject.toml
	@$(COMPILE) --python-version 3.13 --constraint requirements.lock $(IMAGE_EXTRAS:%=--extra %) \
		--output-file infra/deploy/requirements.lock pyproject.toml

release-notes: $(INSTALLED) ## Print what a release says, or what it lacks (ARGS=v1.2.3)
	@$(PYTHON) .ci/release.py $(ARGS)

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

%/node_modules/.installed: %/package-lock.json $(INSTALLED)
	@echo 'Installing JavaScript packages into $*.'
	@cd $* && npm ci --silent --no-audit --no-fund
	@touch $@

$(PAGE): $(WEB_INSTALLED) $(WEB_SOURCES)
	@echo 'Building the page.'
	@cd $(WEB) && npm run --silent build
	@touch $@

$(AUDIT): $(INSTALLED)
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/pip install -qq --disable-pip-version-check $(PIP_AUDIT)
	@touch $@
