"""Names of types in statements, as the search path has them; DDL of those that are in use; and the types that Parse declares."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import PathNeeded, PhiproxyError, StatementRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_types import array_of, builtin
from phiproxy.policy.protection import DeclaredType
from phiproxy.policy.user_types import OwnType
from phiproxy.sql.expressions.user_types import declarations, note_declared, type_of_oid
from phiproxy.sql.text.parse import messages, parse
from phiproxy.sql.values.operands import Named, Parameter, as_operand, cast_type
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.fixtures.model import VIEW as MODEL_VIEW
from tests.fixtures.model import planner as model_planner

MOOD = OwnType(20001, 20002, 4, "public", "mood", "e", ("sad", "ok"))
OTHER = OwnType(20003, 20004, 4, "lab", "mood", "e", ("sad",))
TYPES = (MOOD, OTHER, OwnType(20005, 20006, -1, "public", "pair", "c"))


def planner() -> Planner:
    table = PROTECTION.by_name["public", "patients"]
    ssn = dataclasses.replace(table.columns["ssn"], type=DeclaredType("public.mood", 0))
    tables = tuple(
        dataclasses.replace(t, columns={**t.columns, "ssn": ssn}) if t is table else t for t in PROTECTION.tables
    )  # fmt: skip
    catalog = dataclasses.replace(CATALOG, types=TYPES, signatures=None)
    return Planner(dataclasses.replace(PROTECTION, tables=tables), catalog, Ciphers(Keyring(lambda: 0.0)))


PLANNER = planner()
VIEW = View(PATH, "clinic", catalog_fresh=True)


def described(statement: str, path: tuple[str, ...] | None = PATH) -> tuple[int | None, ...]:
    return PLANNER.statement(statement.encode(), (), dataclasses.replace(VIEW, path=path)).described


def refused(statement: str, path: tuple[str, ...] | None = PATH) -> str:
    with pytest.raises(StatementRefused) as caught:
        described(statement, path)
    return caught.value.sqlstate


def test_the_search_path_says_which_type_a_name_is() -> None:
    assert described("SELECT 1 FROM patients WHERE ssn = $1::mood") == (20001,)
    assert described("SELECT 1 FROM patients WHERE ssn = $1::public.mood") == (20001,)
    assert described("SELECT 1 FROM patients WHERE ssn = ANY ($1::mood[])") == (20002,)
    assert refused("SELECT 1 FROM public.patients WHERE ssn = $1::mood", ("pg_catalog", "lab")) == "42883"
    assert refused("SELECT 1 FROM patients WHERE ssn = $1::lab.mood") == "42883"
    with pytest.raises(PathNeeded):
        described("SELECT 1 FROM public.patients WHERE ssn = $1::mood", None)


def test_where_nothing_is_protected_the_path_need_not_be_known() -> None:
    text = b"DROP EXTENSION hstore; DROP TYPE pair; SELECT 'sad'::mood; CREATE TABLE moods (m mood)"
    assert PLANNER.script(text, VIEW).identity
    with pytest.raises(StatementRefused, match="may change what its names mean"):
        PLANNER.script(b"DROP EXTENSION hstore; DROP TYPE mood", VIEW)


def test_the_names_of_columns_may_be_those_of_types() -> None:
    assert refused("SELECT 1 FROM patients WHERE full_name 'x'") == "42704"


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'low'", "0A000"),
        ("ALTER TYPE public.mood RENAME TO feeling", "0A000"),
        ("ALTER TYPE mood SET SCHEMA lab", "0A000"),
        ("DROP TYPE pair, mood", "2BP01"),
    ],
)
def test_ddl_that_changes_a_type_in_use_is_refused(statement: str, sqlstate: str) -> None:
    assert refused(statement) == sqlstate


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TYPE mood ADD VALUE 'happy'", "DROP TYPE lab.mood", "DROP TYPE pair",
        "ALTER TYPE lab.mood RENAME VALUE 'sad' TO 'low'",
    ],
)  # fmt: skip
def test_what_changes_no_value(statement: str) -> None:
    assert PLANNER.statement(statement.encode(), (), VIEW).identity


def test_a_copy_of_a_tree_knows_its_types() -> None:
    body = parse(b"SELECT 'x'::mood")[0].body["targetList"][0]["ResTarget"]["val"]["TypeCast"]
    plain = copy.deepcopy(body)
    declared = DeclaredType("public.mood", 20001, labels=("sad",), schema="public")
    body["typeName"] = Named(body["typeName"], declared)
    assert body == plain
    assert cast_type(copy.deepcopy(body)) == declared
    assert cast_type(plain) is None


DECLARED = (OwnType(20_000, 20_001, 4, "public", "mood", "e", ("sad", "ok")), OwnType(20_002, 20_003, -1, "public", "pair", "c"))
OF_DECLARED = Catalog(1, 150000, (), {}, types=DECLARED)


def test_what_says_nothing_is_left_out() -> None:
    assert declarations((0, 705)) == ()
    assert declarations((705, 23, 0, 705)) == (0, 23)


def test_types_are_the_server_s_own_or_the_database_s() -> None:
    assert type_of_oid(OF_DECLARED, 23) == builtin("int4")
    assert type_of_oid(OF_DECLARED, 1007) == array_of(builtin("int4"))
    mood, moods = type_of_oid(OF_DECLARED, 20_000), type_of_oid(OF_DECLARED, 20_001)
    assert mood is not None
    assert moods is not None
    assert (mood.labels, moods.element) == (("sad", "ok"), mood)
    assert [type_of_oid(OF_DECLARED, oid) for oid in (20_002, 20_003, 19, 99_999)] == [None] * 4


def test_parameters_know_their_types_and_are_equal_to_what_was_parsed() -> None:
    body, other = (parse(b"SELECT $1, $2::date, $3 FROM t")[0].body for _ in range(2))
    note_declared(list(messages(body)), OF_DECLARED, (23, 0, 19))
    assert body == other
    copied = [target["ResTarget"]["val"] for target in copy.deepcopy(body)["targetList"]]
    assert isinstance(copied[0]["ParamRef"], Parameter)
    one, two = as_operand(copied[0]), as_operand(copied[1])
    assert one is not None
    assert two is not None
    assert (one.types, one.type_oid, one.is_number, one.textual) == ((builtin("int4"),), 23, False, False)
    assert two.types == (builtin("date"),)
    assert as_operand(copied[2]) is None, "a name is nothing that is read here"
    assert as_operand(copied[0], array=True) is None, "an integer is no array"


# A statement over people.born, a date, or stays.bed, an integer; what is declared; the types that the result is told to have.
RESULTS = [
    ("SELECT coalesce(bed, $1) FROM stays", (21,), [23]),
    ("SELECT $1 UNION ALL SELECT bed FROM stays", (21,), [23]),
    ("SELECT coalesce(born, $1) FROM stays", (1082,), [1082]),
    ("SELECT coalesce(word, $1) FROM stays", (1043,), [25]),
]


@pytest.mark.parametrize(("statement", "oids", "types"), RESULTS)
def test_a_declared_type_counts_as_a_cast(statement: str, oids: tuple[int, ...], types: list[int]) -> None:
    plan = model_planner().statement(statement.encode(), oids, MODEL_VIEW)
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
def test_a_declared_type_that_does_not_fit_is_refused(statement: str, oids: tuple[int, ...], state: str) -> None:
    with pytest.raises(PhiproxyError) as caught:
        model_planner().statement(statement.encode(), oids, MODEL_VIEW)
    assert caught.value.sqlstate == state


def test_one_text_means_something_else_with_other_types() -> None:
    """Whichever came first: neither a plan nor a template of the one is the other's."""
    text = b"SELECT coalesce(bed, $1), 5 FROM stays WHERE id = 7"
    own_planner = model_planner()
    for oids, accepted in (((23,), True), ((701,), False), ((21,), True), ((701,), False), ((), True)):
        if accepted:
            own_planner.statement(text, oids, MODEL_VIEW)
            continue
        with pytest.raises(PhiproxyError):
            own_planner.statement(text, oids, MODEL_VIEW)
