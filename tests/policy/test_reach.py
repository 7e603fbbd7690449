"""The fixpoint over dependencies and bodies, on plain data; what a real server gives is in tests/net/test_catalog.py."""

import pytest

from phiproxy.policy.reach import ALWAYS, PG_CLASS, PG_PROC, Node, Objects, reaching, setting

PATIENTS, VIEW, OTHER, RULE = Node(PG_CLASS, 1), Node(PG_CLASS, 2), Node(PG_CLASS, 3), Node(2618, 4)
F, G = Node(PG_PROC, 5), Node(PG_PROC, 6)
NAMES = {
    PATIENTS: ("patients", "table"),
    VIEW: ("v", "view"),
    OTHER: ("other", "table"),
    F: ("f", "function"),
    G: ("g", "function"),
}
PROTECTED = {PATIENTS: "public.patients"}


def test_a_view_through_its_rule() -> None:
    objects = Objects(names=NAMES, stands_for={RULE: (VIEW,)}, edges=[(RULE, PATIENTS), (RULE, VIEW)])
    assert reaching(objects, PROTECTED) == {"v": "view over public.patients"}


def test_nothing_protected_reaches_nothing_but_what_runs_text() -> None:
    assert reaching(Objects(names=NAMES, edges=[(VIEW, PATIENTS)]), {}) == {}
    assert set(reaching(Objects(), {}, ["query_to_xml"])) == {"query_to_xml"}


def test_what_is_silent_passes_nothing_on() -> None:
    key = Node(2606, 9)
    objects = Objects(names=NAMES, stands_for={key: (OTHER,)}, edges=[(key, PATIENTS)], silent={key})
    assert reaching(objects, PROTECTED) == {}


@pytest.mark.parametrize(
    "body",
    ["select ssn from patients", "SELECT 1 FROM Public.PATIENTS p", "execute 'select * from patients'", 'from "patients"'],
)
def test_a_body_that_names_the_table(body: str) -> None:
    assert reaching(Objects(names=NAMES, bodies={F: body}), PROTECTED) == {"f": "function over public.patients"}


@pytest.mark.parametrize("body", ["select * from patients2", "select inpatients", "patients_old"])
def test_a_body_that_does_not(body: str) -> None:
    assert reaching(Objects(names=NAMES, bodies={F: body}), PROTECTED) == {}


def test_bodies_are_followed_to_the_end() -> None:
    objects = Objects(names=NAMES, bodies={G: "select f()", F: "select * from v"}, edges=[(VIEW, PATIENTS)])
    assert set(reaching(objects, PROTECTED)) == {"v", "f", "g"}


def test_cycles_end() -> None:
    objects = Objects(names=NAMES, bodies={G: "select f() from patients", F: "select g()"})
    assert set(reaching(objects, PROTECTED)) == {"f", "g"}


def test_a_name_that_is_no_token() -> None:
    names = {**NAMES, PATIENTS: ('my "x" table', "table")}
    found = reaching(Objects(names=names, bodies={F: 'select * from "my ""x"" table"'}), PROTECTED)
    assert set(found) == {"f"}


def test_a_loopback_foreign_table() -> None:
    names = {**NAMES, OTHER: ("far", "foreign table")}
    assert reaching(Objects(names=names, remote={OTHER: "patients"}), PROTECTED) == {"far": "foreign table over public.patients"}


def test_who_calls_what_runs_text_reaches() -> None:
    objects = Objects(names=NAMES, bodies={F: "select query_to_xml(q, true, true, '')"})
    assert reaching(objects, PROTECTED, ["query_to_xml"])["f"] == "function over tables named by text"


def test_the_protected_name_is_not_in_it_in_any_schema() -> None:
    names = {**NAMES, VIEW: ("patients", "view")}
    assert reaching(Objects(names=names, edges=[(VIEW, PATIENTS)]), PROTECTED) == {}


@pytest.mark.parametrize(("name", "always"), [("query_to_xml_and_xmlschema", True), ("dblink_exec", True), ("low", False)])
def test_always(name: str, always: bool) -> None:
    assert bool(ALWAYS.fullmatch(name)) is always


@pytest.mark.parametrize(
    "body",
    [
        "begin set local search_path = a; end",
        "perform set_config('search_path', s, true)",
        "PERFORM SET_CONFIG(name, s, true)",
        "select set_config('role', 'x', false)",
        "SET ROLE x",
        "set time zone 'UTC'",
        "set session datestyle to german",
        "update pg_settings set setting = 'a'",
        "RESET ALL",
        " set_config",
        "execute 'set search' || '_path = a'; reset role",
    ],
)
def test_what_changes_the_session_and_who_calls_it(body: str) -> None:
    assert setting(Objects(names=NAMES, bodies={F: body, G: "select f()"})) == {"f", "g"}


@pytest.mark.parametrize(
    "body",
    ["select 1", "update users set role = 'x'", "perform set_config('app.tenant', t, true)", "select timezone('UTC', now())"],
)
def test_what_leaves_the_session_as_it_is(body: str) -> None:
    assert setting(Objects(names=NAMES, bodies={F: body, G: "select f()"})) == frozenset()


def test_a_table_whose_trigger_changes_the_session() -> None:
    trigger = Node(2620, 8)
    objects = Objects(
        names=NAMES, bodies={F: "begin set search_path = a; end"}, stands_for={trigger: (OTHER,)}, edges=[(trigger, F)]
    )
    assert setting(objects) == {"f", "other"}
