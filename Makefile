# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in $(VENV).
#
#   make demo TORCH=torch==2.11.0     another torch
#   make demo TORCH_BACKEND=cu126     another build of it: default (pip's), cpu, auto or cu... (uv's)
#   make demo PYTHON=python3.12       another Python, 3.11 or newer
#   make test PARALLEL=               tests in one process; by default one per core, at most 4

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo-out
SBOM ?= sbom.json
TORCH ?= torch==2.13.0
# pip's build of torch is for CUDA 13, which needs this driver and would find no GPU under an older one.
CUDA13_DRIVER := 580
DRIVER := $(shell nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null \
  | sed -n 's/^ *\([0-9][0-9]*\)\.[0-9.]* *$$/\1/p' | head -n 1)
ifdef TORCH_BACKEND
  WHY := TORCH_BACKEND=$(TORCH_BACKEND), as asked
else ifeq ($(DRIVER),)
  TORCH_BACKEND := cpu
  WHY := the CPU build, because no nvidia-smi names a driver
else ifeq ($(shell [ $(DRIVER) -ge $(CUDA13_DRIVER) ] && echo new),new)
  TORCH_BACKEND := default
  WHY := pip's build, for CUDA 13, because the driver is $(DRIVER)
else
  TORCH_BACKEND := auto
  WHY := a build that uv chooses, because driver $(DRIVER) is older than CUDA 13 needs ($(CUDA13_DRIVER))
endif
# A file of tests stays in one process, because its tests share what they have made. The order of the
# files is that of tests/conftest.py: the longest first.
PARALLEL ?= -n $(or $(shell nproc 2>/dev/null),2) --maxprocesses 4 --dist loadfile \
  --no-loadscope-reorder
BIN := $(VENV)/bin
CONSTRAINTS := $(VENV)/constraints.txt
export UV_HTTP_TIMEOUT ?= 180

.PHONY: help install demo test test-slow lint sbom licences clean

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 17

install: $(VENV)/.demo  ## install into .venv; the command is then .venv/bin/speechkd

demo: $(VENV)/.demo  ## install, then run the whole pipeline on a small corpus that it makes itself
	$(BIN)/speechkd demo --out $(OUT)

test: $(VENV)/.dev  ## install, then run the fast tests
	$(BIN)/pytest $(PARALLEL)

test-slow: $(VENV)/.dev  ## install, then run the slow tests
	$(BIN)/pytest $(PARALLEL) -m slow

lint: $(VENV)/.dev  ## install, then run ruff, mypy, hadolint and shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/licences --check
	$(BIN)/hadolint Dockerfile
	[ ! -x $(BIN)/shellcheck ] || $(BIN)/shellcheck stages/*.sbatch .ci/run .ci/build-image

sbom: $(VENV)/.demo $(VENV)-tools/.sbom  ## install, then write a bill of materials (CycloneDX) to sbom.json
	$(VENV)-tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-format JSON --output-file $(SBOM) $(BIN)/python

licences: $(VENV)/.dev  ## install every extra, then write docs/licences.md anew
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e ".[demo,dev,bench,cloud,fuzz]"
	$(BIN)/python .ci/licences

clean:  ## remove what these targets and the tools leave: environments, demo, caches
	rm -rf $(VENV) $(VENV)-tools $(OUT) $(SBOM) build dist *.egg-info
	rm -rf .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find pipeline stages tests bench data_manifests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "speechkd needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	@rm -rf $(VENV)
	@# Debian and Ubuntu keep venv in a package of its own; root can simply have it.
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { \
	  [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv && \
	  $(PYTHON) -m venv $(VENV); } || \
	  { rm -rf $(VENV); echo "$(PYTHON) cannot make virtual environments; first: sudo apt install python3-venv"; exit 1; }

# torch first: anything that depends on it would otherwise choose the build.
UV_TORCH = $(BIN)/uv pip install -q --python $(BIN)/python --torch-backend=$(TORCH_BACKEND) $(TORCH)
$(VENV)/.torch: $(VENV)/bin/pip constraints.txt
	@echo "torch: $(WHY)"
ifeq ($(TORCH_BACKEND),default)
	$(BIN)/pip install -q $(TORCH)
else
	$(BIN)/pip install -q -c constraints.txt uv
	@# uv knows PyTorch's own index by the backend's name; out of its reach, pip's build serves a CPU.
ifeq ($(TORCH_BACKEND),cpu)
	$(UV_TORCH) 2>/dev/null || $(BIN)/pip install -q $(TORCH)
else
	@$(UV_TORCH) || { echo "torch: uv cannot get that build, see above. Update the driver to" \
	  "$(CUDA13_DRIVER), or take TORCH=torch==2.10.0 TORCH_BACKEND=default (pip's build of it is for" \
	  "CUDA 12), or TORCH_BACKEND=cpu."; exit 1; }
endif
endif
	@touch $@

# Without torch: pip would put the version that was tested in the place of the one asked for.
$(CONSTRAINTS): $(VENV)/bin/pip constraints.txt
	grep -v '^torch==' constraints.txt > $@

$(VENV)/.demo: $(VENV)/.torch $(CONSTRAINTS) pyproject.toml
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e ".[demo]"
	@touch $@

# In a virtual environment of its own: the bill is of what it looks at, not of itself.
$(VENV)-tools/.sbom: $(VENV)/bin/pip
	$(PYTHON) -m venv $(VENV)-tools
	$(VENV)-tools/bin/pip install -q "cyclonedx-bom>=7,<8"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch $(CONSTRAINTS) pyproject.toml
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e ".[demo,dev]"
	@touch $@
