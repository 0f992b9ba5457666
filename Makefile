# make demo | make test work as the first command in a fresh clone; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test check browser bench clean

help:  ## say what there is
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/'

setup: .venv/installed  ## create .venv and install what requirements.lock pins

# torch first: a looser first request may fetch another build
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -E '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: setup  ## the whole line on the embedded benchmark and model: vanilla, GA, GD, KL, PO with and without PD
	$(BIN)/safeeraser bench --questions 1 --out runs/demo

check: setup  ## ruff, mypy, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check browser  ## check + tests, one process per core
	$(BIN)/python -m pytest -n auto --dist loadfile $(shell command -v chromium > /dev/null || echo '-m "not browser"')

# on a person's machine nothing is installed unasked
browser:  ## say how to get Chromium, which shows the report in tests; in CI (Debian, root) install it
	@command -v chromium > /dev/null || { [ -n "$$CI" ] && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
		apt-get update -qq && apt-get install -y -qq chromium > /dev/null; } || \
		echo "no chromium: the report's tests in a browser are left out (Debian: sudo apt-get install chromium)"

bench: setup  ## speed benchmarks
	$(BIN)/python benchmarks/speed.py

clean:  ## remove caches, keep .venv and runs
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
