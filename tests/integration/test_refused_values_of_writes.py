"""Writes with values that no index answers, though it answers others: they are split for these, by a proxy with an engine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest

from tests.fixtures.live import PAIRWISE, Twins

DAY, LAST = date(1980, 1, 15), date(1989, 12, 31)
FIRST = date(1980, 1, 1)

# ``stays`` has years of birth and hours of admission; ``people`` days of birth, names, and three letters of these.
CONSTANTS = {
    "update": "UPDATE stays SET word = 'seen' WHERE born BETWEEN '1980-01-15' AND '1989-12-31' RETURNING id",
    "update of an unprotected column": "UPDATE people SET city = 'Bern' WHERE name LIKE 'Sm%' RETURNING id, city",
    "delete": "DELETE FROM stays WHERE born < '1980-01-15'",
    "delete, returning computed": "DELETE FROM people WHERE name ILIKE '%mi%' RETURNING upper(name), id",
    "delete using": "DELETE FROM stays s USING people p WHERE p.born = s.born AND s.born > '1980-01-15' AND p.id < 4",
    "computed too": "UPDATE people SET name = upper(name) WHERE name LIKE 'S%' AND id < 3",
    "insert of a query": "INSERT INTO people (name, born) SELECT name, born FROM people WHERE name LIKE '%y%'",
    "beside an answered one": "UPDATE stays SET word = 'x' WHERE born BETWEEN '1980-01-15' AND '1989-12-31'"
    " AND admitted BETWEEN '1980-01-01' AND '1980-12-31 23:59:59.999' RETURNING id",
    "only in the result": "UPDATE stays SET word = 'x' WHERE id < 4 RETURNING id, born BETWEEN '1980-01-15' AND '1981-12-30'",
    "in a subquery": "DELETE FROM people WHERE born IN (SELECT born FROM stays WHERE born >= '1980-01-15') RETURNING id",
    "nothing": "DELETE FROM stays WHERE born BETWEEN '1990-01-15' AND '1991-12-30'",
    "merge": "MERGE INTO people p USING stays s ON p.id = s.id WHEN MATCHED AND s.born BETWEEN '1980-01-15' AND '1989-12-31'"
    " THEN UPDATE SET city = 'c'",
    "merge, on": "MERGE INTO people p USING stays s ON p.id = s.id AND p.name LIKE 'Sm%' WHEN MATCHED THEN DELETE"
    " WHEN NOT MATCHED THEN INSERT (id, city) VALUES (100 + s.id, 'new')",
}
PARAMETERS: dict[str, tuple[str, tuple[object, ...], tuple[object, ...]]] = {
    # the values for which it is split, and those for which it is not
    "update": ("UPDATE stays SET word = $2 WHERE born < $1 RETURNING id", (DAY, "a"), (FIRST, "a")),
    "update of an unprotected column": (
        "UPDATE people SET city = $1 WHERE name LIKE $2 RETURNING id, city",
        ("Bern", "Sm%"),
        ("Bern", "Smi%"),
    ),
    "delete": ("DELETE FROM stays WHERE born BETWEEN $1 AND $2", (DAY, LAST), (FIRST, date(1980, 12, 31))),
    "any part": ("DELETE FROM people WHERE name LIKE $1 RETURNING id", ("%mi%",), ("Smi%",)),
    "without an index on any part": ("DELETE FROM people WHERE code LIKE $1", ("%B%",), ("AB-1234",)),
    "a pattern and a range": (
        "UPDATE people SET city = 'c' WHERE name ILIKE $1 AND born BETWEEN $2 AND $3 RETURNING id, name",
        ("%m%", FIRST, date(1980, 12, 31)),
        ("smi%", FIRST, date(1980, 12, 31)),
    ),
    "computed for all": ("UPDATE stays SET word = word || $1 WHERE born >= $2", ("!", DAY), ("!", FIRST)),
    "computed for none": ("UPDATE stays SET word = reverse($1) WHERE born >= $2", ("ab", DAY), ("ab", FIRST)),
    "insert of a query": ("INSERT INTO people (name) SELECT name FROM people WHERE name LIKE $1", ("S%",), ("Smi%",)),
    "merge": (
        "MERGE INTO people p USING stays s ON p.id = s.id WHEN MATCHED AND p.name LIKE $1 THEN UPDATE SET city = $2",
        ("Sm%", "Bern"),
        ("Smi%", "Bern"),
    ),
    "null": ("DELETE FROM stays WHERE born BETWEEN $1 AND $2 OR id = 1 RETURNING id", (None, DAY), (None, None)),
}


@pytest.fixture
def twins(kept_split_twins: Twins) -> Iterator[Twins]:
    """One seeded clinic for all cases, with an engine; nothing has leaked behind each."""
    yield kept_split_twins
    kept_split_twins.discard()


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(twins: Twins, name: str) -> None:
    for outcome in twins.everywhere(CONSTANTS[name], ()):
        assert outcome.sqlstate is None, outcome.message


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(twins: Twins, name: str) -> None:
    statement, refused, answered = PARAMETERS[name]
    for parameters, shown, named in PAIRWISE:
        for values in (answered, refused, answered, refused, refused):
            with twins.rolled_back():
                way: dict[str, Any] = {"param_format": parameters, "result_format": shown, "named": named}
                outcome = twins.both.run(statement, values, ordered=False, **way)
                assert outcome.sqlstate is None, outcome.message
                twins.same_state()


WIDE, NARROW = (date(1980, 1, 15), date(1989, 12, 31)), (date(1980, 1, 1), date(1980, 12, 31))
UPDATE = "UPDATE stays SET word = 'x' WHERE born BETWEEN %s AND %s RETURNING id"


@pytest.mark.parametrize("threshold", [0, None])
def test_one_statement_prepared_once(twins: Twins, threshold: int | None) -> None:
    answers = []
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        with psycopg.connect(dsn, prepare_threshold=threshold) as conn:
            got = [sorted(conn.execute(UPDATE, values).fetchall()) for values in (NARROW, WIDE, WIDE, NARROW, WIDE, NARROW)]
            with conn.pipeline():
                cursors = [conn.execute(UPDATE, values) for values in (NARROW, WIDE, NARROW, WIDE, WIDE)]
                got += [sorted(cursor.fetchall()) for cursor in cursors]
            answers.append(got)
            conn.rollback()
    assert answers[0] == answers[1]
    assert answers[1][0] != answers[1][1]


def test_prepared_by_sql(twins: Twins) -> None:
    with twins.rolled_back():
        prepare = "PREPARE left_out (date, date) AS DELETE FROM stays WHERE born BETWEEN $1 AND $2 RETURNING id"
        twins.both.run(prepare, protocol="simple")
        for ends in ("'1980-01-15', '1980-06-30'", "'1981-01-01', '1981-12-31'", "'1980-01-15', '1989-12-31'"):
            outcome = twins.both.run(f"EXECUTE left_out ({ends})", protocol="simple", ordered=False)
            assert outcome.sqlstate is None, outcome.message
        twins.same_state()


def test_in_a_string_of_several(twins: Twins) -> None:
    for text in (
        "UPDATE stays SET word = 'x' WHERE born < '1980-01-15';"
        " SELECT id FROM stays WHERE born BETWEEN '1980-01-15' AND '1989-12-31' ORDER BY id",
        "SELECT 1; DELETE FROM people WHERE name LIKE '%mi%'; SELECT count(*) FROM people",
        "DELETE FROM stays WHERE born < '1980-01-15'; SELECT 1 / 0",
    ):
        with twins.rolled_back():
            twins.both.run(text, protocol="simple")
            if "/ 0" not in text:
                twins.same_state()
    outcome = twins.both.run("DELETE FROM stays WHERE born < '1980-01-15'; SELECT 1 / 0", protocol="simple")
    assert outcome.sqlstate == "22012"
    twins.same_state()
