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

# What waited in vain is run once more, for the machine may have been busy, and is named at the end; what found a wrong number is not.
# Files in order of their names: the long ones, on real parts, come before the many short ones, so that no lane is left alone at the end.
test: compile
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=20 --durations-min=8 -rR --reruns=1 --only-rerun='waited in vain|Locator expected|TimeoutError'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The page of all figures: the contenders, and what counting costs by everything that may grow. Wants an idle machine for
# about an hour, Java 17 and Maven. One part of it: `python -m tests.bench --help`.
bench: compile
	$(BIN)/python -m tests.bench --report deploy/bench.md

# Everything that can break, broken on purpose: ten runs of each take hours, and go on where they were stopped; remove
# deploy/faults.jsonl to begin anew. `--only NAME`, `--seeds N`, `--together 2`, `--quick`.
faults: compile
	$(BIN)/python -m tests.faults --record deploy/faults.jsonl --report deploy/faults.md

# False pages and times to detect of the alert rules, beside naive ones and the optimum: about ten minutes.
alerts-study: setup
	$(BIN)/python -m tests.alerts_study

clean:
	rm -rf .venv .parts streams/_compiled
