# make demo   toy videos -> five trained folds -> report -> ONNX model -> a prediction
# make check  lint, types, import contracts and the fast tests
# make test   lint, types and every test (what CI runs)
# make docs   the documentation as a site, build/site/index.html
# make release  wheel and source distribution of the commit, tried, in build/release/dist
# make bench  the programs behind the performance tables in docs/results.md
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
TOOLS := build/release-tools
INSTALLED := $(VENV)/.installed
SOURCES := mmadfer launch export bench release tests docs

.PHONY: help demo check test docs bench lint types test-packages lock release clean
help:
	@sed -n 's/^# \(make .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED)
	@$(PY) -m mmadfer.cli.demo

# Fast: what takes seconds and starts no training, cluster or server; tests that take longer are marked slow.
check: lint
	@OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses 2 --dist loadfile -m "not slow" tests/unit tests/data

# Some tests start a SLURM cluster (slurm/cluster) or compare with ffmpeg; where these are not to be had, they are skipped at
# the end, by name, as all that lack a package. CI sets MMADFER_NEED=1, which makes each of them an error (tests/needs.py).
# MMADFER_MATRIX=all compares twice as many kinds of media files with ffmpeg, exports every row of the ablations and compiles
# bfloat16, before a release.
test: lint
	@$(MAKE) -s test-packages || [ "$${MMADFER_NEED-}" != 1 ]
	@OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses 2 --dist loadfile

test-packages: build/.test-packages
build/.test-packages: tests/packages.sh
	@tests/packages.sh
	@mkdir -p build && touch $@

docs: $(INSTALLED)
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo build/site/index.html

# Beside these, `python bench/same.py OLD NEW` says whether two commits train, export and predict the same, bit for bit.
bench: $(INSTALLED)
	@for program in bench/[a-z]*.py; do case $$program in */common.py|*/same.py) ;; *) $(PY) $$program;; esac; done

lint: $(INSTALLED) types
	@$(VENV)/bin/ruff check $(SOURCES)
	@$(VENV)/bin/ruff format --check $(SOURCES)
	@$(VENV)/bin/lint-imports --no-cache | tail -n +15

types: $(INSTALLED)
	@$(PY) -m mypy mmadfer launch export

# The tests and bench/prepare.py compare faces with facenet-pytorch's; its pins are older than its code needs, so it comes
# without them. The product does not use it.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mmadfer needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Say which: make PYTHON=python3.12 …" >&2; exit 2; }
	@[ -x $(PY) ] || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@echo "Installing into $(VENV): about 8 GB, two minutes on a fast line."
	@$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[train,export,quantize,tensorrt-rtx,triton,text,explain,cues,page,hub,sign,wandb,mlflow,demo,dev]' \
	  | grep --line-buffered -E '^(Collecting|Installing|Successfully)' | cut -c1-160 || [ "$${PIPESTATUS[0]}" = 0 ]
	@$(PY) -m pip install --disable-pip-version-check -q --no-deps facenet-pytorch==2.6.0
	@touch $@

# What makes releases and locks has an environment of its own: mmadfer needs none of it.
$(TOOLS)/.installed: release/tools.lock
	@$(PYTHON) -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --disable-pip-version-check -q --require-hashes -r release/tools.lock
	@touch $@

lock: $(INSTALLED) $(TOOLS)/.installed
	@$(PY) -m pip freeze --all --exclude-editable --exclude pip --exclude facenet-pytorch > constraints.txt
	@release/lock.sh $(TOOLS)/bin/uv

# RELEASE=--full and RELEASE=--no-demo: release/check.py says what these do.
release: $(INSTALLED) $(TOOLS)/.installed
	@$(TOOLS)/bin/python release/check.py $(RELEASE)

clean:
	rm -rf build
