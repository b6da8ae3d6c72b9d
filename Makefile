# `make` alone prints what there is. GNU make, POSIX sh.

VENV ?= .venv
# Tried in this order: what the lock covers comes before the system's own, which may be newer.
PYTHON ?= python3.13 python3.12 python3.11 python3.14 python3 python
# For `make lab`, e.g. LAB_ARGS="--no-browser --port 9999".
LAB_ARGS ?=

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Beside it, Colab's older widgets: small, since it shares all the rest with the first.
COLAB := $(VENV)-colab
COLAB_STAMP := $(COLAB)/.installed
COLAB_TESTS := tests/widgets/test_panel.py tests/widgets/test_explore.py
# All but whole trainings; what else takes long is marked slow.
FAST_TESTS := tests/core tests/sources tests/training tests/plots $(filter-out tests/test_trainer%,$(wildcard tests/test_*.py))
# The UNET_HOME of `make run` and `make notebooks`: a reader's data/ and runs/ are neither read nor written.
HOME_DIR := build/home
DEMO_RUN := $(HOME_DIR)/runs/helen/tuned-demo-synthetic
# These count only when given to make itself; what a reader's shell happens to hold must not change a run.
given = $(if $(findstring command line,$(origin $(1))),$($(1)))
FRESH = rm -rf $(HOME_DIR) build/notebooks build/figures && unset RELEASE DATASET SCALE && \
	UNET_HOME="$(CURDIR)/$(HOME_DIR)" $(PY) -m tools.run_notebooks
# A foreign module path or home would shadow the venv's own packages.
unexport PYTHONPATH PYTHONHOME
# GNU's OpenMP under torch: a thread that waits spins 300,000 times before it sleeps. Where another process has the core,
# a step then takes seconds instead of tenths; 10,000 cost nothing measurable. Read when torch is loaded.
export GOMP_SPINCOUNT ?= 10000

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-fast test-colab test-all lab notebooks badges colab lint clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(STAMP) ## run the six notebooks on synthetic faces, into build/ (DATASET=camvid, RELEASE=path, SCALE=full)
	@$(FRESH) --scale "$(or $(call given,SCALE),demo)" $(if $(call given,RELEASE),--release "$(RELEASE)") \
	  $(if $(call given,DATASET),--dataset "$(DATASET)")

test-fast: $(STAMP) ## run the unit tests of the lesson and its core, under two minutes on 2 cores
	@unset RELEASE DATASET SCALE && $(PY) -m pytest -m "not slow" $(FAST_TESTS)

test: $(STAMP) lint ## check the code, run all unit tests, the six notebooks as tests, and test-colab
	@unset RELEASE DATASET SCALE && $(PY) -m pytest
	@if $(PY) -c 'import sys; sys.exit(sys.version_info >= (3, 14))'; then $(MAKE) --no-print-directory test-colab; \
	else echo "left out: make test-colab (Colab has no Python 3.14, and its pyzmq no wheel for it)"; fi

test-colab: $(COLAB_STAMP) ## run the widgets' tests on Colab's ipykernel, IPython and ipywidgets
	@unset RELEASE DATASET SCALE && $(COLAB)/bin/python -m pytest $(COLAB_TESTS)

test-all: test ## test, and what takes long: a training killed 20 times, the notebooks on every dataset
	@unset RELEASE DATASET SCALE && KILLS=20 ALL_DATASETS=1 $(PY) -m pytest tests/kills tests/notebooks

lab: $(STAMP) ## open JupyterLab on the first notebook
	@$(PY) -m jupyterlab notebooks/01_restructure_data.ipynb $(LAB_ARGS)

notebooks: $(STAMP) ## run the six on synthetic faces and keep outputs, weights and README's picture, for a commit
	@$(FRESH) --scale demo --in-place
	@cp $(DEMO_RUN)/weights.pt weights/helen-demo.pt && cd weights && sha256sum helen-demo.pt > SHA256SUMS
	@cp $(DEMO_RUN)/figures/test_predictions.png figures/predictions.png

badges: $(STAMP) ## write the Colab badge and the set-up cell into all six (OWNER=... REPO=...: on GitHub)
	@$(PY) -m tools.badges $(if $(call given,OWNER)$(call given,REPO),"$(OWNER)/$(REPO)")

colab: ## write build/colab.zip, all that Colab needs: upload it there with a notebook, or put it on your Drive
	@mkdir -p build && git archive --prefix=unet/ -o build/colab.zip HEAD helpers notebooks weights benchmarks/results \
	  data/README.md pyproject.toml README.md LICENSE && ls -sh build/colab.zip

lint: $(STAMP) ## check style, format and types of all code, notebooks included
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

clean: ## remove build/ and caches; data/, runs/ and .venv*/ stay
	rm -rf build .pytest_cache .ruff_cache .mypy_cache
	find helpers tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last: a venv without one is half made and is made anew; one whose stamp is older than the lock
# is brought up to date, and has no stamp until that has worked.
$(STAMP): requirements.txt
	@if [ ! -f "$@" ]; then \
	  for candidate in $(PYTHON); do \
	    if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      python=$$candidate; break; \
	    fi; \
	  done; \
	  if [ -z "$${python:-}" ]; then \
	    echo "error: no Python 3.11 or newer with venv found (tried: $(PYTHON))." >&2; \
	    echo "Install one (Debian: python3 and python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  echo "making $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv --clear "$(VENV)" || exit 1; \
	fi; \
	rm -f "$@"; \
	echo "installing requirements.txt into $(VENV): 1 to 3 minutes, 6 GB on Linux"; \
	$(PY) -m pip install -q --disable-pip-version-check -r requirements.txt && \
	$(PY) -m pip check -q --disable-pip-version-check && touch "$@"

# One folder more on sys.path, after its own: the first environment's packages.
define SHARE
import os, sys, sysconfig
folder = sysconfig.get_path("purelib", vars={"base": os.path.abspath(sys.argv[1])})
with open(os.path.join(sysconfig.get_path("purelib"), "shared.pth"), "w") as file:
    file.write(folder + "\n")
endef

# Every pin is what Python finds, the widgets lie here, and torch there.
define PROOF
import importlib, os, re, sys
from importlib.metadata import version
own, shared = sys.prefix, os.path.abspath(sys.argv[1])
for name, pin in re.findall(r"(?m)^([\w-]+)==(\S+)", open("requirements-colab.txt").read()):
    assert version(name) == pin, f"{name} is {version(name)} and should be {pin}"
for name, home in dict(IPython=own, ipykernel=own, ipywidgets=own, torch=shared).items():
    found = importlib.import_module(name).__file__
    assert found.startswith(home + os.sep), f"{name} comes from {found} and should from {home}"
endef

# Always made anew, which takes seconds; the stamp comes last here too. Without a pip of its own, and --no-deps:
# what the list does not name is shared, in whatever version.
$(COLAB_STAMP): export SHARE := $(SHARE)
$(COLAB_STAMP): export PROOF := $(PROOF)
$(COLAB_STAMP): requirements-colab.txt $(STAMP)
	@rm -f "$@"; \
	echo "making $(COLAB) with Colab's widgets"; \
	$(PY) -m venv --clear --without-pip "$(COLAB)" && \
	$(PY) -m pip --python "$(COLAB)/bin/python" install -q --disable-pip-version-check --no-deps \
	  -r requirements-colab.txt && \
	$(COLAB)/bin/python -c "$$SHARE" "$(VENV)" && \
	$(COLAB)/bin/python -c "$$PROOF" "$(VENV)" && touch "$@"
