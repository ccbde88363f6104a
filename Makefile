# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2

.PHONY: run test lint ui screenshots lock clean help

help:
	@echo "make run                the whole job on the data named in params.yaml (simulated at first)"
	@echo "make run DATA=FOLDER    the same on a folder of tables; DATA=simulated goes back"
	@echo "make run PRESET=fast    fewer trials, fewer sessions, one seed; PRESET=full goes back"
	@echo "make test               the test suite, in two processes (WORKERS=1: in one)"
	@echo "make lint               ruff, mypy, import-linter"
	@echo "make ui                 the MLflow UI on http://127.0.0.1:5000"
	@echo "make screenshots        the pictures of docs/governance.md, from this registry, in a headless Chromium"
	@echo "make lock               rewrite requirements.lock from pyproject.toml"

# As typed: make does not expand what they hold ($$ in a path), and the recipe's shell reads them from its environment.
override DATA := $(value DATA)
override PRESET := $(value PRESET)
export DATA PRESET

run: $(READY)
	@$(BIN)/signals run $${DATA:+--data "$$DATA"} $${PRESET:+--preset "$$PRESET"}

test: $(READY)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

ui: $(READY)
	@$(BIN)/signals ui

screenshots: $(READY)
	@$(BIN)/python -m docs.screenshots

lock:
	@$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install -q uv
	@$(VENV)-lock/bin/uv pip compile -q --universal --python-version 3.11 --extra dev --no-annotate --no-header \
	  pyproject.toml -o requirements.lock && rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) var

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 run"; exit 1; }
	@echo "Creating the environment in $(VENV) (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@
