"""Given rows that meet something sealed in statements that are prepared, by both kinds of names: as PostgreSQL, or refused."""

from __future__ import annotations

import pytest

from tests.fixtures.live import Twins
from tests.harness import results

STATEMENTS = {
    "compared": (
        "SELECT p.id FROM people p JOIN (SELECT concat($1::text, id) AS d, id AS n FROM log) v ON v.n = p.id WHERE p.name <> v.d",
        "split",
    ),
    "stored": ("INSERT INTO visits (diagnosis, room) SELECT u, v.d FROM (VALUES ($1::text)) v (d), upper(v.d) AS u", "refused"),
    "in a reference forward": (
        "INSERT INTO visits (diagnosis, room) WITH RECURSIVE a AS (SELECT upper(b.d) AS u FROM b), b (d) AS (VALUES ($1::text))"
        " SELECT a.u, b.d FROM a, b",
        "refused",
    ),
    "returned": (
        "DELETE FROM people p USING (VALUES (1, $1::text)) v (n, d) WHERE v.n = p.id RETURNING upper(p.name) > v.d",
        "split",
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_prepared(kept_split_twins: Twins, name: str) -> None:
    twins, (statement, becomes) = kept_split_twins, STATEMENTS[name]
    planted = twins.value("new_a")
    prepare, execute = f"PREPARE given_rows (text) AS {statement}", f"EXECUTE given_rows ('{planted}')"
    if becomes == "refused":
        twins.both.refused(statement, [planted])
        twins.both.refused(statement.replace("$1", f"'{planted}'"), protocol="simple")
        twins.both.refused(prepare, protocol="simple")
    else:
        with twins.rolled_back():
            assert twins.both.run(statement, [planted], named=True).status == "TUPLES_OK"
        with twins.rolled_back():
            twins.both.run(prepare, protocol="simple")
            assert twins.both.run(execute, protocol="simple").status == "TUPLES_OK"
    assert results.simple(twins.both.proxied, "SELECT 1")[-1].text == [("1",)]
    twins.nothing_leaked()
