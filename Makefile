# `make serve` and `make test` need Python 3.11 or newer and make. They install the rest, in .venv.
#
#   make serve MAHAVISHNU_PORT=9000      any variable of docs/configuration.md
#   make serve PROCESSES=4               several server processes behind one port
#   make test ARGS="-k subscribe -x"     arguments for pytest; -n 0 runs all tests in one process
#   make test CHROMIUM=/opt/chromium     the browser of the tests
#   make serve PYTHON=/opt/python3.12    the interpreter for .venv

.DEFAULT_GOAL := help
.PHONY: help serve test chaos lint format clients picture vendor bench mutants lock clean
.DELETE_ON_ERROR:

BIN := .venv/bin

# The name of a stamp contains the checksum of its lock file: a changed file installs again, an unchanged one does not.
# Before an installation the stamps of other packages are removed: after a change to and fro it installs again too.
RUNTIME := .venv/.runtime-$(shell cat requirements.lock | cksum | tr -dc 0-9)
DEVELOPMENT := .venv/.development-$(shell cat requirements-dev.lock | cksum | tr -dc 0-9)
CHROMIUM_FOUND := .venv/.chromium
TYPESCRIPT := .venv/.typescript-$(shell cat tests/javascript/typescript/package-lock.json 2>/dev/null | cksum | tr -dc 0-9)

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

# One lock for every system and Python from 3.11 on, without the address of a package index.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade

help:
	@echo 'make serve   start everything, and print the address of the page; Ctrl-C stops it'
	@echo 'make test    run every test, on SQLite and on Postgres'
	@echo 'make chaos   run the slow proofs: many runs, long outages, many random steps'
	@echo 'make lint    check style, types, import contracts, settings and migrations'
	@echo 'make format  format the code'
	@echo 'make clients write the typed messages of the clients, and copy the JavaScript client to where it is served'
	@echo 'make vendor  copy the JavaScript libraries of the pages from npm'
	@echo 'make picture take the picture of the overview for the README'
	@echo 'make bench   measure speed and memory, also of alternatives (ARGS: names, --rounds N)'
	@echo 'make mutants put faults into a copy of the code, and check that a test fails for each'
	@echo 'make lock    pin the newest versions that the requirements allow, with hashes'
	@echo 'make clean   remove .venv and the files of tools; the data in var is kept'

serve: $(RUNTIME)
	@exec $(BIN)/python manage.py serve $(if $(PROCESSES),--processes $(PROCESSES))

# Many tests wait for servers and workers, so two test processes more than there are cores keep the cores busy. The
# tests that run again on Postgres do not wait.
# Arguments may select no test for Postgres; pytest exits with 5 then.
test chaos: PYTEST = $(BIN)/python -m pytest --dist worksteal
test chaos: CORES = $$(getconf _NPROCESSORS_ONLN)
# With compiled modules a test process collects the tests in two thirds of the time.
test chaos: export PYTHONDONTWRITEBYTECODE =
test: $(DEVELOPMENT) $(CHROMIUM_FOUND)
	$(PYTEST) -n $$(($(CORES) + 2)) $(ARGS)
	$(PYTEST) -n $(CORES) --database=postgres -m 'both_databases and not chaos' $(ARGS) $(if $(ARGS),|| test $$? -eq 5)

chaos: $(DEVELOPMENT) $(CHROMIUM_FOUND)
	$(PYTEST) -n $(CORES) -m chaos --timeout 1800 $(ARGS)

lint: $(DEVELOPMENT) $(TYPESCRIPT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd clients/python && ../../$(BIN)/lint-imports
	$(BIN)/python -m tests.javascript.script_checks
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python manage.py makemigrations --check --dry-run

format: $(DEVELOPMENT) $(TYPESCRIPT)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tests.javascript.script_checks format

clients: $(DEVELOPMENT)
	DJANGO_SETTINGS_MODULE=mahavishnu_site.settings $(BIN)/python clients/generate.py
	cp clients/javascript/mahavishnu.js realtime/static/realtime/clients/*/

vendor: $(DEVELOPMENT)
	$(BIN)/python -m tests.javascript.vendor

picture: $(DEVELOPMENT) $(CHROMIUM_FOUND)
	$(BIN)/python -m tests.dashboard.picture

bench: $(DEVELOPMENT)
	$(BIN)/python -m benchmarks $(ARGS)

mutants: $(DEVELOPMENT)
	$(BIN)/python -m tests.faults $(ARGS)

# Not a requirement of the tests: uv is installed here only. It reads its index from UV_DEFAULT_INDEX, not from pip.
lock: | $(BIN)/pip
	@$(PIP_INSTALL) 'uv~=0.13.9'
	$(LOCK) requirements-dev.txt --output-file requirements-dev.lock
	$(LOCK) requirements.txt --constraints requirements-dev.lock --output-file requirements.lock

clean:
	rm -rf .venv build *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

$(BIN)/pip:
	@for python in $(PYTHON) python3.11 python3 python3.12 python3.13 python3.14; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "Creating .venv with $$python"; \
	        exec "$$python" -m venv .venv; \
	    fi; \
	done; \
	echo 'Python 3.11 or newer was not found. Use make PYTHON=/path/to/python3.' >&2; \
	exit 1

$(RUNTIME): | $(BIN)/pip
	@echo 'Installing the requirements of the server into .venv'
	@rm -f .venv/.runtime-* $(filter-out $(DEVELOPMENT),$(wildcard .venv/.development-*))
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@touch $@

$(DEVELOPMENT): | $(BIN)/pip
	@echo 'Installing the requirements of the server and its tests into .venv'
	@rm -f .venv/.runtime-* .venv/.development-*
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@ $(RUNTIME)

$(TYPESCRIPT): | $(DEVELOPMENT)
	@rm -f .venv/.typescript-*
	@$(BIN)/python -m tests.javascript.script_checks install
	@touch $@

# Without a browser the other tests run, and the next run tries again.
$(CHROMIUM_FOUND): | $(DEVELOPMENT)
	@if $(BIN)/python -m tests.harness.chromium; then touch $@; fi
