"""Words that mean a moment of the clock, stored in protected dates and compared with them, by a proxy with an engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.live import Twins

STATEMENTS = (
    "INSERT INTO people (born) VALUES ('today'), (date 'yesterday') RETURNING born = current_date, born = current_date - 1",
    "INSERT INTO people (name, born, city) VALUES ('x', 'tomorrow', 'now'), ('y', '1980-01-01', 'today') RETURNING name, city",
    "UPDATE people SET born = 'today' WHERE id < 3 RETURNING id, born = current_date",
    "UPDATE stays SET admitted = 'now' WHERE id = 1 RETURNING admitted = localtimestamp",
    "UPDATE people SET name = name || '!', born = 'yesterday' WHERE id = 2 RETURNING name, current_date - born",
    "SELECT id FROM people WHERE born = 'today' OR born < 'yesterday' ORDER BY id",
    "SELECT id FROM people WHERE born IN ('1980-01-01', 'today') OR id = 1 ORDER BY id",
    "SELECT id FROM people WHERE born BETWEEN '1980-01-01' AND 'now' AND name > 'S' ORDER BY id",
    "SELECT count(*) FROM stays WHERE admitted < 'now' AND id < 6",
    "SELECT count(*) FROM people WHERE born > 'tomorrow'",
    "DELETE FROM people WHERE born < 'today' AND name LIKE 'S%'",
    "SELECT id FROM people WHERE born < 'epoch' ORDER BY id",
    # Only RETURNING would have to be computed, if the condition asked no clock.
    "DELETE FROM people p USING stays s WHERE s.id = p.id AND p.born IN ('1980-01-15', 'today') RETURNING p.id",
    "UPDATE people SET city = 'x' WHERE born IN ('1980-01-15', 'today') RETURNING id, born",
)


@pytest.fixture
def twins(kept_split_twins: Twins) -> Iterator[Twins]:
    """One seeded clinic for all cases, with an engine; nothing has leaked behind each."""
    yield kept_split_twins
    kept_split_twins.discard()


def stays_as_planned(twins: Twins) -> None:
    """Let no autovacuum analyze a table until the transaction ends: of a prepared statement PostgreSQL would read 'now' again."""
    twins.both.run("LOCK TABLE people, stays IN SHARE UPDATE EXCLUSIVE MODE", protocol="simple")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_as_postgresql(twins: Twins, statement: str) -> None:
    for named, protocol in ((False, "extended"), (True, "extended"), (False, "simple")):
        with twins.rolled_back():
            stays_as_planned(twins)
            kind = {"protocol": "simple"} if protocol == "simple" else {"named": named}
            outcome = twins.both.run(statement, ordered=False, **kind)
            assert outcome.sqlstate is None, outcome.message
            twins.both.run("SELECT count(*) FROM people WHERE born BETWEEN 'yesterday' AND 'tomorrow'")
            twins.both.run("SELECT id, name, city FROM people ORDER BY id")


def test_in_another_time_zone(twins: Twins) -> None:
    with twins.rolled_back():
        twins.both.run("SET LOCAL TimeZone TO 'Pacific/Kiritimati'", protocol="simple")
        twins.both.run("UPDATE people SET born = 'today' WHERE id = 1")
        twins.both.run("SELECT born FROM people WHERE id = 1")
        assert twins.both.run("SELECT id FROM people WHERE born = 'today'").rows == ((b"1",),)
