"""RETURNING of the tables beside the target: what is given with the chosen rows, and what is refused."""

from __future__ import annotations

import pytest

from tests.sql.split.ask import split_of

UPDATE = "UPDATE patients p SET notes = p.notes || v.room FROM visits v WHERE v.patient_id = p.id RETURNING "
GIVEN = "UPDATE patients p SET notes = p.notes || v.n FROM (VALUES (1, 'a', 'b')) AS v (id, n, m) WHERE v.id = p.id RETURNING "


@pytest.mark.parametrize(
    ("text", "returned"),
    [
        (UPDATE + "p.id, upper(v.room)", "p.id, upper(phi_write.phi_4)"),
        (UPDATE + "upper(room) AS r, v.id * 2, p.*", "upper(phi_write.phi_4) AS r, phi_write.phi_5 * 2, p.*"),
        (GIVEN + "v.m, p.notes, v.id", 'phi_write.phi_4 AS "m", p.notes, phi_write.phi_5 AS "id"'),
        (
            "DELETE FROM patients p USING visits v WHERE v.patient_id = p.id AND p.notes > 'a' RETURNING v.id + p.id",
            "phi_write.phi_3 + p.id",
        ),
    ],
)
def test_what_is_given_with_the_rows(text: str, returned: str) -> None:
    split = split_of(text)
    assert split is not None
    assert split.write is not None
    assert split.write.text.decode().endswith(" RETURNING " + returned)


@pytest.mark.parametrize(
    "returned",
    [
        "v.room",
        "*",
        "v.*",
        "v",
        "p",
        "upper(v.diagnosis)",
        "v.room::varchar",
        "(SELECT v.room)",
        "upper(v.room), upper(p.notes)",
        "v.ctid",
    ],
)
def test_what_is_refused(returned: str) -> None:
    """What a simple query would be told no table of, what is protected, rows, and what is read beside."""
    assert split_of(UPDATE + returned) is None


def test_a_given_value_that_is_stored_is_not_returned_in_clear() -> None:
    assert split_of(GIVEN + "v.n") is None


def test_not_in_with() -> None:
    assert split_of(f"WITH w AS ({UPDATE} p.id, upper(v.room) AS r) SELECT id, r FROM w") is None
