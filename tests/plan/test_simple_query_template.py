"""What is put together of a shape that was seen is what the plan of the whole text gives."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiproxy.errors import PhiproxyError
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.simple_query_template import SimpleQueryTemplate
from phiproxy.sql.text.shape import Shape
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ciphers, unasked
from tests.plan.test_templates import TEXTS, sources, varied

VIEW = View(PATH, "clinic", catalog_fresh=True)
ENVELOPE = re.compile(rb"\\x(f55001[0-9a-f]+)")


def planner() -> Planner:
    return unasked(Planner(PROTECTION, CATALOG, full_ciphers()))


def found(of: Planner, text: bytes) -> tuple[SimpleQueryTemplate, Shape] | None:
    try:
        return of.simple_query(text, PATH, frozenset())
    except PhiproxyError:
        return None


def lengths(text: bytes) -> bytes:
    """Return a text with its envelopes, which are others each time, as long as they are."""
    return ENVELOPE.sub(lambda m: b"\\x" + b"#" * len(m[1]), text)


def is_as_planned(of: Planner, text: bytes) -> bool:
    """Compare what the template of a text's shape makes of it, if there is one, with the plan of it."""
    ready = found(of, text)
    if ready is None:
        return False
    made, shape = ready
    try:
        spelled = made.spelled(shape, of.ciphers)
    except PhiproxyError as error:
        with pytest.raises(type(error)):
            planner().script(text, VIEW).render(of.ciphers)
        return True
    assert spelled is not None
    plan = planner().script(text, VIEW)
    server, edits = plan.render(of.ciphers)
    assert lengths(made.fill(shape, spelled)) == lengths(server)
    assert sorted(made.edits(shape, spelled)) == sorted(edits)
    assert (made.parts, made.rewrites) == (plan.parts, not plan.identity)
    return True


@settings(max_examples=200, deadline=None)
@given(st.one_of(sources(), st.sampled_from(TEXTS)), st.data())
def test_a_text_is_as_its_plan(source: str, data: st.DataObject) -> None:
    seen = planner()
    for _ in range(3):
        text = varied(source, data)
        is_as_planned(seen, text)
        try:
            seen.script(text, VIEW)
        except PhiproxyError:
            continue
        is_as_planned(seen, text)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("SELECT ssn FROM patients WHERE ssn = 'x'", "SELECT ssn FROM patients WHERE ssn = 'a longer one'"),
        ("SELECT ssn FROM patients WHERE ssn = 'x' LIMIT 5", "SELECT ssn FROM patients WHERE ssn = 'é' LIMIT 500"),
        ("SELECT ssn FROM patients WHERE 'x'=ssn AND city='y'", "SELECT ssn FROM patients WHERE 'xyz'=ssn AND city='yz'"),
        ("SELECT city FROM patients WHERE id = 1", "SELECT city FROM patients WHERE id = 100"),
        ("UPDATE patients SET city = 'a', ssn = 'b' WHERE id = 1", "UPDATE patients SET city = 'ab', ssn = 'cd' WHERE id = 17"),
        ("INSERT INTO patients (ssn, id) VALUES ('x', 1), ('y', 2)", "INSERT INTO patients (ssn, id) VALUES ('xx', 7), ('yy', 8)"),
        ("SELECT ssn FROM patients WHERE ssn = 'a'; SELECT 1", "SELECT ssn FROM patients WHERE ssn = 'bc'; SELECT 2"),
        ("SELECT ssn FROM patients WHERE ssn IN ('a', 'b') /* c */", "SELECT ssn FROM patients WHERE ssn IN ('a', 'c') /* c */"),
    ],
)
def test_the_next_text_is_ready(first: str, second: str) -> None:
    seen = planner()
    seen.script(first.encode(), VIEW)
    ready = is_as_planned(seen, second.encode())
    assert ready is ("/*" not in first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("SELECT ssn FROM patients WHERE ssn = 'x' AND city = 'y'", "SELECT ssn FROM patients WHERE ssn = 'x' AND city = 'x'"),
        ("SELECT id, city FROM patients WHERE ssn = 'x' ORDER BY 1", "SELECT id, city FROM patients WHERE ssn = 'x' ORDER BY 2"),
        ("SET search_path = 'x'; SELECT ssn FROM public.patients", "SET search_path = 'y'; SELECT ssn FROM public.patients"),
        ("SELECT ssn FROM patients WHERE ssn = 'a' || 'b'", "SELECT ssn FROM patients WHERE ssn = 'c' || 'd'"),
        ("DECLARE c CURSOR FOR SELECT ssn FROM patients LIMIT 1", "DECLARE c CURSOR FOR SELECT ssn FROM patients LIMIT 2"),
        ("COPY (SELECT ssn FROM patients WHERE ssn = 'x') TO STDOUT", "COPY (SELECT ssn FROM patients WHERE ssn = 'y') TO STDOUT"),
        ("SELECT lower('x')", "SELECT lower('y')"),
        ("INSERT INTO patients (mrn) VALUES ('a'::varchar(12))", "INSERT INTO patients (mrn) VALUES ('b'::varchar(12))"),
    ],
)
def test_nothing_is_ready_where_a_constant_decides_or_more_follows(first: str, second: str) -> None:
    seen = planner()
    seen.script(first.encode(), VIEW)
    assert found(seen, second.encode()) is None


def test_no_value_of_the_first_text_is_kept() -> None:
    seen = planner()
    seen.script(b"UPDATE patients SET ssn = 'secret-1' WHERE ssn = 'secret-2' AND id = 4711", VIEW)
    ready = found(seen, b"UPDATE patients SET ssn = 'x' WHERE ssn = 'y' AND id = 1")
    assert ready is not None
    assert "secret" not in repr(ready[0])
    assert "4711" not in repr(ready[0])
