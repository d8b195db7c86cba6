# For a fresh machine; each makes .venv and installs what it needs: the demo what a user does, the
# others the tools of developers as well.
#   make demo   simulate eight datasets, measure six models, print the leaderboard
#   make test   run the tests
#   make lint   look at style and types
#   make wheel-test   build the wheel, and try it in an empty environment (.ci/wheel)
#   make docs   write the guides and the reference into site/
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test wheel-test lint docs clean

demo: $(VENV)/.user
	$(BIN)/ubench demo --out demo

# Two processes of one thread each take less time than one of two.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

wheel-test:
	PYTHON=$(PYTHON) .ci/wheel

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[docs]'
	$(BIN)/mkdocs build --quiet --strict

INSTALL := -m pip install --disable-pip-version-check --quiet --editable

$(VENV)/.user: pyproject.toml
	@$(MAKE) --no-print-directory $(VENV)/.made
	$(BIN)/python $(INSTALL) '.[imagenet]'
	touch $@

$(VENV)/.installed: pyproject.toml
	@$(MAKE) --no-print-directory $(VENV)/.made
	$(BIN)/python $(INSTALL) '.[dev]'
	touch $@ $(VENV)/.user

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	touch $@

clean:
	rm -rf $(VENV) demo site
