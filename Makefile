# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in $(VENV).
#
#   make demo TORCH=torch==2.11.0     another torch
#   make demo TORCH_BACKEND=auto      choose the CUDA build by the driver found
#   make demo PYTHON=python3.12       another Python, 3.11 or newer

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo-out
SBOM ?= sbom.json
TORCH ?= torch==2.13.0
# The CPU build where no GPU answers: the other one brings gigabytes that it would not use.
TORCH_BACKEND ?= $(if $(shell nvidia-smi -L 2>/dev/null),default,cpu)
BIN := $(VENV)/bin
export UV_HTTP_TIMEOUT ?= 180

.PHONY: help demo test test-slow lint install sbom licences clean

help:
	@echo "make demo       install, then the whole pipeline on a small corpus it makes itself"
	@echo "make test       install, then the tests"
	@echo "make test-slow  install, then the slow tests"
	@echo "make lint       install, then ruff, mypy, hadolint and shellcheck"
	@echo "make sbom       install, then a bill of materials (CycloneDX) in $(SBOM)"
	@echo "make licences   install every extra, then docs/licences.md anew"
	@echo "make clean      remove the virtual environment and the demo's output"

demo: $(VENV)/.demo
	$(BIN)/speechkd demo --out $(OUT)

test: $(VENV)/.dev
	$(BIN)/pytest

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/licences --check
	$(BIN)/hadolint Dockerfile
	[ ! -x $(BIN)/shellcheck ] || $(BIN)/shellcheck stages/*.sbatch .ci/run .ci/build-image

install: $(VENV)/.demo

sbom: $(VENV)/.demo $(VENV)-tools/.sbom
	$(VENV)-tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-format JSON --output-file $(SBOM) $(BIN)/python

licences: $(VENV)/.dev
	$(BIN)/pip install -q -c constraints.txt -e ".[demo,dev,bench,cloud,fuzz]"
	$(BIN)/python .ci/licences

clean:
	rm -rf $(VENV) $(VENV)-tools $(OUT)

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
$(VENV)/.torch: $(VENV)/bin/pip constraints.txt
ifeq ($(TORCH_BACKEND),default)
	$(BIN)/pip install -q $(TORCH)
else
	$(BIN)/pip install -q -c constraints.txt uv
	@# uv knows PyTorch's own index by the backend's name; out of its reach, pip's index serves.
	$(BIN)/uv pip install -q --python $(BIN)/python --torch-backend=$(TORCH_BACKEND) $(TORCH) \
	  2>/dev/null || $(BIN)/pip install -q $(TORCH)
endif
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install -q -c constraints.txt -e ".[demo]"
	@touch $@

# In a virtual environment of its own: the bill is of what it looks at, not of itself.
$(VENV)-tools/.sbom: $(VENV)/bin/pip
	$(PYTHON) -m venv $(VENV)-tools
	$(VENV)-tools/bin/pip install -q "cyclonedx-bom>=7,<8"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install -q -c constraints.txt -e ".[demo,dev]"
	@touch $@
