"""Values that no index answers, though it answers others: the statement is split for them, by a proxy with an engine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import asyncpg
import psycopg
import pytest

from tests.fixtures.live import PAIRWISE, Twins
from tests.harness.differential import SELECTS

# ``stays`` has years of birth and hours of admission; ``people`` days of birth, names, and three letters of these.
CONSTANTS = {
    "no whole years": "SELECT id FROM stays WHERE born BETWEEN '1980-01-15' AND '1989-12-31' ORDER BY id",
    "too many years": "SELECT id FROM stays WHERE born >= '0001-01-01' AND born < '4000-01-01' ORDER BY id",
    "not between": "SELECT id FROM stays WHERE born NOT BETWEEN '1980-01-15' AND '1981-06-30' ORDER BY id",
    "in the result": "SELECT id, born BETWEEN '1980-01-15' AND '1989-12-31' AS b FROM stays ORDER BY id",
    "beside an answered one": "SELECT id FROM stays WHERE born BETWEEN '1980-01-15' AND '1989-12-31'"
    " AND admitted BETWEEN '1980-01-01' AND '1980-12-31 23:59:59.999' ORDER BY id",
    "in a join": "SELECT s.id, p.id FROM stays s JOIN people p ON p.born = s.born"
    " AND s.born BETWEEN '1979-12-30' AND '1980-12-31' ORDER BY 1, 2",
    "in a subquery": "SELECT id FROM people WHERE born IN (SELECT born FROM stays WHERE born BETWEEN '1979-01-15' AND '1981-06-30')"
    " ORDER BY id",
    "in WITH": "WITH s AS (SELECT id FROM stays WHERE born BETWEEN '1979-01-15' AND '1981-06-30') SELECT id FROM s ORDER BY id",
    "with what no index answers": "SELECT id FROM stays WHERE born BETWEEN '1980-01-15' AND '1989-12-31' AND word ILIKE '%t%'",
    "integers": "SELECT id FROM stays WHERE bed BETWEEN -5 AND 5000 ORDER BY id",
    "symmetric": "SELECT id FROM stays WHERE born BETWEEN SYMMETRIC '1989-12-31' AND '1980-01-15' ORDER BY id",
    "a spelling that is not read": "SELECT id FROM people WHERE born = 'J2444270' ORDER BY id",
    "nothing": "SELECT id FROM stays WHERE born BETWEEN '1990-01-15' AND '1991-12-30'",
    "a pattern": "SELECT id FROM people WHERE name LIKE 'Sm%' ORDER BY id",
}
PARAMETERS: dict[str, tuple[str, tuple[object, ...], tuple[object, ...]]] = {
    # those for which it is split, and those for which it is not
    "range": (
        "SELECT id, born FROM stays WHERE born BETWEEN $1 AND $2 ORDER BY id",
        (date(1980, 1, 15), date(1989, 12, 31)),
        (date(1980, 1, 1), date(1980, 12, 31)),
    ),
    "beside another": (
        "SELECT id FROM stays WHERE id < $3 AND born >= $1 AND born < $2 ORDER BY id",
        (date(1, 1, 1), date(4000, 1, 1), 8),
        (date(1980, 1, 1), date(1981, 1, 1), 8),
    ),
    "one bound": (
        "SELECT id FROM stays WHERE born BETWEEN '1980-01-01' AND $1 ORDER BY id",
        (date(1981, 1, 1),),
        (date(1980, 12, 31),),
    ),
    "one end": ("SELECT id FROM stays WHERE born >= $1 ORDER BY id", (date(1980, 1, 15),), (date(1980, 1, 1),)),
    "pattern": ("SELECT id, name FROM people WHERE name LIKE $1 ORDER BY id", ("Sm%",), ("Smi%",)),
    "any case": ("SELECT id FROM people WHERE name ILIKE $1 ORDER BY id", ("%mi%",), ("smi%",)),
    "a pattern and a range": (
        "SELECT id FROM people WHERE name LIKE $1 AND born BETWEEN $2 AND $3 ORDER BY id",
        ("S%", date(1980, 1, 1), date(1980, 12, 31)),
        ("Smi%", date(1980, 1, 1), date(1980, 12, 31)),
    ),
    "used twice": (
        "SELECT id, name LIKE $1 AS b FROM people WHERE name LIKE $1 OR code = $2 ORDER BY id",
        ("%y%", "AB-1234"),
        ("Smy%", "AB-1234"),
    ),
    "null": ("SELECT id FROM stays WHERE born BETWEEN $1 AND $2 OR id = 1 ORDER BY id", (None, date(1980, 1, 15)), (None, None)),
}


@pytest.fixture
def twins(kept_split_twins: Twins) -> Iterator[Twins]:
    """One seeded clinic for all cases, with an engine; nothing has leaked behind each."""
    yield kept_split_twins
    kept_split_twins.discard()


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(twins: Twins, name: str) -> None:
    statement = CONSTANTS[name]
    outcome = twins.both.run(statement, protocol="simple")
    assert outcome.status == "TUPLES_OK", outcome.message
    for parameters, results, named in SELECTS:
        outcome = twins.both.run(statement, param_format=parameters, result_format=results, named=named)
        assert outcome.status == "TUPLES_OK", outcome.message


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(twins: Twins, name: str) -> None:
    statement, refused, answered = PARAMETERS[name]
    for parameters, results, named in PAIRWISE:
        for values in (answered, refused, answered, refused, refused):
            outcome = twins.both.run(statement, values, param_format=parameters, result_format=results, named=named)
            assert outcome.status == "TUPLES_OK", outcome.message


WIDE, NARROW = (date(1980, 1, 15), date(1989, 12, 31)), (date(1980, 1, 1), date(1980, 12, 31))
RANGE = "SELECT id FROM stays WHERE born BETWEEN %s AND %s ORDER BY id"


@pytest.mark.parametrize("binary", [False, True])
def test_one_statement_prepared_once(twins: Twins, binary: bool) -> None:
    answers = []
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as conn:
            cursor = conn.cursor(binary=binary)
            got = [cursor.execute(RANGE, values).fetchall() for values in (NARROW, WIDE, WIDE, NARROW, WIDE, NARROW)]
            with conn.transaction():
                got += [cursor.execute(RANGE, values).fetchall() for values in (WIDE, NARROW)]
            answers.append(got)
    assert answers[0] == answers[1]
    assert answers[1][0] != answers[1][1]


@pytest.mark.parametrize("threshold", [0, None])
def test_in_a_pipeline(twins: Twins, threshold: int | None) -> None:
    answers = []
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=threshold) as conn, conn.pipeline():
            cursors = [conn.execute(RANGE, values) for values in (NARROW, WIDE, NARROW, WIDE, WIDE)]
            cursors.append(conn.execute("SELECT 2"))
            answers.append([cursor.fetchall() for cursor in cursors])
    assert answers[0] == answers[1]


def test_in_a_failed_transaction(twins: Twins) -> None:
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        with psycopg.connect(dsn, prepare_threshold=0) as conn:
            conn.execute(RANGE, NARROW)
            conn.execute("SAVEPOINT s")
            with pytest.raises(psycopg.errors.DivisionByZero):
                conn.execute("SELECT 1 / 0")
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                conn.execute(RANGE, WIDE)
            conn.execute("ROLLBACK TO s")
            assert [row[0] for row in conn.execute(RANGE, WIDE)] == [3, 4, 5]


def test_around_a_query(twins: Twins) -> None:
    query = "SELECT id FROM stays WHERE born BETWEEN '1980-01-15' AND '1989-12-31' ORDER BY id"
    answers = []
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn:
            with conn.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
                got: list[object] = [bytes(data) for data in copy]
            for prepared in (False, True):
                conn.execute(f"DECLARE c{prepared} CURSOR FOR {query}", prepare=prepared)
                got += [conn.execute(f"FETCH {count} FROM c{prepared}").fetchall() for count in ("2", "ALL")]
            answers.append(got)
    assert answers[0] == answers[1]
    with psycopg.connect(twins.clinic.proxy_dsn) as conn:
        for prepared in (False, True):
            assert len(conn.execute(f"EXPLAIN {query}", prepare=prepared).fetchall()) > 2


def test_prepared_by_sql(twins: Twins) -> None:
    prepare = "PREPARE of_years (date, date, int) AS SELECT id FROM stays WHERE born BETWEEN $1 AND $2 AND id < $3 ORDER BY id"
    twins.both.run(prepare, protocol="simple")
    for ends in ("'1980-01-15', '1989-12-31', 5", "'1980-01-01', '1980-12-31', 5", "'1980-01-15', '1989-12-31', 4"):
        outcome = twins.both.run(f"EXECUTE of_years ({ends})", protocol="simple", ordered=True)
        assert outcome.status == "TUPLES_OK", outcome.message
        outcome = twins.both.run(f"EXECUTE of_years ({ends})", ordered=True)
        assert outcome.status == "TUPLES_OK", outcome.message
    twins.both.run("DEALLOCATE of_years", protocol="simple")


async def test_asyncpg(twins: Twins) -> None:
    answers = []
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        conn = await asyncpg.connect(dsn)
        try:
            statement = await conn.prepare(RANGE.replace("%s", "$1", 1).replace("%s", "$2"))
            got: list[object] = [await statement.fetch(*values) for values in (WIDE, NARROW, WIDE)]
            async with conn.transaction():
                cursor = await statement.cursor(*WIDE)
                got += [await cursor.fetch(2), await cursor.fetch(5)]
            got.append([tuple(a) for a in statement.get_attributes()])
            answers.append(got)
        finally:
            await conn.close()
    assert answers[0] == answers[1]


OF_STAYS = "INSERT INTO stays (id, born, bed, word) VALUES ($1, $2, $3, $4)"
OF_PEOPLE = "INSERT INTO people (code, id, born) VALUES ($1, $2, $3)"


@pytest.mark.parametrize(
    ("statement", "values", "state"),
    [
        ("SELECT id FROM stays WHERE id = $1 AND bed = $2", ("99999999999", "y"), "22003"),
        ("SELECT id FROM stays WHERE id = $1 AND bed = $2", ("x", "99999999999"), "22P02"),
        ("SELECT id FROM stays WHERE bed = $1 AND id = $2", ("99999999999", "y"), "22003"),
        ("SELECT id FROM stays WHERE bed = $2 AND id = $1", ("99999999999", "y"), "22003"),
        ("SELECT id FROM stays WHERE id = $1 AND born BETWEEN $2 AND $3", ("x", "y", "1980-01-01"), "22P02"),
        ("SELECT id FROM stays WHERE born BETWEEN $1 AND $2 AND bed = $3", ("x", "1980-01-01", "99999999999"), "22007"),
        ("SELECT id FROM people WHERE name LIKE $1 AND id = $2 AND born = $3", ("S%", "x", "y"), "22P02"),
        (OF_STAYS, ("x", "1990-02-30", "x", None), "22P02"),
        (OF_STAYS, ("99999999999", "1990-01-30", "x", None), "22003"),
        (OF_STAYS, ("1", "1990-02-30", "x", None), "22008"),
        # Of what is too long PostgreSQL says so when it has read all of them.
        (OF_PEOPLE, ("0123456789abcdef", "x", "1990-01-01"), "22P02"),
        (OF_PEOPLE, ("0123456789abcdef", "x", "y"), "22P02"),
        (OF_PEOPLE, ("0123456789abcdef", "1", "y"), "22007"),
        (OF_PEOPLE, ("0123456789abcdef", "1", "1990-01-01"), "22001"),
        ("UPDATE people SET code = $1, born = $3 WHERE id = $2", ("0123456789abcdef", "x", "1990-01-01"), "22P02"),
    ],
)
def test_the_first_of_several_that_are_no_values_is_told(
    twins: Twins, statement: str, values: tuple[str | None, ...], state: str
) -> None:
    for parameters, results, named in ((0, 0, False), (0, 1, True)):
        for begin in (False, True):
            if begin:
                twins.both.run("BEGIN", protocol="simple")
            outcome = twins.both.run(statement, values, param_format=parameters, result_format=results, named=named)
            assert outcome.sqlstate == state, outcome.message
            twins.both.run("SELECT 1")
            twins.both.run("ROLLBACK", protocol="simple")
