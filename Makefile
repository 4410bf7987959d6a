# Everything a newcomer needs: `make demo`, `make test`. Python 3.11 or later and make are all that must be there.

PYTHON ?= python3
PORT ?= 7001
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test pythons check unit long soak fuzz bench clean python

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

# Make dies of a Ctrl-C that reaches it, whatever the cluster's exit code: on a terminal the cluster gets a process
# group of its own (set -m), so that the key is for it alone and its 0 is make's.
demo: $(VENV)/demo  ## the board on http://127.0.0.1:7001 (PORT=...); Ctrl-C ends it
	@echo "open http://127.0.0.1:$(PORT) — Ctrl-C ends it"
	@bash -c 'if [ -t 0 ]; then set -m; fi; $(BIN)/eggcluster start --base-dir examples/board --port $(PORT) --workers 3; exit $$?'

# The tests run three at a time, each file as a whole: most of what they do is to wait. A test that fails is not run
# again: one that fails now and then is a defect, of the product or of the test.
test: check  ## everything: style, types, all tests
	$(BIN)/pytest -n 3 --dist loadfile tests/unit
	$(BIN)/pytest -n 3 --dist loadfile --ignore tests/unit

pythons: $(VENV)/test  ## the same without the slow part, on every other Python that is here
	scripts/pythons

check: $(VENV)/test  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(VENV)/test  ## the tests without processes: seconds
	$(BIN)/pytest -n 3 --dist loadfile tests/unit

long: $(VENV)/test  ## ten million messages, a hundred reloads, a thousand garbage senders, ticks: minutes
	EGG_LONG=1 $(BIN)/pytest tests/long tests/cluster/test_messenger_load.py tests/cluster/test_shared_state.py \
		tests/chaos/test_reloads.py tests/chaos/test_broken_replacement.py tests/cluster/test_sticky_walk.py

soak: $(VENV)/test  ## random faults under load: an hour (EGG_CHAOS_SECONDS=, EGG_CHAOS_SEED=)
	EGG_CHAOS_SECONDS=$${EGG_CHAOS_SECONDS:-3600} $(BIN)/pytest -s tests/chaos/test_chaos.py

fuzz: $(VENV)/test  ## random streams of requests through the HTTP engine: ten minutes (FUZZ_SECONDS=, FUZZ_SEED=)
	EGG_LONG=1 $(BIN)/pytest tests/unit/http/test_against_h11.py tests/unit/http/test_bodies_against_h11.py
	$(BIN)/python -m tests.fuzz.fuzz_wire $${FUZZ_SECONDS:-600} $${FUZZ_SEED:-}

bench: $(VENV)/test $(VENV)/bench  ## compare with the peers; see benchmarks/README.md
	$(BIN)/python benchmarks/boot.py
	$(BIN)/python benchmarks/messenger.py
	$(BIN)/python benchmarks/shared.py
	$(BIN)/python benchmarks/agent.py
	$(BIN)/python benchmarks/faults.py
	$(BIN)/python benchmarks/modes.py
	$(BIN)/python benchmarks/http.py --faults
	$(BIN)/python benchmarks/engines.py

clean:  ## remove .venv and what the tools have cached
	rm -rf $(VENV) $(VENV)-* .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Checked each time and before anything else: pip's own message about a Python that is too old fills a page.
python:
	@python=$(PYTHON); how="make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12"; \
	if [ -e $(BIN)/python ] || [ -L $(BIN)/python ]; then python=$(BIN)/python; how="make clean, then $$how"; fi; \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "eggcluster needs Python 3.11 or later; $$python is not: $$how" >&2; exit 1; }

# The package is installed as its users get it, a built wheel, and not as a link to the sources: the tests test that.
$(VENV)/demo $(VENV)/test $(VENV)/bench: $(VENV)/%: pyproject.toml $(shell find src -name '*.py' 2>/dev/null) | python
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check '.[$*]'
	touch $@
