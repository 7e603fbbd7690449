# make demo [ARGS=--once]   the clinic behind the proxy; ARGS=--existing: full of plaintext at first
# make test [ARGS=…]        every test; ARGS="-n 2" on two cores
# make check                ruff, mypy --strict, import contracts
# make docs                 the documentation as a site, into build/site; a dead link or anchor fails
# make bench [QUICK=1]      everything measured side by side, into benchmarks/results; quick: a smoke test, into build/bench
# make drill [ARGS=…]       stored values rewritten, and compromises answered, while 500 000 rows are in use; ARGS='--rows 50000' for fewer
# make conformance-regress  PostgreSQL's own regression files and isolation specs, directly and through the proxy; ARGS=… as --help says
# make compare A=… [B=…]    two revisions measured pair by pair; without B: A and the checkout as it is. ARGS=… as --help says
# PYTHON=… chooses the interpreter that .venv is made of.

PYTHON ?=
ARGS ?=
QUICK ?=
A ?= HEAD
B ?=
BIN := .venv/bin

.PHONY: demo test check docs bench drill compare conformance-regress clean

demo: .venv/.installed-demo
	$(BIN)/phiproxy demo $(ARGS)

test: .venv/.installed-dev
	$(BIN)/python -m pytest $(ARGS)

check: .venv/.installed-dev
	$(BIN)/ruff check phiproxy tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --config-file tools/mkdocs.yml

bench: .venv/.installed-bench
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick --results build/bench) $(ARGS)

drill: .venv/.installed-bench
	$(BIN)/python -m benchmarks.drill $(ARGS)

conformance-regress: .venv/.installed-dev
	$(BIN)/python -m tests.conformance.regress $(ARGS)

compare: .venv/.installed-bench
	$(BIN)/python -m benchmarks.compare $(A) $(B) $(ARGS)

.venv/.installed-%: pyproject.toml tools/bootstrap.sh
	tools/bootstrap.sh $* $(PYTHON)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
