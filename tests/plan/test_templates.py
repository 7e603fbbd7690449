"""Templates: a text whose shape was seen is planned exactly as if it had never been."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiproxy.errors import PhiproxyError
from phiproxy.plan import templates
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_plan import ScriptPlan, StatementPlan
from phiproxy.policy.catalog import Relation
from phiproxy.policy.column_types import parse_type
from phiproxy.policy.protection import DeclaredType
from tests.clinic_model import CATALOG, PATH, PATIENTS, PROTECTION, VISITS, protected
from tests.fixtures.cases import FILES, cases
from tests.plan.rings import full_ciphers, unasked

VIEW = View(PATH, "clinic", catalog_fresh=True)
CASES = [case for path in FILES for case in cases(path)]


def fresh() -> Planner:
    return unasked(Planner(PROTECTION, CATALOG, full_ciphers()))


@pytest.fixture
def planner() -> Planner:
    return fresh()


SEALED = re.compile(rb"\\x[0-9a-f]{32,}")


def script_of(planner: Planner, text: bytes) -> object:
    try:
        plan = planner.script(text, VIEW)
    except PhiproxyError as error:
        return error.sqlstate, error.public_text, error.position
    return _comparable(plan)


def _comparable(plan: ScriptPlan) -> object:
    rendered = plan.rendered
    return plan.text, plan.identity, plan.parts, rendered and (rendered.pieces, rendered.occurrences, rendered.spans)


def statement_of(planner: Planner, text: bytes) -> object:
    try:
        plan: StatementPlan = planner.statement(text, (), VIEW)
    except PhiproxyError as error:
        return error.sqlstate, error.public_text, error.position
    found = dataclasses.asdict(plan)
    prepared = found["prepared"][:1] if found["prepared"] else ()
    for each in (found, *prepared):
        del each["_readers"], each["_ranges"]  # closures, made of what is compared here
        del each["touched"]  # it has the text of which it was made first
    found["touched"] = plan.touched.shape, plan.touched.searched, plan.touched.stored, plan.touched.copied
    found["sql"] = SEALED.sub(b"sealed", plan.sql)  # the default of a column, sealed anew each time
    if plan.inline is not None:
        found["inline"] = (plan.inline.pieces, plan.inline.occurrences, plan.inline.spans)
    return found


VALUES = st.sampled_from(
    ["", "x", "it''s", "y'' OR ''1", "é", "a much longer value than any of the others", "patients", "13", "$1"]
)
NUMBERS = st.sampled_from(["0", "1", "2", "13", "16", "4294967296", "7.25"])


def varied(text: str, data: st.DataObject) -> bytes:
    text = re.sub(r"'(?:[^']|'')*'", lambda _m: f"'{data.draw(VALUES)}'", text)
    return re.sub(r"(?<![\w$.'])\d+(?![\w.'])", lambda _m: data.draw(NUMBERS), text).encode()


# What a statement may stand in, and beside; and texts of other kinds, some of which no fixture of one statement can be.
AROUND = st.sampled_from(
    [
        "{}",
        "{}",
        "PREPARE q AS {}",
        "EXPLAIN (ANALYZE, TIMING off) {}",
        "DECLARE c CURSOR FOR {}",
        "COPY ({}) TO STDOUT (FORMAT csv, DELIMITER ',', NULL 'x')",
        "CREATE VIEW made AS {}",
        "SELECT 1, 'x'; {}; SELECT 'x', 2",
        "PREPARE q AS {}; EXECUTE q('x', 'y')",
    ]
)
TEXTS = [
    "COPY patients (id, ssn, notes) FROM STDIN (FORMAT csv, DELIMITER ';', QUOTE '|', ESCAPE '!', NULL 'x', HEADER 1)",
    "COPY patients (id, ssn) TO STDOUT WITH (DELIMITER ',', NULL 'x', ENCODING 'utf8')",
    "COPY patients FROM STDIN WHERE city = 'x' AND id > 13",
    "PREPARE q (text, int) AS SELECT ssn FROM patients WHERE ssn = $1 AND id = $2 LIMIT 2; EXECUTE q('x', 13)",
    "PREPARE q AS UPDATE patients SET ssn = 'x' WHERE full_name = $1; EXECUTE q('x'); EXECUTE q('y'); DEALLOCATE q; EXECUTE q('x')",
    "EXECUTE q('x', 13)",
    "DECLARE c CURSOR FOR SELECT ssn FROM patients WHERE ssn = 'x' LIMIT 13; FETCH 2 FROM c; MOVE 1 IN c; CLOSE c",
    "CREATE TABLE visits (id int PRIMARY KEY, mrn varchar(12) DEFAULT 'x', diagnosis text UNIQUE, room text DEFAULT 'x')",
    "ALTER TABLE patients ALTER city SET DEFAULT 'x', ADD extra numeric(7, 2) DEFAULT 13",
    "ALTER TABLE patients ALTER ssn SET DEFAULT 'x'",
    "CREATE INDEX ON patients (ssn, (left(city, 2))) WHERE city <> 'x'",
    "COMMENT ON COLUMN patients.ssn IS 'x'",
    "SET search_path = 'x'; SELECT ssn FROM public.patients WHERE ssn = 'x' AND id = 13",
    "INSERT INTO patients (ssn, mrn) VALUES ('x'::varchar(13), CAST('y' AS varchar(2)))",
    "MERGE INTO patients p USING (VALUES (1, 'x'), (2, 'y')) v (i, s) ON p.id = v.i"
    " WHEN MATCHED THEN UPDATE SET ssn = v.s, city = 'x'",
]


@st.composite
def sources(draw: st.DrawFn) -> str:
    """Return a text whose constants are then varied."""
    case = draw(st.sampled_from(CASES))
    return draw(st.sampled_from([*TEXTS, draw(AROUND).replace("{}", re.sub(r"@(\w+)@", r"\1", case.statement))]))


@settings(max_examples=200, deadline=None)
@given(st.one_of(sources(), st.sampled_from(TEXTS)), st.data())
def test_a_seen_shape_is_planned_like_a_text_never_seen(source: str, data: st.DataObject) -> None:
    """The fixtures' statements and others with other constants, thrice, so that templates of one text are asked for another."""
    seen = fresh()
    for _ in range(3):
        text = varied(source, data)
        assert script_of(seen, text) == script_of(fresh(), text)
        assert statement_of(seen, text) == statement_of(fresh(), text)


def analyses(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the texts that were analysed in full from here on."""
    seen: list[bytes] = []
    original = Planner._proved

    def watched(self: Planner, text: bytes, view: View, declared: tuple[int, ...]) -> object:
        seen.append(text)
        return original(self, text, view, declared)

    monkeypatch.setattr(Planner, "_proved", watched)
    return seen


def test_everyday_statements_are_analysed_once_per_shape(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = analyses(monkeypatch)
    for i in range(20, 30):
        planner.script(b"SELECT id, ssn FROM patients WHERE ssn = '%d' AND city = 'c%d' LIMIT %d" % (i, i, i), VIEW)
        planner.script(b"INSERT INTO patients (ssn, city) VALUES ('a%d', 'b'), ('c%d', NULL)" % (i, i), VIEW)
        planner.script(b"UPDATE patients SET ssn = 'x%d' WHERE id = %d" % (i, i), VIEW)
        planner.statement(b"DELETE FROM patients WHERE ssn IN ('x%d', $1) AND id <> %d" % (i, i), (), VIEW)
    assert len(seen) == 4


def test_a_cast_with_a_length_is_taken_away_with_its_constant(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = analyses(monkeypatch)
    for i, length in enumerate((12, 12, 5)):
        text = b"INSERT INTO patients (mrn, city) VALUES ('a%d'::varchar(%d), 'b')" % (i, length)
        plan = planner.script(text, VIEW)
        assert plan.rendered is not None
        assert plan.rendered.fill(lambda _i, _o: b"X").endswith(b" VALUES (X, 'b')")
    assert [text[-17:] for text in seen] == [b"varchar(12), 'b')", b":varchar(5), 'b')"]


def test_expressions_of_constants_are_computed_from_the_template(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = analyses(monkeypatch)
    for i in range(20, 30):
        text = b"SELECT id FROM patients WHERE ssn = lower('A%d') || ' b' AND full_name IN (trim(' x%d '), 'y%d')" % (i, i, i)
        plan = planner.script(text, VIEW)
        assert plan.rendered is not None
        assert [o.literal for o in plan.rendered.occurrences] == [b"a%d b" % i, b"x%d" % i, b"y%d" % i]
        assert text[plan.rendered.occurrences[0].start : plan.rendered.occurrences[0].end] == b"lower('A%d') || ' b'" % i
    assert len(seen) == 1
    planner.script(b"SELECT id FROM patients WHERE city = 'c' AND ssn = lower('D')", VIEW)
    for elsewhere in (b"b", b"B"):
        with pytest.raises(PhiproxyError, match="used unprotected elsewhere"):
            planner.script(b"SELECT id FROM patients WHERE city = '" + elsewhere + b"' AND ssn = lower('B')", VIEW)
    planner.script(b"SELECT id FROM patients WHERE city = 'c' AND ssn = lower('E')", VIEW)
    # Two of these are refused by an analysis; then it is looked at whether an engine would answer.
    assert len([text for text in seen if text.startswith(b"SELECT id")]) == 4


def test_texts_of_an_expression_may_come_in_another_order_than_its_arguments(planner: Planner) -> None:
    for cut, of, left in ((b"x", b"x", b""), (b"x", b"y", b"y"), (b"z", b"zaz", b"a")):
        plan = planner.script(b"SELECT id FROM patients WHERE ssn = trim(both '%s' from '%s')" % (cut, of), VIEW)
        assert plan.rendered is not None
        assert [o.literal for o in plan.rendered.occurrences] == [left]


def test_a_repeated_protected_value_is_looked_at_again(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = analyses(monkeypatch)
    planner.script(b"SELECT id FROM patients WHERE ssn = 'a' AND city = 'b'", VIEW)
    with pytest.raises(PhiproxyError, match="used unprotected elsewhere"):
        planner.script(b"SELECT id FROM patients WHERE ssn = 'a' AND city = 'a'", VIEW)
    assert len([text for text in seen if text.startswith(b"SELECT id")]) == 2


def test_an_array_that_holds_a_protected_value_is_looked_at(planner: Planner) -> None:
    planner.script(b"SELECT id FROM patients WHERE ssn = 'a' AND city = ANY ('{b}')", VIEW)
    with pytest.raises(PhiproxyError, match="used unprotected elsewhere"):
        planner.script(b"SELECT id FROM patients WHERE ssn = 'a' AND city = ANY ('{x,a}')", VIEW)


@pytest.mark.parametrize("array", [b"{a}", b"\r{a}", b"\v[0:0]={a}", b"{{x},{\\a}}", b'{"\\a"}'])
def test_an_array_is_read_as_the_server_reads_it(planner: Planner, array: bytes) -> None:
    planner.script(b"SELECT id FROM patients WHERE ssn = 'a' AND city = ANY ('{b}')", VIEW)
    with pytest.raises(PhiproxyError, match="used unprotected elsewhere"):
        planner.script(b"SELECT id FROM patients WHERE ssn = 'a' AND city = ANY ('" + array + b"')", VIEW)


def test_a_value_that_is_a_name_of_the_shape_is_looked_at(planner: Planner) -> None:
    for value in (b"a", b"b"):
        planner.script(b'SELECT count(*) AS "S", id AS "b" FROM patients WHERE ssn = \'' + value + b"' GROUP BY id", VIEW)
    with pytest.raises(PhiproxyError, match="a name in this statement"):
        planner.script(b'SELECT count(*) AS "S", id AS "b" FROM patients WHERE ssn = \'S\' GROUP BY id', VIEW)


@pytest.mark.parametrize("number", [b"4713.", b"4713e0", b"47.13e2", b"4_713"])
def test_a_value_that_is_a_number_in_the_gaps_of_the_shape_is_looked_at(number: bytes) -> None:
    planner = Planner(PROTECTION, dataclasses.replace(CATALOG, server_version=160000), full_ciphers())
    text = b"SELECT id FROM patients WHERE ssn = '%s' AND id = " + number
    planner.script(text % b"1234", VIEW)
    with pytest.raises(PhiproxyError, match="used unprotected elsewhere"):
        planner.script(text % b"4713", VIEW)


def test_an_element_of_a_protected_array_is_looked_at() -> None:
    type_ = parse_type("text[]")
    table = dataclasses.replace(
        PATIENTS, columns={**PATIENTS.columns, "notes": protected("patients", "notes", 4, slots=(), type_=type_)}
    )
    relations = tuple(_with_array(r, type_) if r.qualified == "public.patients" else r for r in CATALOG.relations)
    planner = Planner(
        dataclasses.replace(PROTECTION, tables=(table, VISITS)), dataclasses.replace(CATALOG, relations=relations), full_ciphers()
    )
    planner.script(b"UPDATE patients SET notes = '{a}', city = 'b'", VIEW)
    with pytest.raises(PhiproxyError, match="used unprotected elsewhere"):
        planner.script(b"UPDATE patients SET notes = '{x,b}', city = 'b'", VIEW)


def _with_array(relation: Relation, type_: DeclaredType) -> Relation:
    columns = tuple(dataclasses.replace(c, type_oid=type_.oid) if c.name == "notes" else c for c in relation.columns)
    return dataclasses.replace(relation, columns=columns)


def test_numbers_of_other_types_are_other_shapes(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = analyses(monkeypatch)
    for number in (b"1", b"2147483647", b"2147483648", b"9223372036854775807", b"1.5"):
        planner.script(b"SELECT id + " + number + b" FROM patients WHERE ssn = 'a'", VIEW)
    assert len(seen) == 4


def test_constants_that_may_mean_more_are_part_of_the_shape(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = analyses(monkeypatch)
    for i in (20, 20, 21):
        planner.script(b"SELECT ssn, substr(city, %d) FROM patients WHERE ssn = 'a%d'" % (i, len(seen)), VIEW)
    assert len(seen) == 2


def test_templates_hold_no_value_and_are_bounded(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MAX_SHAPES", 3)
    monkeypatch.setattr(templates, "MAX_TEMPLATES_PER_SHAPE", 2)
    for i in range(20, 26):
        planner.script(b"SELECT ssn, substr(city, %d) AS c FROM patients WHERE ssn = 'canary'" % i, VIEW)
    (entries,) = planner._templates._entries.values()
    assert len(entries) == 2
    for i in range(5):
        planner.script(b"SELECT ssn AS c%d FROM patients WHERE ssn = 'canary'" % i, VIEW)
    assert len(planner._templates._entries) == 3
    assert "canary" not in repr(planner._templates._entries)


def test_a_text_that_is_not_utf_8_is_refused_though_its_shape_was_seen(planner: Planner) -> None:
    planner.script(b"SELECT ssn FROM patients WHERE ssn = 'a'", VIEW)
    with pytest.raises(PhiproxyError, match="UTF-8"):
        planner.script(b"SELECT ssn FROM patients WHERE ssn = '\xff'", VIEW)


def test_what_changes_the_session_has_no_template(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = analyses(monkeypatch)
    for i in range(20, 23):
        planner.script(b"SELECT set_config('search_path', 'x%d', false), ssn FROM public.patients" % i, VIEW)
    assert len(seen) == 3


def test_a_string_of_a_seen_shape_is_refused_at_its_own_second_statement(planner: Planner) -> None:
    for value in (b"x", b"a much longer value"):
        text = b"SELECT ssn FROM patients WHERE ssn = '%s'; SELECT 1" % value
        with pytest.raises(PhiproxyError) as refused:
            planner.statement(text, (), VIEW)
        assert refused.value.position == text.index(b"SELECT 1") + 1
