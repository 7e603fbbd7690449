"""ON CONFLICT DO UPDATE to what is computed of the row: which triggers and policies stand in the way, and which do not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.policy.catalog import Catalog
from phiproxy.sql.context import Context
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Refused, Split
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import VIEW, planner
from tests.sql.split.ask import shown, split_of

INTO = "INSERT INTO members AS m (mrn, email) VALUES ('a', 'b') ON CONFLICT (mrn) DO UPDATE SET email = m.email || "
SEVERAL = INTO.replace("('a', 'b')", "('a', 'b'), ('c', 'd')")
OF_A_QUERY = INTO.replace("VALUES ('a', 'b')", "SELECT mrn, notes FROM patients")


def _split(text: str, **of_members: Any) -> tuple[Split | None, str | None]:
    """Return how a statement is split where the table is such, and the hint of its refusal."""
    there = planner(15)
    relations = tuple(dataclasses.replace(r, **of_members) if r.name == "members" else r for r in there.catalog.relations)
    catalog: Catalog = dataclasses.replace(there.catalog, relations=relations)
    context = Context(there.protection, catalog, VIEW.path, VIEW.database, default_text=there.ciphers.default_text)
    (statement,) = parse(text.encode())
    outcome = analyse(statement, text.encode(), context)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, StatementRefused)
    return split_statement(statement, text.encode(), context, outcome.error), outcome.error.hint


@pytest.mark.parametrize("text", [INTO, SEVERAL, OF_A_QUERY])
def test_policies_do_not_stand_in_the_way(text: str) -> None:
    for by_command in (True, False):
        split, _ = _split(text + "EXCLUDED.email", row_security=True, policies_by_command=by_command)
        assert split is not None
        assert split.write is not None
        assert split.write.again


@pytest.mark.parametrize("text", [INTO, SEVERAL, OF_A_QUERY])
def test_with_triggers_before_it_is_of_the_row_that_is_there(text: str) -> None:
    """It is never executed again, which would run the triggers a second time."""
    split, _ = _split(text + "'!'", diverted=True)
    assert split is not None
    assert split.write is not None
    assert not split.write.again
    for changed in ("EXCLUDED.email", "'!' WHERE m.email > 'a'", "'!' WHERE m.note = 'a'"):
        split, hint = _split(text + changed, diverted=True)
        assert split is None
        assert "place of EXCLUDED" in (hint or "")


@pytest.mark.parametrize("text", [INTO, SEVERAL, OF_A_QUERY])
def test_a_proposed_value_that_a_default_takes_the_place_of(text: str) -> None:
    for word, taken in (("SYSTEM", True), ("USER", False)):
        overriding = text.replace("email) ", f"email) OVERRIDING {word} VALUE ", 1)
        split, _ = _split(overriding + "'!'")
        assert (split is not None) == taken


@pytest.mark.parametrize("triggers", ["row_triggers", "diverted", "statement_triggers"])
def test_triggers_may_look_at_what_rows_before_have_drawn(triggers: str) -> None:
    several = SEVERAL.replace("(mrn, email)", "(mrn, id)").replace("'b'", "1").replace("'d'", "2") + "nextval('numbers')"
    split, _ = _split(several)
    assert split is not None
    split, hint = _split(several, **{triggers: True})
    assert split is None
    assert "SELECT nextval" in (hint or "")


@pytest.mark.parametrize("by_command", [True, False])
def test_what_is_chosen_by_the_plaintext_needs_policies_for_all_commands(*, by_command: bool) -> None:
    statements = (
        "DELETE FROM members WHERE email ILIKE 'a%'",
        "MERGE INTO members m USING visits v ON v.mrn = m.mrn WHEN MATCHED THEN UPDATE SET email = m.email || v.room",
    )
    for text in statements:
        split, hint = _split(text, row_security=True, policies_by_command=by_command)
        assert (split is None) == by_command
        assert ("FOR ALL" in (hint or "")) == by_command
    split, _ = _split("UPDATE members SET email = email || 'x'", row_security=True, policies_by_command=by_command)
    assert split is not None, "PostgreSQL, too, changes the rows only that may be seen and changed"


def test_by_a_unique_index_of_two_columns() -> None:
    """The fixtures' catalogue has no such index, so it is none of them; integration/test_split_writes runs the same both ways."""
    split = split_of(
        "INSERT INTO members AS m (email, city, mrn) VALUES ('e', 'Capital City', 'abc') ON CONFLICT (email, "
        "city) DO UPDATE SET mrn = left(m.mrn, 2) || EXCLUDED.mrn"
    )
    assert split is not None
    assert split.write is not None
    assert split.source.decode() == (
        "SELECT phi_rows.phi_row, \"m\".\"mrn\", \"m\".\"ctid\", \"m\".\"tableoid\" FROM (VALUES (1::int4, CAST('e' AS text), "
        "CAST('Capital City' AS text))) AS phi_rows (phi_row, \"email\", \"city\"), members AS m WHERE \"m\".\"email\" = "
        'phi_rows."email" AND "m"."city" = phi_rows."city" FOR UPDATE OF "m"'
    )
    assert split.write.text.decode() == (
        "INSERT INTO members AS m (email, city, mrn) VALUES ('e', 'Capital City', 'abc') ON CONFLICT (email, "
        'city) DO UPDATE SET "mrn" = (SELECT phi_write.phi_3 FROM ROWS FROM (pg_catalog.unnest($1::text[]), '
        "pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::varchar[])) AS phi_write (phi_1, phi_2, phi_3) "
        'WHERE "m".ctid = phi_write.phi_1::tid AND "m".tableoid = phi_write.phi_2::oid LIMIT 1) WHERE ("m".ctid, '
        '"m".tableoid) IN (SELECT phi_write.phi_1::tid, phi_write.phi_2::oid FROM ROWS FROM '
        "(pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS phi_write (phi_1, phi_2))"
    )
    assert shown(split.rest) == (
        "SELECT pg_catalog.array_agg(q.q1 ORDER BY q.q5) FILTER (WHERE q.q4), pg_catalog.array_agg(q.q2 ORDER BY "
        "q.q5) FILTER (WHERE q.q4), pg_catalog.array_agg(CAST(q.q3 AS varchar) ORDER BY q.q5) FILTER (WHERE "
        "q.q4), CASE WHEN pg_catalog.bool_or(q.q4 AND NOT q.first) THEN NULL ELSE 1 - pg_catalog.count(*) FILTER "
        "(WHERE q.q1 IS NOT NULL AND NOT q.q4) END FROM (SELECT q.*, pg_catalog.first_value(q.q4) OVER (PARTITION "
        'BY q.q1, q.q2 ORDER BY q.q5) AS first FROM (SELECT "m".ctid::text, "m".tableoid::text, CASE WHEN '
        '"m".ctid IS NOT NULL THEN CASE WHEN true THEN (left(m.mrn, 2) || EXCLUDED.mrn) END END, CASE WHEN '
        '"m".ctid IS NOT NULL THEN true ELSE false END, excluded.phi_row FROM (VALUES (1::int4, NULL, '
        "CAST(CAST('abc' AS varchar) AS varchar(12)), NULL, NULL, NULL)) AS excluded (phi_row, \"id\", \"mrn\", "
        '"email", "city", "note") LEFT JOIN LATERAL (SELECT s.c2, s.c3, s.c4 FROM {} AS s WHERE s.c1 = '
        'excluded.phi_row) AS "m" ("mrn", "ctid", "tableoid") ON true) AS q (q1, q2, q3, q4, q5)) AS q'
    )
