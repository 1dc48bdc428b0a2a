# Sets up .venv once and runs the everyday commands; `make` alone lists them.
#   PYTHON=python3.13   makes .venv with that Python (default: the newest of CANDIDATES that works)
#   WORKERS=4           runs the tests in four processes (default: 2), each on one core
#   SHARED=DIR            where `make weights` finds photographs and weights (default: ../shared)
#   EXTRAS=notebooks,site sets .venv up with these extras of pyproject.toml alone
#   UV=                 uses plain venv and pip although uv is on the PATH (default: uv where there is one)

SHARED ?= ../shared
UV ?= $(shell command -v uv 2>/dev/null)
PYTHON ?=
LAB_OPTIONS ?=
APP_OPTIONS ?=
WORKERS ?= 2

CANDIDATES := python3.14 python3.13 python3.12 python3.11 python3
EXTRAS := notebooks,cluster,benchmarks,site,test
STAMP := .venv/.installed

ifeq ($(strip $(UV)),)
CREATE = "$$python" -m venv .venv
INSTALL = .venv/bin/python -m pip --disable-pip-version-check install
PROBE = .venv/bin/python -m pip --version
NEEDS = , ensurepip
REMEDY = with the venv module (Debian and Ubuntu: python3-venv)
else
CREATE = "$(UV)" venv --python "$$python" .venv
INSTALL = "$(UV)" pip install --compile-bytecode --python .venv/bin/python
PROBE = .venv/bin/python -c ""
NEEDS =
REMEDY =
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint lab app notebooks site slides pages figures bench bench-all torture weights clean rebuild

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

setup: $(STAMP) ## set up .venv, and nothing else

demo: $(STAMP) ## train on the built-in data, score on unseen classes, print a table, write pictures
	.venv/bin/python -m dpnet_lite demo --out outputs/make_demo --overwrite

PYTEST = .venv/bin/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

test: lint ## check style, types and imports, then run the tests that every change needs
	$(PYTEST)

test-all: lint ## the same with the slow tests: every notebook, browsers, torchrun, killed processes, a wheel
	$(PYTEST) -m "slow or not slow" --cov --cov-report=
	.venv/bin/python -m coverage report --include='dpnet_lite/*.py,dpnet_lite/model/*' --fail-under=97
	.venv/bin/python -m coverage report --skip-covered --fail-under=92

lint: $(STAMP) ## check style, types and imports only
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy
	.venv/bin/lint-imports --no-logo

lab: $(STAMP) ## open JupyterLab in notebooks/
	.venv/bin/python -m jupyterlab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB_OPTIONS)

app: $(STAMP) ## open the explorers as one web page, on this machine only
	.venv/bin/python tools/serve_explorers.py $(APP_OPTIONS)

notebooks: $(STAMP) ## rebuild notebooks/*.ipynb from their .py, with outputs
	.venv/bin/python tools/build_notebooks.py

site: $(STAMP) ## build the website in build/site/html: lessons, explorers without a kernel, pages, slides
	.venv/bin/python tools/build_site.py

slides: $(STAMP) ## build the slides of the lecture alone, in build/site/slides
	.venv/bin/python tools/build_site.py --slides

pages: $(STAMP) ## write the pages that follow from the lessons, their checks and the pinned packages again
	.venv/bin/python tools/write_mistakes.py
	.venv/bin/python tools/measure_minutes.py --write
	.venv/bin/python tools/write_licences.py

figures: $(STAMP) ## make the pictures in figures/ and of docs/architecture.md again
	.venv/bin/python tools/make_figures.py
	.venv/bin/python tools/draw_network.py
	.venv/bin/python tools/draw_cycle.py
	.venv/bin/python tools/draw_glossary.py
	.venv/bin/python tools/draw_architecture.py

bench: $(STAMP) ## measure speed and memory on this machine's CPU, beside the goals
	.venv/bin/python benchmarks/cpu.py --out outputs/benchmark.json

bench-all: $(STAMP) ## the same with the demo and the explorers, which take minutes; writes docs/performance.md
	.venv/bin/python benchmarks/cpu.py --all --out benchmarks/measured/cpu.json
	.venv/bin/python tools/write_performance.py

torture: $(STAMP) ## kill trainings, ablations, caches and lessons at 25 random moments; they must go on and end alike
	.venv/bin/python tools/torture.py

weights: $(STAMP) ## make the weights for photographs again, from the folders in SHARED (they do not come with the project)
	.venv/bin/python tools/make_weights.py $(SHARED)

clean: ## remove .venv, caches and build leftovers (outputs/ stays)
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find dpnet_lite tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv whose Python is gone (the system's was upgraded) is set up anew.
ifneq ($(shell .venv/bin/python -c "print(1)" 2>/dev/null),1)
$(STAMP): rebuild
endif

# The stamp is removed first and made last: a set-up cut short leaves none, and the next call starts over.
$(STAMP): pyproject.toml requirements-pinned.txt
	@if [ ! -f $@ ] || ! $(PROBE) >/dev/null 2>&1; then \
	  python=; \
	  for candidate in $(or $(PYTHON),$(CANDIDATES)); do \
	    python=$$("$$candidate" -c 'import sys$(NEEDS); sys.version_info < (3, 11) and sys.exit(1); print(sys.executable)' \
	      2>/dev/null) && break; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "Error: no Python 3.11 or newer$(if $(REMEDY), $(REMEDY)) among: $(or $(PYTHON),$(CANDIDATES))." \
	      "Install one, or name it: make PYTHON=python3.13 ..." >&2; \
	    exit 1; \
	  fi; \
	  echo "Setting up .venv with $$python (once; PyTorch is a download of up to 3 GB)"; \
	  rm -rf .venv && $(CREATE) || exit 1; \
	fi; \
	rm -f $@ && $(INSTALL) -c requirements-pinned.txt -e ".[$(EXTRAS)]" && touch $@
