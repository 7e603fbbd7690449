"""RETURNING of the tables beside the target: what is given with the chosen rows, what the engine keeps, and what is refused."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts, SplitPlan
from phiproxy.plan.split_write_parameters import check_stored
from tests.fixtures.model import VIEW, planner
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


KEPT = "(CAST(${} AS {}[]))[phi_write.phi_kept]"


@pytest.mark.parametrize(
    ("returned", "kept", "written"),
    [
        ("v.room, p.id", ["text"], "{}, p.id"),
        ("upper(v.diagnosis) AS d, v.room", ["text", "text"], "upper({}) AS d, {}"),
        ("*", ["int4", "int4", "varchar", "text", "text"], '"p".*, {}, {}, {}, {}, {}'),
        ("v.*", ["int4", "int4", "varchar", "text", "text"], "{}, {}, {}, {}, {}"),
        ("v.room::varchar", ["text"], "{}::varchar"),
        ("upper(v.room), upper(p.notes)", ["text"], "upper({}), upper(p.notes)"),
    ],
)
def test_what_the_engine_keeps(returned: str, kept: list[str], written: str) -> None:
    """What a simple query would be told no table of, what is protected, and what stands beside something computed."""
    split = split_of(UPDATE + returned)
    assert split is not None
    assert split.write is not None
    assert split.write.kept == frozenset(range(4, 4 + len(kept)))
    shown = written.format(*(KEPT.format(n, of) for n, of in enumerate(kept, start=4)))
    assert split.write.text.decode().endswith(" RETURNING " + shown)
    assert "WITH ORDINALITY AS phi_write (phi_1, phi_2, phi_3, phi_kept)" in split.write.text.decode()


ODD = "UPDATE patients p SET notes = upper(p.notes) FROM {} RETURNING *"


def test_types_whose_names_are_words_of_the_grammar() -> None:
    """``bit[]`` would be bits of one."""
    split = split_of(ODD.format("(SELECT B'101'::bit(3), 'a'::\"char\") AS v (b, c)"))
    assert split is not None
    assert split.write is not None
    kept = [KEPT.format(n, of) for n, of in ((4, '"bit"'), (5, '"char"'))]
    assert split.write.text.decode().endswith(f' RETURNING "p".*, {kept[0]}, {kept[1]}')


def test_no_columns_beside() -> None:
    split = split_of(ODD.format("(SELECT) AS v"))
    assert split is not None
    assert split.write is not None
    assert not split.write.kept
    assert split.write.text.decode().endswith(' RETURNING "p".*')


@pytest.mark.parametrize("returned", ["k, upper(notes)", "*, upper(notes)"])
def test_a_client_calls_rows_of_its_own_like_chosen_ones(returned: str) -> None:
    """They are shown, or it is refused."""
    split = split_of(f"UPDATE patients SET city = 'x' FROM unnest(ARRAY[1, 2]) AS phi_write (k) WHERE id = k RETURNING {returned}")
    assert split is None or b"k" in split.source.rpartition(b" RETURNING ")[2]


@pytest.mark.parametrize("returned", ["v", "p", "p, v.room", "(SELECT v.room)", "v.ctid", "u.*", "*, *, v.nothing", "ARRAY[v.*]"])
def test_what_is_refused(returned: str) -> None:
    """Rows, what is read beside, system columns, and what is not there."""
    assert split_of(UPDATE + returned) is None


def test_what_is_kept_is_not_given_to_the_server() -> None:
    """By whomever it is written: its RETURNING is computed, and only the number of the row is returned."""
    there = planner()
    split = split_of(UPDATE + "v.diagnosis")
    assert split is not None
    assert split.write is not None
    plan = Planner(there.protection, there.catalog, there.ciphers, EngineFacts()).statement(split.write.text, (), VIEW)
    assert isinstance(plan, SplitPlan)
    assert plan.split.source.decode().endswith('RETURNING "phi_write"."phi_kept"')
    assert split.write.kept.isdisjoint(plan.split.source_parameters)
    check_stored(plan, split.write.computed, split.write.kept)
    with pytest.raises(StatementRefused):
        check_stored(plan, split.write.computed, split.write.kept | frozenset({1}))
    with pytest.raises(StatementRefused):
        check_stored(plan.source, split.write.computed, split.write.kept)


def test_a_given_value_that_is_stored_is_not_returned_in_clear() -> None:
    split = split_of(GIVEN + "v.n")
    assert split is not None
    assert split.write is not None
    assert split.write.kept == {4}


def test_not_in_with() -> None:
    assert split_of(f"WITH w AS ({UPDATE} p.id, upper(v.room) AS r) SELECT id, r FROM w") is None
