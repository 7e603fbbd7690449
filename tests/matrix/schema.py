"""The tables: ``m`` and ``n`` with a protected column of every type, ``p`` with the same unprotected; and their rows."""

from __future__ import annotations

from tests.matrix.axes import BY_KEY, PROTECTED, TYPES, UNINDEXED

# Stored in rows, never written in a statement: what the leak oracle looks for.
PLANTED = {
    "tx": "PHI-5b1c77d09e3a41f8",
    "ci": "PHI-e2a90c4417d86b35",
    "uu": "5f3e9a17-6c0d-4b82-9e41-d70a36c2b8f9",
    "i8": "7315829460173825",
    "nu": "8264019375.90218437",
}
OWN = """
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('x', 'ok', 'ab');
CREATE DOMAIN zip AS varchar(4) CHECK (VALUE <> 'bad');
CREATE DOMAIN age AS int CHECK (VALUE >= 0);
"""
ROWS = 8


def _columns(prefix: str, types: str) -> str:
    return "".join(f", {prefix}{key} {BY_KEY[key].name}" for key in types.split())


_EVERY = " ".join(t.key for t in PROTECTED)
DDL = f"""\
CREATE TABLE m (id int PRIMARY KEY{_columns("c_", _EVERY)}{_columns("u_", " ".join(UNINDEXED))});
CREATE TABLE n (id int PRIMARY KEY{_columns("c_", _EVERY)});
CREATE TABLE p (id int PRIMARY KEY{_columns("p_", " ".join(t.key for t in TYPES))});
"""


def policy() -> str:
    """Return the policy: each type is a domain of its own, so that columns of ``m`` and ``n`` are joined."""
    lines = ["database: {database}", "deployment: matrix-test", "domains:"]
    lines += [f'  {t.key}: {{type: "{t.name}", indexes: [value], accept_leakage: "the tests"}}' for t in PROTECTED]
    lines.append("tables:")
    for table in ("m", "n"):
        lines += [f"  public.{table}:", "    columns:"]
        lines += [f"      c_{t.key}: {{domain: {t.key}}}" for t in PROTECTED]
        if table == "m":
            lines += [f'      u_{key}: {{type: "{BY_KEY[key].name}"}}' for key in UNINDEXED]
    return "\n".join(lines) + "\n"


def _literal(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def _value(key: str, row: int) -> str | None:
    """Return what a column holds in a row: its values in turn, NULL in the last but one, in the last what is planted."""
    if row == ROWS:
        return PLANTED.get(key)
    values = BY_KEY[key].values
    return None if row == ROWS - 1 else values[(row - 1) % len(values)]


def inserts() -> list[str]:
    """Return the statements that fill the tables, one for each row."""
    made = []
    for row in range(1, ROWS + 1):
        for table, prefixes in (("m", "cu"), ("n", "c"), ("p", "p")):
            if table == "n" and row % 2:
                continue
            names, values = ["id"], [str(row)]
            for prefix in prefixes:
                for key in UNINDEXED if prefix == "u" else [t.key for t in (TYPES if prefix == "p" else PROTECTED)]:
                    names.append(f"{prefix}_{key}")
                    # What is planted is protected, so it is in no unprotected column, nor in another than its own.
                    planted = row == ROWS and prefix != "c"
                    values.append(_literal(None if planted else _value(key, row)))
            made.append(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(values)})")
    return made
