# make run     environment, install, and the main job on real text with the offline encoder
# make test    the test suite
# make check   what CI checks: lint, format, types, layers
# make bench   every benchmark of benchmarks/, one table each

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := src tests benchmarks docs/*.py
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: run test check format bench clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable ".[demo,dev,fast]"
	touch $@

run: $(STAMP)
	$(BIN)/tailwise run chatterbot-topics --out runs/chatterbot-topics

# each of the two workers has one core
test: export OMP_NUM_THREADS := 1
test: $(STAMP)
	$(BIN)/python -m pytest --quiet -n 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(STAMP)
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
