"""Parameters whose types Parse declares: what is noted of them, and what statements become by it."""

from __future__ import annotations

import copy

import pytest

from phiproxy.errors import PhiproxyError
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.owntypes import OwnType
from phiproxy.policy.types import array_of, builtin
from phiproxy.sql.declared import declarations, note_declared, type_of_oid
from phiproxy.sql.parse import messages, parse
from phiproxy.sql.sinks import Parameter, as_sink
from tests.fixtures.model import VIEW, planner

TYPES = (OwnType(20_000, 20_001, 4, "public", "mood", "e", ("sad", "ok")), OwnType(20_002, 20_003, -1, "public", "pair", "c"))
CATALOG = Catalog(1, 150000, (), {}, types=TYPES)


def test_what_says_nothing_is_left_out() -> None:
    assert declarations((0, 705)) == ()
    assert declarations((705, 23, 0, 705)) == (0, 23)


def test_types_are_the_server_s_own_or_the_database_s() -> None:
    assert type_of_oid(CATALOG, 23) == builtin("int4")
    assert type_of_oid(CATALOG, 1007) == array_of(builtin("int4"))
    mood, moods = type_of_oid(CATALOG, 20_000), type_of_oid(CATALOG, 20_001)
    assert mood is not None
    assert moods is not None
    assert (mood.labels, moods.element) == (("sad", "ok"), mood)
    assert [type_of_oid(CATALOG, oid) for oid in (20_002, 20_003, 19, 99_999)] == [None] * 4


def test_parameters_know_their_types_and_are_equal_to_what_was_parsed() -> None:
    body, other = (parse(b"SELECT $1, $2::date, $3 FROM t")[0].body for _ in range(2))
    note_declared(list(messages(body)), CATALOG, (23, 0, 19))
    assert body == other
    found = [target["ResTarget"]["val"] for target in copy.deepcopy(body)["targetList"]]
    assert isinstance(found[0]["ParamRef"], Parameter)
    one, two = as_sink(found[0]), as_sink(found[1])
    assert one is not None
    assert two is not None
    assert (one.types, one.type_oid, one.is_number, one.textual) == ((builtin("int4"),), 23, False, False)
    assert two.types == (builtin("date"),)
    assert as_sink(found[2]) is None, "a name is nothing that is read here"
    assert as_sink(found[0], array=True) is None, "an integer is no array"


# A statement over people.born, a date, or stays.bed, an integer; what is declared; the types that the result is told to have.
RESULTS = [
    ("SELECT coalesce(bed, $1) FROM stays", (21,), [23]),
    ("SELECT $1 UNION ALL SELECT bed FROM stays", (21,), [23]),
    ("SELECT coalesce(born, $1) FROM stays", (1082,), [1082]),
    ("SELECT coalesce(word, $1) FROM stays", (1043,), [25]),
]


@pytest.mark.parametrize(("statement", "oids", "types"), RESULTS)
def test_results(statement: str, oids: tuple[int, ...], types: list[int]) -> None:
    plan = planner().statement(statement.encode(), oids, VIEW)
    assert plan.columns is not None
    assert [reveal and reveal.type.oid for reveal in plan.columns.reveals] == types


REFUSED = [
    ("SELECT coalesce(bed, $1) FROM stays", (701,), "0A000"),
    ("SELECT bed FROM stays UNION ALL SELECT $1", (1700,), "0A000"),
    ("SELECT coalesce(born, $1) FROM stays", (1114,), "0A000"),
    ("SELECT coalesce(born, $1) FROM stays", (23,), "42804"),
    ("SELECT id FROM stays WHERE bed = ANY (ARRAY[$1, $2])", (1082, 23), "42804"),
    ("SELECT id FROM stays WHERE bed = $1", (19,), "42883"),
    ("SELECT id FROM people WHERE name = $1", (19,), "0A000"),
    ("INSERT INTO people (name) VALUES ($1)", (99_999,), "0A000"),
]


@pytest.mark.parametrize(("statement", "oids", "state"), REFUSED)
def test_refused(statement: str, oids: tuple[int, ...], state: str) -> None:
    with pytest.raises(PhiproxyError) as caught:
        planner().statement(statement.encode(), oids, VIEW)
    assert caught.value.sqlstate == state


def test_one_text_means_something_else_with_other_types() -> None:
    """Whichever came first: neither a plan nor a template of the one is the other's."""
    text = b"SELECT coalesce(bed, $1), 5 FROM stays WHERE id = 7"
    made = planner()
    for oids, accepted in (((23,), True), ((701,), False), ((21,), True), ((701,), False), ((), True)):
        if accepted:
            made.statement(text, oids, VIEW)
            continue
        with pytest.raises(PhiproxyError):
            made.statement(text, oids, VIEW)
