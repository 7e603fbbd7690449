"""MERGE: what each branch sees, and which salts go together."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import VIEW, ask, columns, tag
from tests.sql.writes.test_assignment import rows

T = '"public".patients'
NEWER = Planner(PROTECTION, dataclasses.replace(CATALOG, server_version=170000), Ciphers(Keyring(lambda: 0.0)))


def test_what_is_compared_and_stored_is_an_envelope_and_its_tag() -> None:
    client = f"MERGE INTO {T} p USING (VALUES ($1)) s (ssn) ON p.ssn = s.ssn WHEN NOT MATCHED THEN INSERT (ssn) VALUES (s.ssn)"
    server = client.replace("p.ssn = s.ssn", f"{tag('p.ssn')} = {tag('s.ssn')}")
    assert ask(client) == server
    assert len(rows(client)) == 1


def test_what_is_only_compared_is_a_tag() -> None:
    client = f"MERGE INTO {T} p USING (VALUES ($1)) s (ssn) ON p.ssn = s.ssn WHEN MATCHED THEN DELETE"
    assert ask(client) == client.replace("p.ssn", tag("p.ssn"))
    assert rows(client) == []


def test_a_row_of_the_source_is_sealed_together_and_branches_are_not() -> None:
    source = "MERGE INTO patients p USING (VALUES ($1, $2)) s (a, b) ON p.id = 1"
    one, two = rows(f"{source} WHEN MATCHED THEN UPDATE SET ssn = a, notes = b WHEN NOT MATCHED THEN INSERT (ssn) VALUES (a)")
    assert one == two
    one, two = rows(f"{source} WHEN MATCHED THEN UPDATE SET ssn = $3 WHEN NOT MATCHED THEN INSERT (ssn) VALUES ($4)")
    assert one != two


@pytest.mark.parametrize(
    ("clause", "answer"),
    [
        ("WHEN NOT MATCHED THEN INSERT (ssn) VALUES (p.ssn)", "42P01"),
        ("WHEN NOT MATCHED BY SOURCE AND v.room = 'x' THEN DELETE", "42P01"),
        ("WHEN NOT MATCHED THEN INSERT (diagnosis) VALUES ('x')", "42703"),
        ("WHEN NOT MATCHED THEN INSERT (ssn) VALUES (v.diagnosis)", "0A000"),
        ("WHEN NOT MATCHED THEN INSERT (city) VALUES (v.diagnosis)", "0A000"),
        ("WHEN NOT MATCHED THEN INSERT (city) VALUES ('x', 'y')", "42601"),
        ("WHEN NOT MATCHED THEN INSERT (city, active) VALUES (v.*)", "0A000"),
        ("WHEN MATCHED AND upper(p.ssn) = 'x' THEN DELETE", "0A000"),
    ],
)
def test_a_clause_sees_what_postgresql_lets_it_see(clause: str, answer: str) -> None:
    assert ask(f"MERGE INTO patients p USING visits v ON p.id = v.id {clause}", VIEW, NEWER) == answer


def test_returning_lists_the_source_first() -> None:
    merge = "MERGE INTO patients p USING visits v ON p.id = v.id WHEN MATCHED THEN DELETE RETURNING *"
    shown = columns(merge, NEWER)
    assert shown[2:4] == ["mrn", "diagnosis"]
    assert shown[6:8] == ["ssn", "full_name"]


def test_old_and_new_are_known_from_18_on() -> None:
    planner = Planner(PROTECTION, dataclasses.replace(CATALOG, server_version=180000), Ciphers(Keyring(lambda: 0.0)))

    def shown(returning: str) -> list[str | None]:
        plan = planner.statement(f"UPDATE patients p SET ssn = $1 RETURNING {returning}".encode(), (), VIEW)
        assert plan.columns is not None
        return [None if r is None else r.column.name for r in plan.columns.reveals]

    assert shown("old.ssn, new.city, new.full_name") == ["ssn", None, "full_name"]
    assert shown("WITH (OLD AS o) o.ssn, new.ssn") == ["ssn", "ssn"]
    assert shown("*") == [None, "ssn", "full_name", "mrn", "notes", None, None]
    assert ask("UPDATE patients SET ssn = $1 RETURNING old.ssn") == "42P01"
