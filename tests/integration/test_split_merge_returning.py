"""RETURNING of a MERGE (PostgreSQL 17) that is computed, of the target, the source, all columns, and of what was done."""

from __future__ import annotations

import pytest

from tests.harness.differential import Differential, Protocol

STATE = (
    "SELECT id, notes, city, full_name FROM patients ORDER BY id;"
    " SELECT id, patient_id, diagnosis, room FROM visits ORDER BY id"
)
SOME = "MERGE INTO patients p USING (VALUES (1, 'a'), (2, 'b'), (90, 'c')) AS s (id, mark) ON p.id = s.id"
BOTH = "WHEN MATCHED THEN UPDATE SET city = s.mark WHEN NOT MATCHED THEN INSERT (id, full_name, city) VALUES (s.id, 'New', 'c')"
STATEMENTS = {
    "of the target": f"{SOME} {BOTH} RETURNING p.id, upper(p.full_name), p.notes",
    "what was done": f"{SOME} {BOTH} RETURNING merge_action(), reverse(p.full_name), lower(merge_action()) AS done",
    "of the source": f"{SOME} {BOTH} RETURNING s.mark || p.full_name, merge_action()",
    "of a table": "MERGE INTO visits v USING patients p ON p.id = v.patient_id WHEN MATCHED AND p.id < 3 THEN DELETE"
    " WHEN MATCHED THEN UPDATE SET room = 'x' RETURNING merge_action(), upper(p.full_name), v.room, initcap(v.diagnosis)",
    "all columns": f"{SOME} {BOTH} RETURNING *, upper(p.full_name), merge_action()",
    "all columns of both": f"{SOME} {BOTH} RETURNING s.*, p.id, upper(p.ssn)",
    "not matched by the source": f"{SOME} AND p.id < 4 WHEN NOT MATCHED BY SOURCE AND p.id > 3 THEN UPDATE SET city = 'gone'"
    " RETURNING merge_action(), p.id, s.mark, upper(p.full_name)",
    "of what is computed": f"{SOME} WHEN MATCHED THEN UPDATE SET notes = p.notes || s.mark"
    " RETURNING merge_action(), upper(p.notes), p.id",
    "of the source of what is stored": f"{SOME} WHEN MATCHED THEN UPDATE SET notes = p.notes || s.mark"
    " WHEN NOT MATCHED THEN INSERT (id, notes) VALUES (s.id, upper(s.mark)) RETURNING s.mark, upper(p.notes), mark || p.notes AS m",
    "all columns of what is stored": f"{SOME} WHEN MATCHED THEN UPDATE SET notes = p.notes || s.mark RETURNING *, merge_action()",
    "of chosen rows": "MERGE INTO visits v USING patients p ON p.id = v.patient_id WHEN MATCHED AND p.full_name > 'M' THEN DELETE"
    " WHEN MATCHED THEN UPDATE SET room = 'x' RETURNING p.*, p.full_name || v.diagnosis, merge_action(), v.*",
    "of chosen rows that the source has not": "MERGE INTO visits v USING patients p ON p.id = v.patient_id AND p.full_name > 'M'"
    " WHEN MATCHED THEN DELETE WHEN NOT MATCHED BY SOURCE THEN UPDATE SET room = 'x' RETURNING p.id, p.full_name, v.id",
    "of what is drawn": "MERGE INTO patients p USING (VALUES (1, 'a')) AS s (id, mark) ON p.id = s.id"
    " WHEN MATCHED THEN UPDATE SET notes = s.mark || left(nextval('visits_id_seq')::text, 0)"
    " RETURNING merge_action(), upper(p.notes), p.id",
    "of no rows": f"{SOME} AND p.id < 0 WHEN MATCHED THEN DELETE RETURNING merge_action(), upper(p.notes), s.mark",
}
WAYS: list[tuple[Protocol, int, bool]] = [("simple", 0, False), ("extended", 0, False), ("extended", 1, True)]


@pytest.mark.parametrize("name", STATEMENTS)
def test_as_postgresql(both: Differential, name: str) -> None:
    if both.plain.server_version < 170_000:
        pytest.skip("MERGE has no RETURNING")
    for protocol, results, named in WAYS:
        both.run("BEGIN")
        outcome = both.run(STATEMENTS[name], protocol=protocol, result_format=results, named=named, ordered=False)
        assert not outcome.sqlstate, outcome.message
        both.run(STATE, protocol="simple")
        both.run("ROLLBACK")


def test_rows_of_the_source_beside_what_is_stored_are_refused(both: Differential) -> None:
    if both.plain.server_version < 170_000:
        pytest.skip("MERGE has no RETURNING")
    both.refused(f"{SOME} WHEN MATCHED THEN UPDATE SET notes = p.notes || s.mark RETURNING s, upper(p.notes)")
    both.run(STATE, protocol="simple")
