# make demo   from a fresh clone: set up, then run the whole pipeline on the demo scenes
# make demo-pretrain   then train a small backbone on its labels
# make test   from a fresh clone: set up, then run the tests
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CORES ?= 2
# a file's tests stay in one process, where they share what they have made
PYTEST := $(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder
# MODELS=sam, and regions where SAM's weights cannot be had; regions needs none; embedded and random drive SAM2 and HyperFree
# with small networks, trained and untrained
MODELS ?= sam
CONFIG := $(if $(filter sam,$(MODELS)),config/config.yaml,config/$(MODELS).yaml)
RESULTS := $(if $(filter sam,$(MODELS)),results,results-$(MODELS))

# one line per stage, also into a file; what the run has made is said by the last verb
SNAKEMAKE := HVLABEL_SHOW=stages $(BIN)/snakemake --cores $(CORES) --no-hooks

# Snakemake needs a cache folder; where the home cannot be written it is here, and weights fetched before stay where they are
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
ifeq ($(shell mkdir -p '$(CACHE)' 2>/dev/null && test -w '$(CACHE)' && echo yes),)
ifneq ($(wildcard $(CACHE)/hvlabel/models),)
export HVLABEL_MODELS ?= $(CACHE)/hvlabel/models
endif
export XDG_CACHE_HOME := $(CURDIR)/.cache
endif

.PHONY: help install models demo demo-pretrain demo-downstream unlock test test-slow check format bench docs lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

install: $(READY) models  ## the environment in .venv, and SAM's weights in the model cache

# compiled here: where PYTHONDONTWRITEBYTECODE is set, or .venv is read-only, each process would compile torch anew (5 s)
$(READY): requirements/lock.txt requirements/sam2.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) on PATH: install Python 3.11, or run make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/lock.txt
	SAM2_BUILD_CUDA=0 $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-build-isolation --no-deps --require-hashes -r requirements/sam2.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e .
	@touch $@

models: $(READY)  ## SAM's weights, fetched once into the model cache and verified
	@$(BIN)/hvlabel models fetch --optional

demo: $(READY) $(if $(filter sam,$(MODELS)),models)  ## the whole pipeline on twelve generated scenes (MODELS=sam, regions, embedded or random)
	@$(SNAKEMAKE) --configfile $(CONFIG) -- pseudolabels
	@$(BIN)/hvlabel evaluate --results $(RESULTS) > /dev/null
	@$(BIN)/hvlabel summary --results $(RESULTS)
	@echo "scores:   $(RESULTS)/evaluation.tsv"

demo-pretrain: $(READY) models  ## a small backbone, trained on the demo's labels and evaluated
	@$(SNAKEMAKE) --configfile config/config.yaml -- pretrain
	@$(BIN)/hvlabel summary --results results

demo-downstream: $(READY) models  ## materials of generated scenes, segmented by heads on that backbone, frozen
	@$(SNAKEMAKE) --configfile config/config.yaml -- downstream
	@cat results/downstream/runs/compare.md
	@echo "picture:  results/downstream/runs/demo_materials/demo.linear.features.labels100.seed0/examples.png"

unlock: $(READY)  ## forget a run that was killed on another machine (RESULTS=folder)
	@$(BIN)/hvlabel unlock --results $(RESULTS)

test: $(READY) models  ## the tests
	$(PYTEST) -m "not slow"

test-slow: $(READY) models  ## the tests that take minutes
	$(PYTEST) -m slow

check: $(READY)  ## linters and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check workflow
	$(BIN)/mypy
	$(BIN)/snakemake --lint

format: $(READY)  ## format code and rules
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .
	$(BIN)/snakefmt workflow

bench: $(READY)  ## measurements; rows are appended to bench/ledger.csv
	$(BIN)/python bench/nms.py
	$(BIN)/python bench/convert.py
	$(BIN)/python bench/layouts.py
	$(BIN)/python bench/crops.py
	$(BIN)/python bench/masks.py
	$(BIN)/python bench/loading.py

docs: $(READY)  ## the tables of docs/SETTINGS.md, from the settings models
	$(BIN)/python docs/settings.py

lock: $(READY)  ## renew the pinned versions
	$(BIN)/uv pip compile --quiet pyproject.toml --extra test --extra dev --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements/lock.txt
	$(BIN)/python requirements/conda.py

clean:  ## remove results and the environment
	rm -rf results results-regions results-embedded results-random results-scenes .snakemake $(VENV)
