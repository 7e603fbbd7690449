# make demo [ARGS=--once]   the clinic behind the proxy
# make test [ARGS=…]        every test; ARGS="-n 2" on two cores
# make check                ruff, mypy --strict, import contracts
# PYTHON=… chooses the interpreter that .venv is made of.

PYTHON ?=
ARGS ?=
BIN := .venv/bin

.PHONY: demo test check clean

demo: .venv/.installed-demo
	$(BIN)/phiproxy demo $(ARGS)

test: .venv/.installed-dev
	$(BIN)/python -m pytest $(ARGS)

check: .venv/.installed-dev
	$(BIN)/ruff check phiproxy tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/.installed-%: pyproject.toml tools/bootstrap.sh
	tools/bootstrap.sh $* $(PYTHON)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
