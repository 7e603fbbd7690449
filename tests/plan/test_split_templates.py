"""Templates of splits: a text whose shape was seen is split exactly as if it had never been."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiproxy.errors import CatalogNeeded, PathNeeded, PhiproxyError
from phiproxy.plan import split_templates
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts, SplitPlan
from phiproxy.plan.split_templates import SplitTemplates, split_template
from phiproxy.sql.text.shape import shape_of
from tests.fixtures.cases import CASES
from tests.fixtures.model import VIEW, planner


def with_engine() -> Planner:
    there = planner()
    return Planner(there.protection, there.catalog, there.ciphers, EngineFacts())


class _None(SplitTemplates):
    def split(self, *_: object) -> None:
        return None


SEEN, AFRESH = with_engine(), with_engine()
AFRESH._split_templates = _None()


def understood(there: Planner, text: bytes) -> object:
    """Return all that a plan says of a text, or how it is refused."""
    try:
        plan = there.statement(text, (), VIEW)
    except (CatalogNeeded, PathNeeded) as needed:
        return type(needed)
    except PhiproxyError as error:
        return error.sqlstate, error.public_text, error.position
    if not isinstance(plan, SplitPlan):
        return plan.sql, plan.outputs, plan.literals
    split = dataclasses.replace(plan.split, refusal=None)
    return split, plan.source.sql, plan.source.outputs, plan.source.columns, plan.inputs, plan.effects, plan.touches


def template_of(text: str) -> split_templates.SplitTemplate | None:
    encoded = text.encode()
    plan, shape = AFRESH.statement(encoded, (), VIEW), shape_of(encoded)
    assert isinstance(plan, SplitPlan)
    assert shape is not None
    return split_template(shape, encoded, plan.split)


SHAPES = (
    "SELECT id, full_name FROM patients WHERE full_name ILIKE '%son%' AND city = 'Rome' ORDER BY full_name LIMIT 10 OFFSET 20",
    "SELECT id FROM people WHERE name ILIKE '%x%' OR code ILIKE '%y%' ORDER BY 1 LIMIT 5",
    "SELECT id FROM people WHERE name LIKE 'Smi%' AND city LIKE 'Sp%' AND upper(code) > 'A'",
    "SELECT id FROM people WHERE name ~ '^Smi' AND city LIKE 'Sp%' AND code || 'x' <> 'y'",
    "SELECT id FROM stays WHERE born > '1980-01-15' AND born < '1990-01-01' AND id IN (1, 2, 47130) ORDER BY born DESC",
    "SELECT left(full_name, 3), max(ssn) FROM patients WHERE id > 5 GROUP BY city, left(full_name, 3) HAVING max(ssn) > 'x'",
    "SELECT p.id FROM patients p JOIN visits v ON p.mrn = v.mrn AND v.room = 'r1' WHERE p.ssn = '1' AND upper(v.diagnosis) = 'C'",
    "SELECT id, CASE WHEN full_name > 'M' THEN 'late' ELSE 'early' END FROM patients WHERE ssn IN ('1', '2') OR notes LIKE '_x'",
    "SELECT id FROM patients WHERE (full_name, id) > ('Ada', 17) ORDER BY full_name, id LIMIT 50",
    "SELECT id, full_name || $1 FROM patients WHERE city = 'x' AND full_name > $2 AND notes = 'y'",
    "SELECT id FROM patients WHERE coalesce(notes, 'x') > 'y' ORDER BY full_name || 'x', 1",
    "SELECT (SELECT max(id) FROM log WHERE id > 5), notes FROM patients GROUP BY CUBE ((SELECT max(id) FROM log WHERE id > 5), 2)",
    "SELECT 'é1', upper(ssn), CASE WHEN active THEN 'x' ELSE city END FROM patients WHERE id IN (3, 7) OR notes > 'é1'",
    "WITH c AS (SELECT id, ssn FROM patients WHERE city = 'x') SELECT upper(ssn) || current_user FROM c WHERE id <> 3",
    "SELECT a.id FROM patients a WHERE a.city = '1' AND EXISTS (SELECT FROM visits v WHERE v.diagnosis > a.notes AND v.room = 'r')",
    "SELECT id FROM people WHERE born + 30 > '1980-01-01' AND born <> date '1999-12-31'",
    "UPDATE patients SET notes = coalesce(notes, '') || ' | x', city = 'Bern' WHERE id = 17 AND ssn = '1' RETURNING id, ssn",
    "UPDATE patients SET notes = notes || 'x', ssn = 'y' WHERE full_name ILIKE '%z%' OR city = 'c' RETURNING upper(notes) || 'r'",
    "UPDATE patients p SET notes = v.diagnosis || 'x' FROM visits v WHERE v.patient_id = p.id AND v.room = 'y' AND p.mrn = 'z'",
    "DELETE FROM people WHERE name LIKE '%x%' AND born < '1980-01-01' AND id <> 12",
    "DELETE FROM visits v USING patients p WHERE p.id = v.patient_id AND p.full_name > 'x' AND v.room = 'y' RETURNING v.id",
    "INSERT INTO patients (ssn, notes, city) VALUES ('x', initcap('y') || 'z', 'c'), ('1', 'w' || current_user, 'd')",
    "INSERT INTO patients (ssn, city) VALUES ('x', 'y') RETURNING id, upper(ssn) || 'z'",
    "INSERT INTO visits (patient_id, diagnosis, room) SELECT id, full_name || 'x', 'y' FROM patients WHERE notes > 'z' AND id < 99",
    "INSERT INTO patients (id, ssn) VALUES (12, reverse('x')) ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn, city = 'y'",
)
STRINGS = st.one_of(
    st.sampled_from(
        ("", "x", "x''y", "%", "%%", "Smi%", "Sm%", "%mi", "smi", "_", "a%b", "^Smi", "^a$", "\\%", "today", "Now()", "x tomorrow",
         "1980-01-01", "1981-02-03", "{x,y}", "{1}", "47130", "47130.0", "full_name", "A b", "\u00fc%", "\u0130%", "english", "1")
    ),
    st.text(alphabet="xyS%_^1 ", max_size=5),
)  # fmt: skip
NUMBERS = st.one_of(st.integers(0, 12), st.sampled_from((47130, 2147483648, 3.5, 99999)))


@st.composite
def texts(draw: st.DrawFn, shapes: tuple[str, ...]) -> tuple[bytes, bytes]:
    """Draw two texts of one shape, or nearly so."""
    text = draw(st.sampled_from(shapes)).encode()
    shape = shape_of(text)
    assert shape is not None

    def other() -> bytes:
        pieces = [shape.gaps[0]]
        for constant, gap in zip(shape.constants, shape.gaps[1:], strict=True):
            kept = draw(st.booleans())
            new = f"'{draw(STRINGS)}'" if constant[:1] == b"'" else str(draw(NUMBERS))
            pieces += (constant if kept else new.encode(), gap)
        return b"".join(pieces)

    return other(), other()


@pytest.mark.parametrize("text", SHAPES)
def test_these_have_templates(text: str) -> None:
    assert template_of(text) is not None


@given(texts(SHAPES))
@settings(max_examples=80, deadline=None)
def test_a_text_is_split_as_if_its_shape_had_not_been_seen(pair: tuple[bytes, bytes]) -> None:
    for text in pair:
        assert understood(SEEN, text) == understood(AFRESH, text)


SPLIT = tuple(dict.fromkeys(c.with_values(lambda word: f"Zoë-{word}-9")[0] for c in CASES if c.rest and c.since <= 15))


@given(texts(tuple(text for text in SPLIT if (shape := shape_of(text.encode())) is not None and shape.constants)))
@settings(max_examples=40, deadline=None)
def test_the_fixtures_are_split_so_too(pair: tuple[bytes, bytes]) -> None:
    for text in pair:
        assert understood(SEEN, text) == understood(AFRESH, text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM stays WHERE born > 'today'::date",
        "SELECT id AS \"a b\" FROM patients WHERE full_name > 'x' AND city = 'a b'",
        "SELECT id FROM patients WHERE full_name ILIKE '%now%'",
    ],
)
def test_these_have_none(text: str) -> None:
    assert template_of(text) is None


def test_values_that_decided_something_must_be_the_same() -> None:
    on = with_engine()

    def source_and_rest(text: str) -> tuple[bytes, bytes]:
        plan = on.statement(text.encode(), (), VIEW)
        assert isinstance(plan, SplitPlan)
        return plan.split.source, b"".join(plan.split.rest.parts)

    clear, _ = source_and_rest("SELECT id FROM patients WHERE city = 'a' AND upper(ssn) = 'b'")
    both, _ = source_and_rest("SELECT id FROM patients WHERE city = 'b' AND upper(ssn) = 'b'")
    assert b"'a'" in clear
    assert b"'b'" not in both
    grouped = [
        "SELECT city, upper(ssn), count(*) FROM patients GROUP BY {} ORDER BY {}".format(*by) for by in (("1, 2", 1), ("2, 1", 2))
    ]
    assert [source_and_rest(text)[1][-24:] for text in grouped] == [b"GROUP BY 1, 2 ORDER BY 1", b"GROUP BY 2, 1 ORDER BY 2"]
    asked = [source_and_rest(f"SELECT upper(ssn) || current_setting('{name}') FROM patients")[0] for name in ("a.b", "c.d")]
    assert b"a.b" in asked[0]
    assert b"c.d" in asked[1]


def test_no_constant_is_kept() -> None:
    text = "SELECT id FROM patients WHERE full_name ILIKE '%Meier%' AND ssn = '078-05-1120' AND notes > lower('Smith') LIMIT 4713"
    made = template_of(text)
    assert made is not None
    assert [i for i, _ in made.fixed] == [2]
    kept = pickle.dumps(made)
    assert b"patients" in kept
    for constant in (b"Meier", b"078", b"Smith", b"4713"):
        assert constant not in kept


def test_the_oldest_of_a_shape_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_templates, "MAX_TEMPLATES_PER_SHAPE", 2)
    kept = SplitTemplates()
    texts_ = [f"SELECT id FROM patients WHERE notes > lower('{of}')".encode() for of in "abc"]
    for text in texts_:
        made, shape = template_of(text.decode()), shape_of(text)
        assert made is not None
        assert shape is not None
        kept.add((), shape, made)
        assert kept.split(("another path",), shape, text) is None
    found = [kept.split((), shape, text) for text in texts_ if (shape := shape_of(text)) is not None]
    assert [one is None for one in found] == [True, False, False]


def test_objects_that_a_document_must_hold_are_each_looked_for_by_their_own_part() -> None:
    texts = [
        b"SELECT id FROM charts WHERE doc @> '{\"%s\": %d, \"tags\": [1]}' AND ward = '%s'" % values
        for values in ((b"age", 40, b"A"), (b"age", 41, b"A"), (b"zip", 40, b"A"), (b"age", 40, b"B"))
    ]
    for _ in range(2):
        for text in texts:
            assert understood(SEEN, text) == understood(AFRESH, text)
    plans = [SEEN.statement(text, (), VIEW) for text in texts]
    sources = [plan.split.source for plan in plans if isinstance(plan, SplitPlan)]
    assert [b'"age": 40' in source for source in sources] == [True, False, False, True]


def test_a_member_that_is_set_is_the_one_that_is_named() -> None:
    texts = [b"UPDATE charts SET doc['%s'] = '%d' WHERE ward = 'A'" % values for values in ((b"a", 1), (b"b", 1), (b"a", 2))]
    for _ in range(2):
        for text in texts:
            assert understood(SEEN, text) == understood(AFRESH, text)
            assert isinstance(AFRESH.statement(text, (), VIEW), SplitPlan)
