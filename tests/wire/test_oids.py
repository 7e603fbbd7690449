"""The table of types is PostgreSQL's own, and nowhere else is an OID of it spelled."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from phiproxy.wire.oids import BUILTIN_TYPES, oids
from tests.harness.server import PostgresServer

PACKAGE = Path(__file__).parents[2] / "phiproxy"
# Below are many other numbers; 1000 is a usual limit.
FIRST_UNMISTAKABLE = 640
# What may be a number of code: to parse all code for a few of these takes seconds.
WRITTEN = re.compile(r"(?<![\w.])(?:0x(?:_?[\da-f])+|0o(?:_?[0-7])+|0b(?:_?[01])+|[1-9](?:_?\d)*)(?![\w.])", re.IGNORECASE)


def test_the_table_is_what_pg_type_says(postgres_server: PostgresServer) -> None:
    with postgres_server.connect("postgres") as conn:
        rows = conn.execute(
            "SELECT typname, typlen, oid::int8, typarray::int8 FROM pg_type WHERE typnamespace = 11 AND typname = ANY (%s)",
            (list(BUILTIN_TYPES),),
        ).fetchall()
    assert {name: tuple(row) for name, *row in rows} == BUILTIN_TYPES


def test_by_names() -> None:
    assert oids("bytea", "text") == {17, 25}


def test_no_other_module_spells_an_oid() -> None:
    numbers = {n for row in BUILTIN_TYPES.values() for n in (row.oid, row.array_oid) if n > FIRST_UNMISTAKABLE} - {1000}
    spelled = {
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path, text in ((path, path.read_text()) for path in PACKAGE.rglob("*.py"))
        if not numbers.isdisjoint(int(word, 0) for word in WRITTEN.findall(text))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value in numbers
    }
    assert {place.partition(":")[0] for place in spelled} == {"wire/oids.py"}, sorted(spelled)
