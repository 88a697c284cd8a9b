# Each target sets up .venv first; python3 (3.11 or newer, with venv) and make are enough.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
READY := .venv/.ready

# Tests start many servers, which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo serve test test-full conformance clients check bench lock

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: $(READY) ## load real data into three buckets, query them, serve (ARGS=--once: end after the query)
	@exec $(BIN)/flight-server demo $(ARGS)

serve: $(READY) ## serve with the default settings (ARGS="--port 0 --config F")
	@exec $(BIN)/flight-server serve $(ARGS)

test: $(READY) ## run the tests (under two minutes)
	@exec $(BIN)/pytest -q -n 2 --dist loadfile $(ARGS)

test-full: $(READY) ## run what make test leaves out: slow tests, those with real services and clients
	-@$(MAKE) --no-print-directory -k -C tests/clients
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "full and not stress" $(ARGS)
	@exec $(BIN)/pytest -q -m stress $(ARGS)

conformance: $(READY) ## run the conformance suite (URI=grpc://host:port: against any Flight SQL server)
	@exec $(BIN)/pytest -q tests/conformance $(if $(URI),--flight-sql-uri $(URI)) $(ARGS)

clients: ## install the third-party clients that test-full runs (.clients)
	@$(MAKE) --no-print-directory -j2 -C tests/clients

check: $(READY) ## check format, lint, types and layers
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(READY) .venv/.bench ## measure
	@exec $(BIN)/python -m benchmarks $(ARGS)

.venv/.bench: requirements-bench.txt | $(READY)
	@$(PIP) install --quiet --require-hashes --no-deps --no-build-isolation -r requirements-bench.txt \
	  || echo "hnswlib cannot be compiled here: rows that compare with it are left out" >&2
	@touch $@

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet

lock: ## write the pinned requirements anew from pyproject.toml (needs uv)
	$(LOCK) pyproject.toml --extra dev --extra text --extra report --output-file requirements.txt
	$(LOCK) requirements-demo.in --no-deps --output-file requirements-demo.txt
	$(LOCK) requirements-bench.in --no-deps --output-file requirements-bench.txt

PIP := $(BIN)/python -m pip --disable-pip-version-check

$(READY): requirements.txt requirements-demo.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; say which with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv is missing; install it, for example: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up .venv (once; about a minute)"
	@rm -f $(READY)
	@$(PYTHON) -m venv .venv
	@{ $(PIP) install --progress-bar off --require-hashes -r requirements.txt && touch $(READY).installed; } \
	  | awk '/^Collecting/ { n++ } /^Collecting/ && n % 5 == 0 { printf "  %d", n; fflush() } \
	         /^Installing/ { printf "  %d packages, installing", n; fflush() } END { print "" }'
	@rm $(READY).installed
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements-demo.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)
