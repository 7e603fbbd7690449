"""Names of types in statements, as the search path has them; DDL of those that are in use."""

import copy
import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import PathNeeded, StatementRefused
from phiproxy.plan.cache import Planner, View
from phiproxy.plan.ciphers import Ciphers
from phiproxy.policy.owntypes import OwnType
from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.parse import parse
from phiproxy.sql.sinks import Named, cast_type
from tests.clinic_model import CATALOG, PATH, PROTECTION

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


def test_the_path_decides() -> None:
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
def test_types_in_use(statement: str, sqlstate: str) -> None:
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
