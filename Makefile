# Commands for a fresh clone. VENV names the virtual environment, PYTHON the interpreter that creates it.
VENV ?= .venv
PYTHON ?= python3
BIN := $(abspath $(VENV))/bin
# The name changes with the dependencies, so that the set-up runs again only when they change.
INSTALLED ?= $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
export PATH := $(BIN):$(PATH)
# Containers often disable bytecode; each of a test run's hundreds of processes would then recompile all modules.
export PYTHONDONTWRITEBYTECODE :=
# Two of the modules left out are imported by benchmarks/train.py; kill_export.py needs a project with features.
BENCHMARKS := $(filter-out %/generated.py %/training_times.py %/kill_export.py, $(wildcard benchmarks/*.py))

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint types unit unit-all bench constraints clean
# Modules run in path order, end_to_end/ first: a long one at the end would leave the other cores idle.
PYTEST := python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

help: ## list these verbs
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with the pinned dependencies and mmprep itself

$(INSTALLED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mmprep needs Python 3.11 or newer; found " + sys.version.split()[0] + ". Name one: make install PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	rm -f $(VENV)/.installed-*
	touch $(INSTALLED)

demo: install ## run the whole pipeline on the sample data and show the results
	@python -m mmprep.stages.experiments.dvc_lock
	dvc repro
	mmprep report

test: install lint ## lint, types and all tests but the long ones
	$(MAKE) --jobs 2 types unit

test-all: install lint ## lint, types and all tests, as .ci/run does
	$(MAKE) --jobs 2 types unit-all

lint: install ## ruff, and import-linter's contracts
	ruff check
	ruff format --check
	lint-imports --no-logo

types: install ## mypy, strict
	mypy
	mypy benchmarks examples

unit: install ## all tests but the long ones, on up to four cores
	$(PYTEST) -m 'not long'

unit-all: install ## all tests, on up to four cores
	$(PYTEST)

bench: install ## run every benchmark with its defaults, each against its reference
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@for script in $(BENCHMARKS); do echo "# $$script"; python $$script || exit 1; done

constraints: install ## write constraints.txt from the installed versions
	echo '# The exact versions that the tests run with; pip install -c constraints.txt. Made by `make constraints`.' > constraints.txt.new
	python -m pip freeze --all --exclude-editable | grep -v '^pip==' >> constraints.txt.new
	mv constraints.txt.new constraints.txt

clean: ## remove outputs of stages and tools, but not the raw data and .venv
	rm -rf data/code data/parameters data/interim data/processed data/features data/graphs data/modalities data/runs data/seeds data/searches data/metrics data/denoised data/experiments data/plots dvc_plots .dvc/tmp/experiments
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
