"""Values of a split cursor, or of a portal in parts, are written under the settings of each FETCH, as PostgreSQL writes them."""

from __future__ import annotations

import pytest

from tests.harness.backend import Backend
from tests.integration.test_split_dialogues import backends, heard
from tests.session.frames import SYNC, bind, close, describe, execute, parse, query

__all__ = ["backends"]

CHANGES = (
    "IntervalStyle TO sql_standard", "DateStyle TO German", "bytea_output TO escape", "extra_float_digits TO 0",
    "TimeZone TO 'Asia/Kolkata'",
)  # fmt: skip
_DAY = "date '2000-02-03' + length(full_name)"
SHOWN = (
    f"SELECT id, {_DAY} AS d, age('2020-01-01', {_DAY}) AS a, convert_to(full_name, 'UTF8') AS b, length(full_name) + 0.1::float8 "
    f"AS f, ({_DAY})::timestamptz AS z, ({_DAY})::timestamptz::text AS t FROM patients ORDER BY full_name, id"
)
BEGUN = [query("BEGIN"), query(f"DECLARE c CURSOR FOR {SHOWN}")]
HELD = [query("BEGIN"), query(f"DECLARE c CURSOR WITH HOLD FOR {SHOWN}"), query("COMMIT"), query("FETCH c")]
IN_PARTS = [parse(SHOWN), bind(portal="p"), execute("p", 1)]
AGAIN = [execute("p", 1), SYNC]


def read(name: str, change: str) -> list[bytes]:
    """Return what is said so that rows are read before, under and behind a change of the settings."""
    changed = [parse(f"SET LOCAL {change}", "s"), bind(statement="s", portal="q"), execute("q"), close("s")]
    ways: dict[str, list[bytes]] = {
        "cursor": [*BEGUN, query("FETCH c"), query(f"SET LOCAL {change}"), query("FETCH 2 c"), query("FETCH c")],
        "rolled back": [
            *(*BEGUN, query("FETCH c"), query("SAVEPOINT a"), query(f"SET {change}"), query("FETCH c"), query("ROLLBACK TO a")),
            *(query("FETCH c"), query("COMMIT")),
        ],
        "held": [*HELD, query(f"SET {change}"), query("FETCH c"), query("RESET ALL"), query("FETCH c"), query("CLOSE c")],
        "portal": [query("BEGIN"), *IN_PARTS, describe("p", "P"), SYNC, query(f"SET LOCAL {change}"), *AGAIN, *AGAIN],
        "in one pipeline": [*IN_PARTS, *changed, execute("p", 1), *AGAIN],
        "portal of FETCH": [*BEGUN, parse("FETCH 4 c"), bind(portal="p"), execute("p", 1), *changed, execute("p", 1), *AGAIN],
    }
    return ways[name]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["cursor", "rolled back", "held", "portal", "in one pipeline", "portal of FETCH"])
def test_values_are_written_under_the_settings_of_each_fetch(backends: tuple[Backend, Backend], name: str, change: str) -> None:
    said = [*read(name, change), query("RESET ALL")]
    plain, proxied = (heard(backend.says(said)) for backend in backends)
    assert proxied == plain
    assert len([line for line in plain if line.startswith("DataRow")]) >= 3
