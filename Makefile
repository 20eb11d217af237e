# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

# Hundreds of short processes start in the tests: what they compiled is kept, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test tests test-long collected setup serve lint bench clean

demo: setup
	@$(BIN)/receiver demo $(ARGS)

# Twice as many workers as cores: tests wait for disks, processes and databases much of the time.
WORKERS = $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) * 2)')

# Workers must collect the same tests in the same order, sets in their parameters included: one hash seed for all.
test: setup
	@$(MAKE) --no-print-directory --jobs=2 lint tests

tests: collected
	PYTHONHASHSEED=0 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# With the stories that take minutes: kills in a row, logs that are lost, down or forked.
test-long: setup
	PYTHONHASHSEED=0 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --long $(ARGS)

# Compiles the tests, while their types are checked beside it; if they were not compiled, each worker would do it.
collected: setup
	-@$(BIN)/pytest --collect-only -qq $(ARGS) >/dev/null 2>&1

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

serve: setup
	@$(BIN)/receiver serve $(ARGS)

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,bench]'
	@touch $@

bench: setup
	$(BIN)/python -m bench.ingest
	$(BIN)/python -m bench.append
	$(BIN)/python -m bench.relay
	$(BIN)/python -m bench.follow
	$(BIN)/python -m bench.export

clean:
	rm -rf .venv build dist
