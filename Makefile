# Needs make and python3 >= 3.11; everything else goes into .venv. `make` alone lists the targets.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
ARGS   ?=
JOBS   ?= auto

# A stamp is named after the content of pyproject.toml, so an install happens once per set of dependencies.
KEY    := $(shell cksum < pyproject.toml | cut -d' ' -f1)
STAMP  := $(VENV)/.installed-$(KEY)

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint bench emulators docs mutants clean distclean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(STAMP)  ## make .venv and install shohin into it

demo: $(STAMP)  ## train, compress and run a small network
	$(VENV)/bin/shohin demo $(ARGS)

test: $(STAMP)-test  ## the fast tests; ARGS="-k name" is passed to pytest, JOBS=1 runs one at a time
	$(PY) -m pytest -n $(JOBS) --maxprocesses 4 --dist worksteal $(ARGS)

test-all: $(STAMP)-test  ## all tests, the slow ones too
	$(PY) -m pytest -n $(JOBS) --maxprocesses 4 --dist worksteal -m "" $(ARGS)

lint: $(STAMP)-lint  ## ruff, pyright (basic, then strict for the lower layers), import directions
	@failed=0; for check in "ruff check ." "pyright" "pyright -p pyright.strict.json" \
	  "pytest -q tests/test_imports.py"; do \
	  echo "$(PY) -m $$check"; $(PY) -m $$check || failed=1; done; exit $$failed

bench: $(STAMP)  ## the benchmarks, peers in .venv-peers; ARGS="train ds-cnn" asks one question
	$(PY) -m bench $(ARGS)

mutants: $(STAMP)-test  ## break the code on purpose and see the tests notice
	$(PY) -m tests.mutants $(ARGS)

docs: $(STAMP)  ## build the documentation into site/; a warning is an error
	$(PY) -m pip install -q -e '.[docs]'
	$(PY) -m mkdocs build --strict

emulators:  ## qemu-system-arm, qemu-user, gcc and libc headers, from Debian (REQUIRE_EMULATORS=1: fail without)
	@sh tests/emulators.sh

clean:  ## remove caches and build products
	rm -rf build dist site .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## remove .venv and .venv-peers as well
	rm -rf $(VENV) .venv-peers

# Debian keeps ensurepip in a package of its own; as root it is installed, otherwise the message says how.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "shohin needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1); use make PYTHON=..." >&2; exit 1; }
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get install -qy --no-install-recommends python3-venv || \
	    { apt-get update -q && apt-get install -qy --no-install-recommends python3-venv; }; \
	  else echo "$(PYTHON) has no venv module: apt-get install python3-venv" >&2; exit 1; fi; fi
	$(PYTHON) -m venv $(VENV)

$(STAMP): | $(PY)
	$(PY) -m pip install -q -e .
	@touch $@

$(STAMP)-test: | $(PY)
	$(PY) -m pip install -q -e '.[test]'
	@touch $@ $(STAMP)

$(STAMP)-lint: | $(PY)
	$(PY) -m pip install -q -e '.[test,lint]'
	@touch $@ $(STAMP)-test $(STAMP)
