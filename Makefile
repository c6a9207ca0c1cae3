# make demo · make test · make check · make bench: each sets up what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FAISS  ?= cpu

.PHONY: demo test check test-browser bench bench-report schema clean
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

# Needs an installed Chromium; CHROMIUM=/path/to/it when it has another name. Writes the pictures of the README.
test-browser: $(VENV)/.installed-dev demo
	$(BIN)/python -m pytest tests/report/test_browser.py -m "browser or not browser"

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-dev
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.pipeline

bench-report: $(VENV)/.installed-dev
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks.report

schema: $(INSTALLED)
	$(BIN)/python -c "from clusterlib.config import json_schema; print(json_schema(), end='')" > configs/schema.json

clean:
	rm -rf $(VENV) build *.egg-info
