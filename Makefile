# Two commands are enough: `make demo` and `make test`. Everything they need they install.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup compile demo test lint bench alerts-study faults clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,test]'
	touch $@

demo: setup
	$(BIN)/funnelwatch demo

# The engine's hottest modules as machine code, where there is a C compiler; see streams/compiled.py.
compile: setup
	$(BIN)/python deploy/compile.py

test: compile
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=20 --durations-min=8

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: compile
	$(BIN)/python -m tests.bench

# Everything that can break, broken on purpose: ten runs of each take hours; `--only NAME`, `--seeds N`, `--quick`.
faults: compile
	$(BIN)/python -m tests.faults --report deploy/faults.md

# False pages and times to detect of the alert rules, beside naive ones and the optimum: about ten minutes.
alerts-study: setup
	$(BIN)/python -m tests.alerts_study

clean:
	rm -rf .venv .parts streams/_compiled
