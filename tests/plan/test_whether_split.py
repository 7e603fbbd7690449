"""How statements are planned that are split: by themselves, in strings, around a query, and by name."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused, SyntaxRefused
from phiproxy.plan.compile import IndeterminateDatatype, UndefinedParameter
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts, SplitPlan
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.wire.messages import Field, encode_parameter_description, encode_row_description
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ciphers

SORTED = b"SELECT id, full_name FROM patients ORDER BY full_name"
VIEW = View(PATH, "clinic")


@pytest.fixture
def planner() -> Planner:
    return Planner(PROTECTION, CATALOG, full_ciphers(), EngineFacts())


def planned(planner: Planner, text: bytes, oids: tuple[int, ...] = ()) -> SplitPlan:
    plan = planner.statement(text, oids, VIEW)
    assert isinstance(plan, SplitPlan)
    return plan


def test_the_server_is_sent_the_source(planner: Planner) -> None:
    plan = planned(planner, SORTED)
    assert b"ORDER BY" not in plan.sql
    assert plan.touches
    assert [plan.identity, plan.quiet, plan.ordinary, plan.bind_says_all] == [False] * 4


def test_the_types_that_the_engine_tells_are_the_sources(planner: Planner) -> None:
    text = b"SELECT id FROM patients WHERE id = $1 AND full_name ILIKE $2"
    plan = planned(planner, text)
    assert plan.source_types == (0,)
    typed = planner.splitting.typed(plan, (20, 25), (), VIEW)
    assert typed.source_types == (20,)
    assert typed.oids[0] == 20
    assert planned(planner, text) is typed
    assert planner.splitting.typed(typed, (20, 25), (), VIEW) is typed


def test_a_text_with_constants_is_not_kept(planner: Planner) -> None:
    assert planned(planner, SORTED + b" LIMIT 50") is planned(planner, SORTED + b" LIMIT 50")
    secret = b"SELECT id FROM patients WHERE full_name ILIKE '%secret%'"
    assert planned(planner, secret) is not planned(planner, secret)


def test_a_string_is_run_statement_by_statement(planner: Planner) -> None:
    text = b"SELECT 1; " + SORTED
    plan = planner.script(text, VIEW)
    assert plan.pipeline == (b"SELECT 1", b" " * 10 + SORTED)
    assert planner.script(SORTED, VIEW).pipeline == (SORTED,)


@pytest.mark.parametrize("beside", [b"SELECT 1; COMMIT", b"SET DateStyle TO German", b"CREATE TABLE t (id int)"])
def test_what_changes_more_than_tables_stands_in_no_string_with_it(planner: Planner, beside: bytes) -> None:
    with pytest.raises(StatementRefused):
        planner.script(beside + b"; " + SORTED, VIEW)


def test_a_string_has_no_parameters(planner: Planner) -> None:
    with pytest.raises(UndefinedParameter):
        planner.script(b"SELECT id FROM patients WHERE full_name ILIKE $1", VIEW)


def test_a_parse_of_several(planner: Planner) -> None:
    with pytest.raises(SyntaxRefused):
        planner.statement(SORTED + b"; " + SORTED, (), VIEW)


@pytest.mark.parametrize(
    ("lead", "trail", "around"),
    [
        (b"COPY (", b") TO STDOUT", "copy"),
        (b"DECLARE c NO SCROLL CURSOR WITH HOLD FOR ", b"", "cursor"),
        (b"EXPLAIN (COSTS off, VERBOSE) ", b"", "explain"),
        (b"EXPLAIN VERBOSE ", b"", "explain"),
        (b"EXPLAIN (", b")", "explain"),
    ],
)
def test_around_a_query(planner: Planner, lead: bytes, trail: bytes, around: str) -> None:
    plan = planned(planner, lead + SORTED + trail)
    assert plan.split.around == around
    rest = plan.split.rest.parts
    assert rest[0].startswith(lead)
    assert rest[-1].endswith(b"ORDER BY full_name" + trail)
    assert plan.sql.startswith(b"EXPLAIN") == (around == "explain")
    assert plan.effects.declares == ("c" if around == "cursor" else None)


def test_not_around_a_query(planner: Planner) -> None:
    with pytest.raises(StatementRefused):
        planner.statement(b"EXPLAIN (GENERIC_PLAN) " + SORTED, (), VIEW)


FORMATS = [("EXPLAIN ", "text"), ("EXPLAIN (FORMAT JSON, FORMAT yaml) ", "yaml"), ("DECLARE c BINARY CURSOR FOR ", "text")]


@pytest.mark.parametrize(("lead", "form"), FORMATS)
def test_in_which_form_it_is_explained(planner: Planner, lead: str, form: str) -> None:
    plan = planned(planner, lead.encode() + SORTED)
    assert plan.split.explained_as == form
    assert plan.effects.binary == ("BINARY" in lead)


@pytest.mark.parametrize("text", [b"SELECT full_name || $3 FROM patients", b"SELECT max(full_name) FROM patients LIMIT $3"])
def test_a_parameter_that_is_passed_over(planner: Planner, text: bytes) -> None:
    with pytest.raises(IndeterminateDatatype, match=r"type of parameter \$[12]"):
        planner.statement(text, (0, 705), VIEW)
    planner.statement(text, (20, 25), VIEW)


def test_a_comment_is_not_sent_with_explain(planner: Planner) -> None:
    assert b"Smith" not in planned(planner, b"EXPLAIN /* Smith */ (COSTS off) " + SORTED).sql


class Names:
    """One prepared statement."""

    def __init__(self, plan: StatementPlan) -> None:
        self._plan = plan

    def statement(self, name: str) -> StatementPlan | None:
        return self._plan if name == "q" else None

    def portal(self, name: str) -> None:
        return None


def test_prepare_and_execute(planner: Planner) -> None:
    prepare = planner.statement(b"PREPARE q (text) AS SELECT id FROM patients WHERE full_name ILIKE $1", (), VIEW)
    assert prepare.sql == b'PREPARE "q" AS SELECT'
    assert prepare.prepared is not None
    query, oids = prepare.prepared
    assert isinstance(query, SplitPlan)
    assert oids == (25,)
    told = [encode_parameter_description([25]), encode_row_description([Field(b"id", 0, 0, 23, 4, -1, 0)])]
    query.describe((), b"".join(told))
    view = View(PATH, "clinic", names=Names(query))
    executed = planner.statement(b"EXECUTE q ('%it''s%')", (), view)
    assert isinstance(executed, SplitPlan)
    assert executed.bound
    assert b"ILIKE CAST('%it''s%' AS text)" in b"".join(executed.split.rest.parts)
    assert b"it" not in executed.sql.replace(b"patients", b"")
    for refused in (b"EXECUTE q (upper('x'))", b"EXECUTE q", b"EXECUTE q ('x', 'y')"):
        with pytest.raises(StatementRefused):
            planner.statement(refused, (), view)


def test_a_source_is_not_split_once_more(planner: Planner) -> None:
    """What splits of splits would come to: a constant beside something protected is in no source, not even in another's place."""
    named = "ALL ('{Smith,x,NULL}'::text[])"
    text = (
        f"SELECT 1 FROM (SELECT id FROM patients p WHERE p.full_name <> {named}) d"
        f" CROSS JOIN (SELECT max(upper(o.ssn)) AS x FROM patients o WHERE o.city <> {named}) l"
    )
    with pytest.raises(StatementRefused, match="is protected and cannot be used here"):
        planner.statement(text.encode(), (), VIEW)
