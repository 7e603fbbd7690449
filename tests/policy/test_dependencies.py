"""The fixpoint over dependencies and bodies, on plain data; what a real server gives is in tests/net/test_catalog_reader.py."""

import pytest

from phiproxy.policy.dependencies import ALWAYS, PG_CLASS, PG_PROC, Code, Node, Objects, dependents_of, setters_of

PATIENTS, VIEW, OTHER = Node(PG_CLASS, 1), Node(PG_CLASS, 2), Node(PG_CLASS, 3)
F, G = Node(PG_PROC, 5), Node(PG_PROC, 6)
NAMES = {
    PATIENTS: ("patients", "table"),
    VIEW: ("v", "view"),
    OTHER: ("other", "table"),
    F: ("f", "function"),
    G: ("g", "function"),
}
PROTECTED = {PATIENTS: "public.patients"}


def names(objects: Objects, *always: str) -> dict[str, str]:
    return dependents_of(objects, PROTECTED, always).names


def test_a_view() -> None:
    found = dependents_of(Objects(names=NAMES, dependencies=[(VIEW, PATIENTS)]), PROTECTED)
    assert found.names == {"v": "view over public.patients"}
    assert found.nodes == {VIEW, PATIENTS}


def test_nothing_protected_reaches_nothing_but_what_runs_text() -> None:
    assert dependents_of(Objects(names=NAMES, dependencies=[(VIEW, PATIENTS)]), {}).names == {}
    assert set(dependents_of(Objects(), {}, ["query_to_xml"]).names) == {"query_to_xml"}


@pytest.mark.parametrize(
    "body",
    ["select ssn from patients", "SELECT 1 FROM Public.PATIENTS p", "execute 'select * from patients'", 'from "patients"'],
)
def test_a_body_that_names_the_table(body: str) -> None:
    assert names(Objects(names=NAMES, code=Code({F: body}))) == {"f": "function over public.patients"}


@pytest.mark.parametrize("body", ["select * from patients2", "select inpatients", "patients_old"])
def test_a_body_that_does_not(body: str) -> None:
    assert names(Objects(names=NAMES, code=Code({F: body}))) == {}


def test_bodies_are_followed_to_the_end() -> None:
    objects = Objects(names=NAMES, code=Code({G: "select f()", F: "select * from v"}), dependencies=[(VIEW, PATIENTS)])
    assert set(names(objects)) == {"v", "f", "g"}


def test_cycles_end() -> None:
    objects = Objects(names=NAMES, code=Code({G: "select f() from patients", F: "select g()"}))
    assert set(names(objects)) == {"f", "g"}


def test_a_name_that_is_no_token() -> None:
    named = {**NAMES, PATIENTS: ('my "x" table', "table")}
    found = names(Objects(names=named, code=Code({F: 'select * from "my ""x"" table"'})))
    assert set(found) == {"f"}


def test_a_loopback_foreign_table() -> None:
    named = {**NAMES, OTHER: ("far", "foreign table")}
    assert names(Objects(names=named, code=Code({}, {OTHER: "patients"}))) == {"far": "foreign table over public.patients"}


def test_who_calls_what_runs_text_reaches() -> None:
    objects = Objects(names=NAMES, code=Code({F: "select query_to_xml(q, true, true, '')"}))
    assert names(objects, "query_to_xml")["f"] == "function over tables named by text"


def test_the_protected_name_is_not_in_it_in_any_schema() -> None:
    named = {**NAMES, VIEW: ("patients", "view")}
    assert names(Objects(names=named, dependencies=[(VIEW, PATIENTS)])) == {}


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
        "begin set role = x; end",
        "if tg_op = 'UPDATE' then set role = x; end if",
        "update users set role = 'x'; set role to x",
        "SET/* why /* not */ */ROLE x",
        "set -- why\n role x",
        'set "role" to x',
        "execute 'SET ' || name || ' = ' || value",
        "execute 'SET' || ' ROLE x'",
        "execute E'SET\\x20ROLE x'",
        "execute format('set %I = %L', name, value)",
        "perform set_config('ro' || 'le', x, true)",
        "perform set_config(E'role', x, true)",
        "perform set_config/**/('role', x, true)",
        "perform set_config('app.a', a, true), set_config(n, a, true)",
        "perform set_config('phiproxy.end_user', 'x', false)",
        "RESET TIME ZONE",
        "execute format('DROP SCHEMA %I', s)",
        "grant usage on schema x to y",
        "GRANT a TO b",
    ],
)
def test_what_changes_the_session_and_who_calls_it(body: str) -> None:
    assert set(setters_of(Objects(names=NAMES, code=Code({F: body, G: "select f()"}))).names) == {"f", "g"}


@pytest.mark.parametrize(
    "body",
    [
        "select 1",
        "update users set role = 'x'",
        "update only public.\"Users\" * as u set role = 'x'",
        "insert into users values (1) on conflict do update set role = 'x'",
        "execute format('UPDATE %I.%I SET %I = 1', a, b, c)",
        "perform set_config('app.tenant', t, true)",
        "select timezone('UTC', now())",
        "raise exception 'tenant is not set'",
        "grant select on t to y",
    ],
)
def test_what_leaves_the_session_as_it_is(body: str) -> None:
    assert setters_of(Objects(names=NAMES, code=Code({F: body, G: "select f()"}))).names == {}


def test_a_table_whose_trigger_changes_the_session() -> None:
    objects = Objects(names=NAMES, code=Code({F: "begin set search_path = a; end"}), dependencies=[(OTHER, F)])
    assert set(setters_of(objects).names) == {"f", "other"}
