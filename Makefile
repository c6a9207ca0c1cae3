# make demo · make test · make check · make bench: each sets up what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FAISS  ?= cpu

.PHONY: demo test test-chaos test-label-studio test-datumaro check \
	bench bench-embed bench-overhead schema clean bench-cluster bench-labels bench-manifests test-browser bench-report
.DELETE_ON_ERROR:

# Installed again only when pyproject.toml or constraints.txt change.
INSTALLED := $(VENV)/.installed-$(FAISS)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -f $(VENV)/.installed-*
	$(BIN)/python -m pip uninstall --quiet --yes faiss-cpu faiss-gpu-cu12 2> /dev/null
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(FAISS)]"
	touch $@

$(VENV)/.installed-dev: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(FAISS),s3,dev]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m jobs.run_demo --config configs/demo.yaml

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

# The whole fault harness, about half an hour; writes what it has measured.
test-chaos: $(VENV)/.installed-dev
	CHAOS_RESULTS=tests/chaos/RESULTS.md $(BIN)/python -m pytest tests/chaos -m "chaos or not chaos"

# Real tools: each in an environment of its own, since they pin what others need newer.
LABEL_STUDIO ?= .venv-label-studio
DATUMARO     ?= .venv-datumaro

$(LABEL_STUDIO)/bin/label-studio:
	$(PYTHON) -m venv $(LABEL_STUDIO)
	$(LABEL_STUDIO)/bin/python -m pip install --quiet "label-studio>=1.23"

test-label-studio: $(VENV)/.installed-dev $(LABEL_STUDIO)/bin/label-studio
	LABEL_STUDIO=$(abspath $(LABEL_STUDIO)) LABEL_STUDIO_DATA=$(abspath $(LABEL_STUDIO))/data \
		$(BIN)/python -m pytest -m label_studio tests/tools

$(DATUMARO)/bin/datum:
	$(PYTHON) -m venv $(DATUMARO)
	$(DATUMARO)/bin/python -m pip install --quiet "datumaro>=1.13.12"

test-datumaro: $(VENV)/.installed-dev $(DATUMARO)/bin/datum
	DATUMARO=$(abspath $(DATUMARO)) $(BIN)/python -m pytest -m datumaro tests/tools

# Needs an installed Chromium; CHROMIUM=/path/to/it when it has another name. Writes the pictures of the README.
test-browser: $(VENV)/.installed-dev demo
	$(BIN)/python -m pytest tests/report/test_browser.py -m "browser or not browser"

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: bench-embed

bench-embed: $(VENV)/.installed-dev
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.embed

bench-overhead: $(VENV)/.installed-dev
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.overhead

bench-cluster: $(VENV)/.installed-dev
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.clustering
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.clustering_choice
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.clustering_groups
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.clustering_determinism
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.clustering_scale 1 4 10

STAMPS ?= /usr/share/tuxpaint/stamps

bench-labels: $(VENV)/.installed-dev
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.label_yield \
		$(if $(wildcard $(STAMPS)),--images $(STAMPS))

bench-manifests: $(VENV)/.installed-dev
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.manifest_scale

bench-report: $(VENV)/.installed-dev
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.report

schema: $(INSTALLED)
	$(BIN)/python -c "from clusterlib.config import json_schema; print(json_schema(), end='')" > configs/schema.json

clean:
	rm -rf $(VENV) build *.egg-info
