# make bench: install and attack a model · make test · make check · make format · make gallery · make clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: bench test check format gallery clean
.DEFAULT_GOAL := bench

bench: $(VENV)/.installed
	$(BIN)/trustml bench --attack pgd --model mlp

# Two processes of one thread each: the tests are small, and many threads would only wait on each other.
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

check: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_house.py

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

gallery: $(VENV)/.installed
	@set -e; for example in examples/[a-z]*.py; do \
	  [ -e "$$example" ] || { echo "there is no example in examples/ yet" >&2; exit 1; }; \
	  echo "$$example"; $(BIN)/python "$$example"; done

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find trustml tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is made anew when what it is made from has changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "trustml needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" \
	    "name another one: make $(or $(MAKECMDGOALS),bench) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@
