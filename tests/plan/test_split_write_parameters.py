"""The parameters of the write of a split statement, and the last look at where computed values go."""

from __future__ import annotations

from struct import pack

import pytest

from phiproxy.errors import StatementRefused, WireError
from phiproxy.plan.explanation import explain
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts, SplitPlan
from phiproxy.plan.split_write_parameters import check_stored, only_row, parameters_of
from phiproxy.sql.result import SplitWrite
from phiproxy.wire.messages import message
from tests.clinic_model import PATH
from tests.fixtures import model

MODEL = model.planner(15)
PLANNER = Planner(MODEL.protection, MODEL.catalog, MODEL.ciphers, EngineFacts())
WRITE = SplitWrite(b"INSERT INTO patients (ssn, city) VALUES ($1, $2)", (-1, 2), (25, 0), frozenset({1}))


def row(*values: bytes | None) -> bytes:
    fields = (b"\xff\xff\xff\xff" if value is None else pack("!i", len(value)) + value for value in values)
    return message(b"D", pack("!H", len(values)) + b"".join(fields))


def test_columns_of_the_rest_and_the_client_s_parameters() -> None:
    sent = parameters_of(WRITE, [b"computed"], (1082, 23), [b"x", b"7"], [0, 0])
    assert (sent.oids, sent.formats, sent.values) == ((25, 23), (1, 0), [b"computed", b"7"])
    assert parameters_of(WRITE, [None], (), [b"x", b"\0\0\0\7"], [0, 1]).oids == (25, 0)


def test_a_rest_has_one_row() -> None:
    end = message(b"C", b"SELECT 1\0")
    assert only_row(row(b"a", None, b"") + end) == [b"a", None, b""]
    for rows in (b"", row(b"a") + row(b"b")):
        with pytest.raises(WireError):
            only_row(rows + end)


def test_computed_values_are_sealed_or_not_sent() -> None:
    check_stored(PLANNER.statement(WRITE.text, (25, 0), model.VIEW), frozenset({1}))
    for text, computed in (
        (WRITE.text, frozenset({2})),
        (b"UPDATE patients SET city = $1", frozenset({1})),
        (b"DELETE FROM patients WHERE ssn = $1", frozenset({1})),
        (b"SELECT 1", frozenset({1})),
    ):
        with pytest.raises(StatementRefused):
            check_stored(PLANNER.statement(text, (), model.VIEW), computed)


def test_of_a_write_that_is_split_itself_its_source_is_looked_at() -> None:
    plan = PLANNER.statement(b"INSERT INTO patients (city, ssn) VALUES ($2, $1) RETURNING upper(ssn)", (25, 0), model.VIEW)
    assert isinstance(plan, SplitPlan)
    check_stored(plan, frozenset({1}))
    with pytest.raises(StatementRefused):
        check_stored(plan, frozenset({2}))


def test_it_is_explained_without_constants() -> None:
    told = explain(PLANNER, b"UPDATE patients SET notes = notes || $1, city = 'Ada' WHERE id = $2", "clinic", PATH)
    assert told.answer == "split"
    assert told.write.startswith('UPDATE patients SET "notes" = phi_write.phi_3')
    assert "Ada" not in repr(told)
