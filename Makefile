# make demo [ARGS=--once]   the clinic behind the proxy
# make test [ARGS=…]        every test; ARGS="-n 2" on two cores
# make check                ruff, mypy --strict, import contracts
# make bench [QUICK=1]      everything measured side by side, into benchmarks/results; quick: a smoke test, into build/bench
# make conformance-regress  PostgreSQL's own regression files and isolation specs, directly and through the proxy; ARGS=… as --help says
# make compare A=… [B=…]    two revisions measured pair by pair; without B: A and the checkout as it is. ARGS=… as --help says
# PYTHON=… chooses the interpreter that .venv is made of.

PYTHON ?=
ARGS ?=
QUICK ?=
A ?= HEAD
B ?=
BIN := .venv/bin

.PHONY: demo test check bench compare conformance-regress clean

demo: .venv/.installed-demo
	$(BIN)/phiproxy demo $(ARGS)

test: .venv/.installed-dev
	$(BIN)/python -m pytest $(ARGS)

check: .venv/.installed-dev
	$(BIN)/ruff check phiproxy tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.installed-bench
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick --results build/bench) $(ARGS)

conformance-regress: .venv/.installed-dev
	$(BIN)/python -m tests.conformance.regress $(ARGS)

compare: .venv/.installed-bench
	$(BIN)/python -m benchmarks.compare $(A) $(B) $(ARGS)

.venv/.installed-%: pyproject.toml tools/bootstrap.sh
	tools/bootstrap.sh $* $(PYTHON)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
