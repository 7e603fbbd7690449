"""Every split of the fixtures: the whole statement asked of PostgreSQL, and its source, with the rest computed in an engine."""

from __future__ import annotations

import psycopg
import pytest

from phiproxy.engine.rest import Rest, Session, Values
from phiproxy.engine.rows_into_engine import Column
from phiproxy.sql.result import Origin, Split
from tests.engine.both import Both, Outcome
from tests.fixtures.cases import CASES, Case
from tests.fixtures.model import planner
from tests.sql.split.ask import split_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
RECORD_OID = 2249


def _value(word: str) -> str:
    return f"Zoë-{word}-9"


def in_order(outcome: Outcome) -> Outcome:
    """Return an outcome whose rows are in an order of their own: nothing has asked for one."""
    rows = sorted(outcome.rows, key=lambda row: [(value is None, value or b"") for value in row])
    return Outcome(outcome.columns, rows, outcome.tag)


async def computed(
    both: Both, session: Session, split: Split, params: list[bytes | None], types: tuple[int, ...], result_format: int
) -> Outcome:
    """Return the outcome of a statement's source on the server, and of its rest in the engine."""
    given = [params[number - 1] for number in split.source_parameters]
    said, rows = both.source(split.source.decode(), parameters=given)
    columns = tuple(Column(c.type.oid, c.typmod, c.collation) for c in split.columns)
    assert [c.typmod for c in said] == [c.typmod for c in columns]
    declared = tuple(types[number - 1] if number <= len(types) else 0 for number in split.rest.parameters)
    rest = Rest(split.rest.parts, columns, len(split.rest.parameters), declared)
    values = Values([params[number - 1] for number in split.rest.parameters], (), (result_format,))
    outcome = await both.run(rest, rows, values, session)
    for number, origin in enumerate(split.origins):
        if origin is not None and origin.row_type:
            name, type_oid, size, typmod = outcome.columns[number]
            assert type_oid == RECORD_OID
            outcome.columns[number] = (name, both.row_type(_name_of(origin)), size, typmod)
    return outcome


def _name_of(origin: Origin) -> str:
    (name,) = [r.name for r in planner(15).catalog.relations if r.row_type == origin.row_type]
    return name


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.rest and not (c.unit or c.writes) and c.since <= 15], ids=lambda case: case.id
)
async def test_the_same_is_answered(both: Both, session: Session, case: Case) -> None:
    text, given = case.with_values(_value)
    params = [None if p is None else str(p).encode() for p in given]
    split = split_of(text, 15, case.types)
    assert split is not None
    if split.row_types:
        pytest.skip("tests/integration/test_split_whole_rows.py: an engine without a proxy has no such types")
    if split.unread and case.error:
        pytest.skip("tests/integration/test_split_fixtures.py: only a proxy has the whole described, which tells of it")
    for result_format in (0, 1):
        outcomes: list[Outcome | str | None] = []
        for whole in (True, False):
            try:
                if whole:
                    outcome = both.whole(text, result_format, params, case.types)
                else:
                    outcome = await computed(both, session, split, params, case.types, result_format)
                outcomes.append(outcome if "ORDER BY" in text else in_order(outcome))
            except psycopg.Error as error:
                outcomes.append(error.sqlstate)
        assert outcomes[0] == outcomes[1], f"in format {result_format}"
        assert (outcomes[0] if isinstance(outcomes[0], str) else "") == case.error, f"in format {result_format}"
