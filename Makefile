# `make quickstart` and `make test` work on a fresh machine: Python >= 3.11 with venv, make, a C compiler.
# Both build .venv when it is missing or when pyproject.toml or constraints.txt changed.

PYTHON ?= python3
SEED ?= 0
TASK ?= chain_sum
JOBS ?= 3
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed

# One thread per process: small models lose more to thread hand-over than they gain, and another number of
# threads gives other last bits.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help install quickstart real-model test tests lint format site clean

help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(STAMP) ## Build .venv (every other target does this by itself)

quickstart: $(STAMP) ## Train a small model by SFT, then TraceRL; SEED=3, TASK=countdown
	$(BIN)/unmask quickstart --seed $(SEED) --task $(TASK)

real-model: $(STAMP) ## A published model all the way on this CPU: an hour or more; SEED=1
	cd benchmarks && ../$(BIN)/python real_model.py --seed $(SEED)

# pyright runs while tests wait for sandboxed programs and time limits: alone it keeps one core idle for a minute.
test: $(STAMP) ## Lint, types and the whole test suite; ARGS="-k layout" to choose tests
	@$(MAKE) --no-print-directory -j 2 tests lint

tests: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lint: $(STAMP) ## ruff check, ruff format --check, pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python

format: $(STAMP) ## Fix what ruff can fix; write the schemas of configs/ and the drawing of the imports again
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	for kind in sft dpo reward-model rl eval; do $(BIN)/unmask config $$kind --schema > configs/$$kind.schema.json; done
	$(BIN)/python -m tools.site.layers > docs/architecture.svg

# PATH: ruff formats the signatures of the reference. The theme warns at each start that mkdocs will have no version 2.
site: $(BIN)/../.site-installed ## Build the documentation site into site/
	PYTHONPATH=src $(BIN)/python -m tools.site build/docs
	PATH="$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(BIN)/python -m mkdocs build --strict

$(BIN)/../.site-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

clean: ## Remove .venv and caches; runs/ stays
	rm -rf .venv build site .pytest_cache .ruff_cache .hypothesis src/unmask.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "unmask needs Python >= 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into .venv (about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,tensorboard,kernels,puzzles,gguf,serve,vision]'
	@touch $@
