"""Long INSERTs are planned exactly as if each of their rows had been analysed."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiproxy.errors import PhiproxyError
from phiproxy.plan import long_inserts
from phiproxy.plan import planner as planner_module
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_plan import ScriptPlan, StatementPlan
from phiproxy.sql.result import Occurrence
from phiproxy.sql.values.uses import Renew, Store, Use
from tests.fixtures.model import VIEW, planner
from tests.harness.costs import calls_of


@pytest.fixture(scope="module", autouse=True)
def short_texts_too() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner_module, "MAX_SHAPED_TEXT", 0)
        patch.setattr(long_inserts, "MIN_BULK_TEXT", 0)
        yield


def _seen(plan: ScriptPlan) -> tuple[object, ...]:
    """Return all that a plan says, rows being numbered as they come."""
    assert plan.rendered is not None
    rows: dict[int, int] = {}

    def plain(o: Occurrence) -> Occurrence:
        use = o.use
        if isinstance(use, Store | Renew):
            use = dataclasses.replace(use, row=rows.setdefault(use.row, len(rows)))
        return dataclasses.replace(o, use=use, order=0, group=0)

    r = plan.rendered
    return plan.text, plan.parts, r.pieces, r.spans, [plain(o) for o in r.occurrences]


def script(text: str) -> tuple[object, ...]:
    try:
        return _seen(planner().script(text.encode(), VIEW))
    except PhiproxyError as error:
        return error.sqlstate, error.public_text, error.position, error.hint


def in_full(text: str) -> tuple[object, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_inserts, "find_bulk", lambda _text, _declared: None)
        return script(text)


def _told(plan: StatementPlan) -> tuple[object, ...]:
    """Return all that a plan of the extended protocol says, rows being numbered as they come."""
    rows: dict[int, int] = {}

    def plain(use: Use) -> Use:
        return dataclasses.replace(use, row=rows.setdefault(use.row, len(rows))) if isinstance(use, Store | Renew) else use

    outputs = [(plain(use), *place) for use, *place in plan.outputs]
    literals = [(dataclasses.replace(u, row=0) if isinstance(u, Store) else u, *place) for u, *place in plan.literals]
    rest = (f.name for f in dataclasses.fields(plan) if f.compare and f.name not in ("outputs", "literals"))
    return outputs, literals, [getattr(plan, name) for name in rest]


def statement(text: str, oids: tuple[int, ...] = ()) -> tuple[object, ...]:
    try:
        return _told(planner.__wrapped__().statement(text.encode(), oids, VIEW))
    except PhiproxyError as error:
        return error.sqlstate, error.public_text, error.position, error.hint


def statement_in_full(text: str, oids: tuple[int, ...] = ()) -> tuple[object, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_inserts, "find_bulk", lambda _text, _declared: None)
        return statement(text, oids)


LITERAL = st.sampled_from(["''", "'x'", "'it''s'", "'é'", "'Springfield'", "'y'", "'), ('", "'{y,z}'", "' [0:0]={x}'"])
TEXT = st.one_of(
    LITERAL,
    st.builds("{}::{}".format, LITERAL, st.sampled_from(["text", "varchar", "varchar(3)"])),
    st.sampled_from(
        [
            "NULL",
            "DEFAULT",
            "5",
            "7.25",
            "-3",
            "('x')",
            "lower('X')",
            "'2001-02-03'",
            "'a' || 'b'",
            "NULL::text",
            "coalesce('x', 'y')",
        ]
    ),
)
PLAIN = st.sampled_from(["1", "-1", "2", "'c'", "'x'", "NULL", "DEFAULT", "now()", "lower('c')", "(1 + 2)", "'d'::text"])
TAILS = st.sampled_from(
    [
        "", ";", " RETURNING id, ssn", " RETURNING id = 5, 'x', ssn = 'z'", " ON CONFLICT DO NOTHING",
        " ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn, full_name = 'w' WHERE patients.ssn <> 'v'", " -- x", " LIMIT 2",
    ]
)  # fmt: skip
HEADS = st.sampled_from(
    [
        ("INSERT INTO patients (ssn, city) VALUES ", 2),
        ('INSERT INTO "patients" ("id", "ssn", "city") VALUES ', 3),
        ("insert into public.patients (city, full_name, ssn) overriding system value values", 3),
        ("INSERT INTO patients AS p (ssn) VALUES ", 1),
        ("INSERT INTO visits VALUES ", 4),
        ("INSERT INTO members (mrn) VALUES ", 1),
        ("INSERT INTO people (name, born) VALUES ", 2),
    ]
)


@st.composite
def inserts(draw: st.DrawFn) -> str:
    """Return an INSERT of some forms of rows, each often."""
    head, width = draw(HEADS)
    forms = draw(st.lists(st.lists(st.one_of(TEXT, PLAIN), min_size=width, max_size=width), min_size=1, max_size=2))
    rows = []
    for i in range(draw(st.integers(16, 24))):
        row = list(draw(st.sampled_from(forms)))
        if draw(st.booleans()):
            row = [
                f"'{draw(st.sampled_from(['x', 'Springfield', 'row', '']))}{i if i % 3 else ''}'" if v[:1] == "'" else v
                for v in row
            ]
        rows.append("(" + ", ".join(row) + ")")
    return head + ", ".join(rows) + draw(TAILS)


AROUND = st.sampled_from(
    [
        "{}", "{}", "BEGIN; {}; COMMIT", "SELECT 'x;INSERT INTO t VALUES (1)', 2; {}; UPDATE patients SET ssn = 'é', city = 'u'",
        "UPDATE patients SET ssn = 'é';{};{};SELECT ssn FROM patients WHERE ssn = 'y'",
        "INSERT INTO visits (mrn) VALUES ('a'), ('b'); {}",
    ]
)  # fmt: skip


TAINT = "a literal meets a protected column and is used unprotected elsewhere"


@settings(max_examples=60, deadline=None)
@given(inserts(), AROUND)
def test_as_if_each_row_had_been_analysed(insert: str, around: str) -> None:
    text = around.replace("{}", insert.removesuffix(";").removesuffix(" -- x")) if around != "{}" else insert
    found, expected = script(text), in_full(text)
    if isinstance(expected, tuple) and TAINT in str(expected[1]):
        # Of several such literals any may be told.
        assert isinstance(found, tuple)
        assert found[:2] == expected[:2]
    else:
        assert found == expected


BULK = "INSERT INTO patients (id, ssn, city, mrn) VALUES "


def rows(n: int, city: str = "Springfield") -> list[str]:
    return [f"({i}, 'v{i}', '{city}', 'm{i}')" for i in range(n)]


def lengths_analysed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that takes the length of each text that is analysed from now on."""
    lengths: list[int] = []
    analyse = Planner._answers

    def counted(self: Planner, text: bytes, view: View, declared: tuple[int, ...]) -> object:
        lengths.append(len(text))
        return analyse(self, text, view, declared)

    monkeypatch.setattr(Planner, "_answers", counted)
    return lengths


def test_only_a_few_rows_are_analysed(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = lengths_analysed(monkeypatch)
    text = BULK + ", ".join(rows(500))
    plan = planner().script(text.encode(), VIEW)
    assert plan.rendered is not None
    assert [o.literal for o in plan.rendered.occurrences][-2:] == [b"v499", b"m499"]
    assert len({o.use.row for o in plan.rendered.occurrences if isinstance(o.use, Store)}) == 500
    assert max(lengths) < 200


@pytest.mark.parametrize(
    "offender", ["(7, 'z', 'v3', 'm')", "(7, 'Springfield', 'v', 'm')", "(7, 'z', 'v', 'Springfield')", "(7, 'z', '{x,v3}', 'm')"]
)
def test_a_protected_literal_that_is_used_elsewhere_is_refused_at_its_place(offender: str) -> None:
    text = BULK + ", ".join([*rows(400), offender, *rows(3)])
    refused = script(text)
    assert isinstance(refused, tuple)
    assert refused[0] == "0A000"
    assert refused == in_full(text)


@pytest.mark.parametrize("number", ["4713.", "47.13e2"])
def test_a_number_that_is_no_constant_of_the_shape_is_compared_too(number: str) -> None:
    others = [f"({number}, 'v{i}', 'c', 'm')" for i in range(400)]
    assert script(BULK + ", ".join(others))[0] != "0A000"
    assert script(BULK + ", ".join([*others, f"({number}, '4713', 'c', 'm')"]))[0] == "0A000"


@pytest.mark.parametrize(
    "wrong", ["(1, 'a', 'b', 'c', 'd')", "(1, now(), 'b', 'c')", "(1, ssn, 'b', 'c')", "(1, 'a', 'b', 'c'", "(1, 'a', 'é', now())"]
)
def test_a_refusal_stands_at_its_place_in_the_whole_text(wrong: str) -> None:
    text = BULK + ", ".join([*rows(100, "é"), wrong, *rows(100)])
    refused = script(text)
    assert isinstance(refused, tuple)
    assert refused[0] in ("42601", "0A000", "42703")
    assert refused == in_full(text)


def test_many_rows_take_less_by_pieces() -> None:
    text = BULK + ", ".join(rows(1_500))
    assert planner().script(text.encode(), VIEW).rendered is not None
    by_pieces, whole = (calls_of(partial(look, text)) for look in (script, in_full))
    assert by_pieces < whole / 2


def test_the_two_ends_of_a_range_stay_together() -> None:
    rows = ", ".join(f"((SELECT 'c' FROM stays WHERE bed BETWEEN '{i}' AND '{i + 2}'), 's{i}')" for i in range(20))
    text = f"INSERT INTO patients (city, ssn) VALUES {rows}"
    said = script(text)
    assert isinstance(said[0], bytes)
    assert said == in_full(text)


PARAMETER = st.sampled_from(["$", "$", "$", "$::text", "$::varchar", "$::varchar(3)", "($)", "CAST($ AS text)", "lower($)"])
CELL = st.one_of(PARAMETER, PARAMETER, TEXT, PLAIN)
PARAMETER_TAILS = st.sampled_from(
    [
        "", " RETURNING id, ssn = $", " ON CONFLICT (id) DO UPDATE SET ssn = $ WHERE patients.ssn <> $ AND patients.city = $",
        " RETURNING $::text", " ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn, city = 'w'",
    ]
)  # fmt: skip


@st.composite
def inserts_of_parameters(draw: st.DrawFn) -> str:
    """Return an INSERT of rows of parameters of some forms, a few of which are used twice or come in another order."""
    head, width = draw(HEADS)
    forms = draw(st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=2))
    rows = [f"({', '.join(draw(st.sampled_from(forms)))})" for _ in range(draw(st.integers(16, 20)))]
    pieces = (head + ", ".join(rows) + draw(PARAMETER_TAILS)).split("$")
    numbers = list(range(1, len(pieces)))
    if draw(st.booleans()):
        numbers.reverse()
    for _ in range(draw(st.integers(0, 2)) if numbers else 0):
        numbers[draw(st.integers(0, len(numbers) - 1))] = draw(st.sampled_from(numbers))
    return pieces[0] + "".join(f"${n}{piece}" for n, piece in zip(numbers, pieces[1:], strict=True))


@settings(max_examples=50, deadline=None)
@given(inserts_of_parameters())
def test_rows_of_parameters_as_if_each_had_been_analysed(text: str) -> None:
    found, expected = statement(text), statement_in_full(text)
    if "and is used unprotected elsewhere" in str(expected[1]):
        # Of several such parameters and literals any may be told.
        assert found[0] == expected[0]
        assert "and is used unprotected elsewhere" in str(found[1])
    else:
        assert found == expected


def _parameters(n: int, row: str, first: int = 1) -> str:
    """Return rows in which each $ is a parameter of its own."""
    pieces = ", ".join([row] * n).split("$")
    return pieces[0] + "".join(f"${first + i}{piece}" for i, piece in enumerate(pieces[1:]))


# What SQLAlchemy sends where the rows that come back must be told apart.
SENTINEL = (
    "INSERT INTO patients (ssn, city) SELECT p0::VARCHAR, p1::VARCHAR(12) FROM (VALUES {}) AS imp_sen(p0, p1, sen_counter) "
    "ORDER BY sen_counter RETURNING patients.id, patients.id AS id__1"
)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO patients (id, ssn, city, mrn) VALUES " + _parameters(40, "($, $, $, $)"),
        "INSERT INTO patients (id, ssn, city, mrn) VALUES " + _parameters(40, "($::int, $::varchar, $::text, $::varchar(12))"),
        "INSERT INTO people (name, born) VALUES " + _parameters(20, "($, $::date)") + ", ('x', DEFAULT), (NULL, $41)",
        "INSERT INTO patients (ssn, city) VALUES " + _parameters(20, "($, 'x'::varchar(3))"),
        SENTINEL.format(", ".join(f"($%d::VARCHAR, $%d::VARCHAR, {i})" % (2 * i + 1, 2 * i + 2) for i in range(30))),
        "INSERT INTO patients (ssn, city) VALUES " + _parameters(30, "($, $)", 3)
        + " ON CONFLICT (id) DO UPDATE SET ssn = $1 WHERE patients.ssn <> $2 RETURNING ssn",
    ],
)  # fmt: skip
def test_only_a_few_rows_of_parameters_are_analysed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = statement_in_full(text)
    assert isinstance(expected[0], list)
    lengths = lengths_analysed(monkeypatch)
    assert statement(text) == expected
    assert max(lengths) < len(text) / 2


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ("($61, $1)", "0A000"),  # protected in the first row, unprotected here
        ("($2, $61)", "0A000"),
        ("($1, $61)", None),  # protected in both
        ("($61, $2)", None),  # in neither
        ("($61, now()), ($61, 'c')", None),
    ],
)
def test_a_parameter_of_several_rows(rows: str, code: str | None) -> None:
    text = "INSERT INTO patients (ssn, city) VALUES " + _parameters(30, "($, $)") + ", " + rows
    found = statement(text)
    assert found == statement_in_full(text)
    assert (found[0] if isinstance(found[0], str) else None) == code
    behind = "INSERT INTO patients (ssn, city) VALUES " + _parameters(30, "($, $)") + " RETURNING id, city = $"
    assert statement(behind + "2") == statement_in_full(behind + "2")
    assert statement(behind + "1")[0] == statement_in_full(behind + "1")[0] == "0A000"


def test_parameters_of_declared_types() -> None:
    text = "INSERT INTO people (name, born) VALUES " + _parameters(30, "($, $)")
    for oids in ((25, 1082) * 30, (1043, 25) * 30, (25, 23) * 30, (0, 0, 25)):
        assert statement(text, oids) == statement_in_full(text, oids)


def test_strings_of_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    insert = "INSERT INTO {} VALUES " + ", ".join(f"('v{i}', 'it''s; INSERT INTO t VALUES (1)')" for i in range(50))
    text = f"BEGIN; {insert.format('patients (ssn, city)')}; {insert.format('visits (mrn, room)')} RETURNING id; COMMIT"
    expected = in_full(text)
    assert isinstance(expected[0], bytes)
    lengths = lengths_analysed(monkeypatch)
    assert script(text) == expected
    assert max(lengths) < len(text) / 8
    wrong = text.replace("'v17', ", "'v17', ssn || ", 2)
    assert script(wrong)[:3] == in_full(wrong)[:3]


def test_rows_that_differ_in_the_type_of_a_number() -> None:
    rows = ["(5, 'x'::varchar(3))"] * 20 + ["(7.25, 'x'::varchar(3))", "(99999999999, 'x'::varchar(3))", "(5, 'x'::varchar(4))"]
    text = "INSERT INTO patients (ssn, city) VALUES " + ", ".join(rows)
    assert script(text) == in_full(text)
    text = "INSERT INTO patients (city, ssn) VALUES " + ", ".join(rows)
    assert script(text) == in_full(text)
