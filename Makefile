# Every target makes its own .venv; an extra is installed again when pyproject.toml or constraints.txt change.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
INSTALLED = $(VENV)/.installed-$(KEY)-
# Tiny models on few cores: one thread a process is faster than many, and repeatable.
# Two processes, a file whole in one of them; the NDIF tests share one server, so they run apart.
PARALLEL := -n 2 --dist loadfile
# What pip says is shown only where it fails.
PIP_LOG := $(VENV)/pip.log
TYPES_LOG := $(VENV)/pyright.log
QUIET = > $(PIP_LOG) 2>&1 || { cat $(PIP_LOG) >&2; exit 1; }
# Byte code is kept even where the environment says otherwise: tests start many interpreters.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest
QUICK := $(PYTEST) $(PARALLEL) --hypothesis-profile=check -m "not slow and not data and not gpu and not ndif"

.PHONY: help demo test check format docs package bench bench-full ndif ndif-stop clean

help:
	@echo "make demo    fit a map with the embedded model, steer 50 prompts, print what it did"
	@echo "make test    every test but those that need a GPU; those on an NDIF server where redis-server is"
	@echo "make check   lint, format, types, and the tests on tiny models (under three minutes)"
	@echo "make format  let ruff mend what it can"
	@echo "make docs    build the documentation, strictly, into site/"
	@echo "make bench   run every benchmark on small samples (under 15 minutes); make bench-full on whole ones"
	@echo "make package build wheel and sdist, check them, and run the demo from the wheel in a clean environment"
	@echo "make ndif    start an NDIF server on loopback (Linux, redis-server); make ndif-stop ends it"
	@echo "make clean   remove what the targets above made, .venv included"

demo: $(INSTALLED)demo
	@start=$$SECONDS; $(BIN)/dspa demo --out demo; \
	echo "With all imports the demo took $$((SECONDS - start)) s."

# Ray starts processes of its own, so its test runs after the parallel ones.
RAY := tests/recipes/test_ray.py tests/recipes/test_ray_serve.py

test: $(INSTALLED)demo,test,train,ray,serve-ray
	$(PYTEST) $(PARALLEL) -m "not gpu and not ndif" $(RAY:%=--ignore %)
	$(PYTEST) $(RAY)
	$(BIN)/python -m tests.ndif.server prepare
	DSPA_NDIF=1 $(PYTEST) tests/ndif

check: $(INSTALLED)demo,test,train,docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# Types beside the tests, since pyright uses one core; what it says comes after what they say.
	@$(BIN)/pyright > $(TYPES_LOG) 2>&1 & types=$$!; tests=0; \
	$(QUICK) || tests=$$?; \
	wait $$types || { cat $(TYPES_LOG) >&2; exit 1; }; \
	cat $(TYPES_LOG); exit $$tests

format: $(INSTALLED)demo,test,train
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# In environments of their own, and away from this folder: nothing but the wheel is there to import.
PACKAGING := $(VENV)/packaging
CLEAN := $(VENV)/clean

package: | $(BIN)/python
	@rm -rf dist $(PACKAGING) $(CLEAN)
	@$(BIN)/python -m venv $(PACKAGING)
	@$(PACKAGING)/bin/python -m pip install build==1.6.1 twine==7.0.0 $(QUIET)
	$(PACKAGING)/bin/python -m build --outdir dist . $(QUIET)
	$(PACKAGING)/bin/twine check --strict dist/*
	@$(BIN)/python -m venv $(CLEAN)
	@echo "Installing the wheel into $(CLEAN) (a few minutes)."
	@wheel=$$(ls dist/*.whl); $(CLEAN)/bin/python -m pip install -c constraints.txt "$$wheel[demo]" $(QUIET)
	@here=$$PWD; away=$$(mktemp -d); cd "$$away"; env -u PYTHONPATH "$$here/$(CLEAN)/bin/dspa" demo --out demo; \
	test -s demo/report.json; rm -rf "$$away"; echo "The wheel runs the demo outside of this folder."

# Every script in benchmarks/ that is not shared by the others (_report.py).
BENCHMARKS := $(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[a-z]*.py))

# Other libraries: steering-vectors runs with this transformers though it asks for an older one;
# nnterp needs an older nnsight, and gets an environment of its own.
PEERS = $(INSTALLED)peers

bench: BENCH_OPTIONS := --quick
bench bench-full: $(INSTALLED)demo,test,bench $(PEERS)
	@for name in $(BENCHMARKS); do \
	  OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m benchmarks.$$name $(BENCH_OPTIONS) --out benchmarks/results; \
	done

ndif: $(INSTALLED)demo,test
	$(BIN)/python -m tests.ndif.server start

ndif-stop: $(INSTALLED)demo,test
	$(BIN)/python -m tests.ndif.server stop

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis site demo dist

$(PEERS): $(INSTALLED)demo,test,bench
	rm -rf $(VENV)/peers $(VENV)/nnterp
	@echo "Installing the libraries that are compared with (a few minutes, once)."
	@$(BIN)/python -m pip install --no-deps --target $(VENV)/peers \
	  steering-vectors==0.12.2 scikit-learn joblib threadpoolctl narwhals $(QUIET)
	@grep -v '^nnsight==' constraints.txt > $(VENV)/nnterp.txt
	@$(BIN)/python -m venv $(VENV)/nnterp
	@$(VENV)/nnterp/bin/python -m pip install -c $(VENV)/nnterp.txt nnterp==1.3.0 nnsight==0.7.0 $(QUIET)
	@touch '$@'

$(INSTALLED)%: | $(BIN)/python
	@echo "Installing dspa-nn[$*] into $(VENV) (a few minutes, once)."
	@$(BIN)/python -m pip install -c constraints.txt -e '.[$*]' $(QUIET)
	@touch '$@'

# Tests run with 3.11, and the pins of constraints.txt are those of 3.11; a later one is taken where
# there is no 3.11, and said.
PYTHONS := python3.11 python3.12 python3.13 python3.14 python3
FROM_3_11 := import sys; sys.exit(sys.version_info < (3, 11))

$(BIN)/python:
	@python=; for name in $(PYTHONS); do \
	  if command -v $$name > /dev/null && $$name -c '$(FROM_3_11)'; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or later is needed, and there is none on the PATH: install it, then run make again." >&2; \
	  exit 1; \
	fi; \
	if ! $$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
	  echo "$$($$python --version) is used; only Python 3.11 is tested, and versions pinned in constraints.txt may be missing for another." >&2; \
	fi; \
	$$python -m venv $(VENV)
