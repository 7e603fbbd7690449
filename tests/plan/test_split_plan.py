"""What a split's plan tells: descriptions, positions, and what the engine may order otherwise."""

from __future__ import annotations

import pytest

from phiproxy.engine.rest import MIRRORED
from phiproxy.errors import StatementFailed, StatementRefused, WireError
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import MAX_DESCRIPTIONS, SETTINGS, EngineFacts, SplitPlan, with_long_names
from phiproxy.wire.messages import Field, encode_parameter_description, encode_row_description, message
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ciphers

TEXT = "SELECT 'Zoë', id, full_name || $1 AS ü FROM patients ORDER BY full_name".encode()
FIELDS = [Field(b"a", 0, 0, 25, -1, -1, 0), Field(b"id", 0, 0, 23, 4, -1, 0), Field(b"b", 0, 0, 25, -1, -1, 0)]
TOLD = [encode_parameter_description([25]), encode_row_description(FIELDS)]


@pytest.fixture
def plan() -> SplitPlan:
    plan = Planner(PROTECTION, CATALOG, full_ciphers(), EngineFacts()).statement(TEXT, (), View(PATH, "clinic"))
    assert isinstance(plan, SplitPlan)
    return plan


def test_what_is_asked_for_is_mirrored() -> None:
    assert frozenset(SETTINGS) <= MIRRORED


def test_a_description_has_the_clients_origins(plan: SplitPlan) -> None:
    description = plan.describe("key", b"".join(TOLD))
    assert description.parameters == (25,)
    assert [bool(f.table_oid) for f in description.fields] == [False, True, False]
    assert [f.format for f in description.shown((1, 0, 1))] == [1, 0, 1]
    assert plan.descriptions["key"] is description


def test_few_descriptions_are_kept(plan: SplitPlan) -> None:
    for n in range(MAX_DESCRIPTIONS + 3):
        plan.describe(n, b"".join(TOLD))
    assert len(plan.descriptions) <= MAX_DESCRIPTIONS


@pytest.mark.parametrize("told", [[TOLD[1]], [TOLD[0], message(b"n", b"")]])
def test_an_engine_that_says_something_else(plan: SplitPlan, told: list[bytes]) -> None:
    with pytest.raises(WireError):
        plan.describe("key", b"".join(told))


def test_another_number_of_columns_than_was_analysed_is_refused(plan: SplitPlan) -> None:
    with pytest.raises(StatementRefused):
        plan.describe("key", TOLD[0] + encode_row_description(FIELDS[:2]))


@pytest.mark.parametrize("word", ["full_name ||", "'Zo", "id,", "full_name"])
def test_a_position_in_the_rest_is_one_in_the_clients_text(plan: SplitPlan, word: str) -> None:
    rest = b"".join(plan.split.rest.parts).decode()
    failed = plan.placed(StatementFailed([(67, b"22012")], rest.index(word) + 1))
    assert failed.position == TEXT.decode().index(word) + 1
    assert isinstance(failed, StatementFailed)
    assert failed.state == "22012"


def test_a_position_that_the_client_has_not_written(plan: SplitPlan) -> None:
    rest = b"".join(plan.split.rest.parts).decode()
    assert plan.placed(StatementFailed([], rest.index("s.c1") + 1)).position is None
    assert plan.placed(StatementFailed([])).position is None


def test_another_order_is_refused() -> None:
    planner = Planner(PROTECTION, CATALOG, full_ciphers(), EngineFacts({"": "the versions differ"}))
    with pytest.raises(StatementRefused, match="the versions differ") as refused:
        planner.statement(TEXT, (), View(PATH, "clinic"))
    assert "collation_difference" in (refused.value.hint or "")


def test_a_position_in_the_source_is_one_in_the_clients_text() -> None:
    text = "SELECT 'ü', upper(full_name) FROM patients p WHERE id = 1 FOR UPDATE OF p".encode()
    split = Planner(PROTECTION, CATALOG, full_ciphers(), EngineFacts()).statement(text, (), View(PATH, "clinic"))
    assert isinstance(split, SplitPlan)
    source, whole = split.split.source.decode(), text.decode()
    for word, own in (("id = 1", "id = 1"), ("OF p", 'OF "p"')):
        at = len(word) - len(word.split()[-1])
        assert split.placed_in_source(source.index(own) + at + 1) == whole.index(word) + at + 1
    assert split.placed_in_source(1) is None


def test_the_server_is_asked_about_no_more_names_than_a_query_may_have_outputs() -> None:
    long = "a" * 64
    text = f"SELECT id FROM patients {long} WHERE id IN ({', '.join([long + '.id'] * 1700)})".encode()
    plan = Planner(PROTECTION, CATALOG, full_ciphers(), EngineFacts()).statement(text, (), View(PATH, "clinic"))
    assert with_long_names(plan).count(b"1 AS ") == 1664
