# Every target works on a fresh clone: what it needs is installed first.
.DEFAULT_GOAL := help
.PHONY: help run demo test check bench screenshots images lock clean

PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9
export PYTHONUNBUFFERED := 1

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: .venv/.run ## start the portal on http://localhost:3000
	@exec $(BIN)/python -m portal

demo: .venv/.run ## the same with a demo user and a scripted provider: no key, no internet
	@exec $(BIN)/python -m demo

test: .venv/.test .venv/.servers ## run the whole suite
	@exec $(BIN)/python -m tests

check: .venv/.test ## lint, format, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: .venv/.test ## measure, print a table, write benchmarks/results/*.json
	@exec $(BIN)/python -m benchmarks

screenshots: .venv/.test ## take the pictures of README and docs
	@exec $(BIN)/python -m tests.screenshots

images: .venv/.test ## build and run both container images
	@exec $(BIN)/python -m deploy.images

lock: .venv/.test ## pin the requirements again from pyproject.toml
	$(BIN)/uv pip compile -q $(LOCK) pyproject.toml -o requirements-alchat.txt
	$(BIN)/uv pip compile -q $(LOCK) pyproject.toml --extra portal -c requirements-alchat.txt -o requirements.txt
	$(BIN)/uv pip compile -q $(LOCK) pyproject.toml --extra portal --group test -c requirements.txt -o requirements-test.txt
	$(BIN)/uv pip compile -q $(LOCK) --group servers -o requirements-servers.txt
LOCK := --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock'

clean: ## remove the virtual environment and caches; data and keys stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/.uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

# The test environment holds everything that running needs, so either stamp will do for `run`.
.venv/.run: requirements.txt | .venv/.uv
	@test -e .venv/.test && test ! .venv/.test -ot requirements-test.txt || \
	  $(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode -r $<
	@touch $@

.venv/.test: requirements-test.txt | .venv/.uv
	$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode -r $<
	@touch $@ .venv/.run

# One of them is of npm, on the Node that is among the others.
.venv/.servers: requirements-servers.txt tests/oidc_provider/package-lock.json | .venv/.uv
	$(BIN)/uv venv -q --allow-existing .venv/servers
	$(BIN)/uv pip install -q --python .venv/servers/bin/python --compile-bytecode -r $<
	mkdir -p .venv/servers/oidc_provider
	cp tests/oidc_provider/package.json tests/oidc_provider/package-lock.json .venv/servers/oidc_provider
	cd .venv/servers/oidc_provider && ../bin/npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@
