"""Plans at work: values converted, formats and descriptions, positions, and literals sealed afresh at every run."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from phiproxy.errors import CatalogChanged, DataKeyWant, KeyNeeded, ValueRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.convert_values import at_once, convert_steps
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.result_columns import MAX_DESCRIPTIONS, Columns
from phiproxy.plan.statement_plan import map_position, read_literal, spell_bytea
from phiproxy.policy.column_types import named_type
from phiproxy.policy.protection import Check, ProtectedColumn
from phiproxy.sql.result import Reveal
from phiproxy.sql.values.uses import NULLNESS, PLAIN, Given, Search, Store
from phiproxy.types.styles import Styles
from phiproxy.wire.arrays import Array
from phiproxy.wire.messages import Field, encode_row_description
from tests.clinic_model import ACTIVE, CATALOG, PATH, PATIENTS, PROTECTION
from tests.plan.rings import full_ciphers, full_ring

SSN, NAME, MRN = PATIENTS.columns["ssn"], PATIENTS.columns["full_name"], PATIENTS.columns["mrn"]
PLANNER = Planner(PROTECTION, CATALOG, full_ciphers())
VIEW = View(PATH, "clinic", catalog_fresh=True)


def test_convert() -> None:
    ciphers = full_ciphers()
    made = at_once(
        convert_steps(
            ciphers,
            [
                (Store(SSN, 1), b"a"),
                (Search(SSN, ACTIVE[0], SSN.type), b"a"),
                (NULLNESS, b"a"),
                (PLAIN, b"a"),
                (Store(SSN, 2), None),
                (NULLNESS, None),
            ],
        )
    )
    assert isinstance(made[0], bytes)
    assert ciphers.open(SSN)(made[0]) == b"a"
    assert made[1] == made[0][12:28]
    assert made[2:] == [b"\x01", b"a", None, None]


def test_values_of_one_row_and_key_share_a_salt_and_rows_do_not() -> None:
    made = at_once(convert_steps(full_ciphers(), [(Store(SSN, 1), b"a"), (Store(NAME, 1), b"b"), (Store(SSN, 2), b"a")]))
    salts = [e[28:44] for e in made if isinstance(e, bytes)]
    assert salts[0] == salts[1] != salts[2]


def test_nothing_is_reserved_for_null_and_nothing_drawn_when_the_lease_is_short() -> None:
    ring = full_ring(uses=1)
    ciphers = Ciphers(ring)
    assert at_once(convert_steps(ciphers, [(Store(SSN, 1), None)])) == [None]
    with pytest.raises(KeyNeeded):
        at_once(convert_steps(ciphers, [(Store(SSN, 1), b"a"), (Store(SSN, 2), b"b")]))
    assert ring.balance(SSN.scope)[1] == 1


def test_constraints_and_defaults_make_another_plan_only_of_what_is_sealed_in_its_text() -> None:
    column = replace(SSN, checks=(Check("c", b"x"),), default=b"y")
    tables = tuple(replace(t, columns={n: column if c is SSN else c for n, c in t.columns.items()}) for t in PROTECTION.tables)
    later = Planner(replace(PROTECTION, tables=tables), CATALOG, full_ciphers())
    for text in (b"UPDATE patients SET ssn = $1 WHERE ssn = $1 RETURNING ssn", b"UPDATE patients SET ssn = 'a'"):
        assert PLANNER.statement(text, (), VIEW).same(later.statement(text, (), VIEW))
    sealed = b"ALTER TABLE patients ALTER ssn SET DEFAULT 'a'"
    assert not PLANNER.statement(sealed, (), VIEW).same(later.statement(sealed, (), VIEW))


def test_a_plan_converts_values_formats_and_descriptions() -> None:
    plan = PLANNER.statement(b"UPDATE patients SET ssn = $1, city = $2 WHERE ssn = $1", (), VIEW)
    values = plan.parameters(PLANNER.ciphers, [b"x", b"y"])
    assert values[1] == b"y"
    assert values[0] is not None
    assert values[2] == values[0][12:28]
    assert plan.formats((0, 0)) == (1, 0, 1)
    assert plan.describe_parameters((17, 25, 17)) == [25, 25]


def test_a_plan_asks_for_the_keys_of_all_that_values_spell() -> None:
    plan = PLANNER.statement(b"INSERT INTO patients (ssn) VALUES ($1), ($2)", (), VIEW)
    spelled = [b"\\xf550010100%08x000100%b" % (number, b"00" * 44) for number in (10_001, 10_002)]
    with pytest.raises(KeyNeeded) as needed:
        plan.parameters(PLANNER.ciphers, [*spelled])
    assert needed.value.wants == {DataKeyWant(10_001), DataKeyWant(10_002)}


FIELD = Field(b"ssn", 100, 2, 17, -1, -1, 1)
COLUMNS = Columns((None, Reveal(MRN, MRN.type)))


def test_columns_are_described_as_declared() -> None:
    shown = COLUMNS.describe([FIELD._replace(attnum=1, type_oid=23), FIELD], (0, 1), PLANNER.sealed)
    assert shown[1] == FIELD._replace(type_oid=1043, typmod=16, format=1)
    assert COLUMNS.describe([FIELD._replace(attnum=1), FIELD], None, frozenset())[1].format == 0


@pytest.mark.parametrize(
    "fields",
    [[FIELD], [FIELD, FIELD], [FIELD._replace(attnum=1), FIELD._replace(type_oid=25)]],
    ids=["another number", "a protected one where none was analysed", "an unprotected one where a protected was"],
)
def test_other_columns_than_were_analysed_are_refused(fields: list[Field]) -> None:
    with pytest.raises(CatalogChanged):
        COLUMNS.describe(fields, None, PLANNER.sealed)


def test_literals_of_a_simple_query_are_sealed_afresh_each_time() -> None:
    script = PLANNER.script(b"INSERT INTO patients (ssn, notes) VALUES ('secret', NULL)", VIEW)
    (one, edits), (two, _) = script.render(PLANNER.ciphers), script.render(PLANNER.ciphers)
    assert one != two
    assert b"secret" not in one
    assert b"NULL::bytea" in one
    assert all(end >= start for start, end, _ in edits)


def test_positions_map_back_over_a_rewrite() -> None:
    text = "SELECT 'é', nope FROM public.patients WHERE ssn = 'x' AND zzz".encode()
    plan = PLANNER.statement(text.replace(b"nope", b"city").replace(b"zzz", b"active"), (), VIEW)
    server = plan.sql.decode()
    assert map_position(plan.sql, plan.text, plan.edits, server.index("active") + 1) == plan.text.decode().index("active") + 1
    assert map_position(b"abc", b"abc", (), 2) == 2


def test_spelling() -> None:
    assert spell_bytea(b"\xf5\x50") == b"'\\xf550'::bytea"
    assert spell_bytea(None) == b"NULL::bytea"


def test_the_elements_of_an_array_become_tags_in_either_form() -> None:
    plan = PLANNER.statement(b"SELECT 1 FROM patients WHERE ssn = ANY ($1)", (), VIEW)
    assert plan.oids == (1001,)
    assert plan.describe_parameters((1001,)) == [1009]
    (text,) = plan.parameters(PLANNER.ciphers, [b"{a,NULL}"], (0,))
    (binary,) = plan.parameters(PLANNER.ciphers, [struct.pack("!iiIiii", 1, 1, 25, 2, 1, 1) + b"a" + b"\xff" * 4], (1,))
    assert text == binary
    tag = PLANNER.ciphers.search(SSN, ACTIVE[0], SSN.type)(b"a")
    assert text is not None
    assert text[20:] == struct.pack("!i", 16) + tag + b"\xff" * 4


def test_each_element_that_is_stored_is_a_row() -> None:
    values = Array(((3, 1),), (b"a", None, b"a"))
    names = Array(((3, 1),), (b"n", b"m", None))
    uses = [(Store(SSN, 1, elements=True), values), (Store(NAME, 1, elements=True), names)]
    ssns, fulls = at_once(convert_steps(full_ciphers(), uses))
    assert isinstance(ssns, Array)
    assert isinstance(fulls, Array)
    salts = [None if e is None else e[28:44] for e in (*ssns.elements, *fulls.elements)]
    assert salts[0] == salts[3]
    assert None not in (salts[0], salts[2], salts[4])
    assert len({salts[0], salts[2], salts[4]}) == 3
    assert salts[1] is salts[5] is None


def test_an_array_as_a_literal_of_a_simple_query() -> None:
    script = PLANNER.script(b"SELECT 1 FROM patients WHERE ssn = ANY ('{a,NULL}') OR ssn = ANY (NULL)", VIEW)
    text, _ = script.render(PLANNER.ciphers)
    tag = PLANNER.ciphers.search(SSN, ACTIVE[0], SSN.type)(b"a")
    assert b"""'{"\\\\x%s",NULL}'::bytea[]""" % tag.hex().encode() in text
    assert b"NULL::bytea[]" in text


def test_casts_cut_what_is_stored() -> None:
    cut = given(None, "varchar(2)")
    assert read_literal(Store(SSN, 1, given=cut), "é€x".encode(), Styles.CANONICAL) == "é€".encode()
    elements = read_literal(Store(SSN, 2, elements=True, given=given("text", "varchar(1)")), b"[2:3]={ab,NULL}", Styles.CANONICAL)
    assert elements == Array(((2, 2),), (b"a", None))


def given(own: str | None, to: str) -> Given:
    return Given(named_type(own or "varchar"), (named_type(to),))


def test_no_elements_need_no_key() -> None:
    assert at_once(convert_steps(full_ciphers(), [(Store(SSN, 3, elements=True), Array((), ()))])) == [Array((), ())]


def test_what_may_not_be_asked_for_is_refused_where_it_is_none_for_the_column() -> None:
    """PostgreSQL comes to no error in ``COALESCE('ok', 'too long')``."""
    small = replace(MRN, type=named_type("int2"))
    for perhaps, state in ((False, "22001"), (True, "0A000")):
        with pytest.raises(ValueRefused) as refused:
            at_once(convert_steps(full_ciphers(), [(Store(MRN, 1, perhaps=perhaps), b"much too long for it")]))
        assert refused.value.sqlstate == state
        use = Store(small, 1, given=given("int4", "int4"), perhaps=perhaps)
        with pytest.raises(ValueRefused) as refused:
            read_literal(use, b"99999", Styles.CANONICAL)
        assert refused.value.sqlstate == ("22003" if state == "22001" else state)
        with pytest.raises(ValueRefused) as refused:  # which PostgreSQL reads at once
            read_literal(use, b"x", Styles.CANONICAL)
        assert refused.value.sqlstate == "22P02"


@pytest.mark.parametrize(
    ("text", "ordinary"),
    [
        ("SELECT msg FROM log", True),
        ("BEGIN", True),
        ("SELECT ssn FROM patients", False),
        ("SELECT city FROM patients WHERE ssn = $1", False),
        ("SELECT 1 FROM patients", False),
        ("SET search_path TO a", False),
        ("DEALLOCATE ALL", False),
        ("DECLARE c CURSOR FOR SELECT msg FROM log", False),
        ("PREPARE s AS SELECT msg FROM log", False),
        ("CREATE TABLE t (a int)", False),
        ("", False),
    ],
)
def test_ordinary_plans_ask_for_nothing_of_the_session(text: str, ordinary: bool) -> None:
    plan = Planner(PROTECTION, CATALOG, full_ciphers()).statement(text.encode(), (), View(PATH, "clinic"))
    assert plan.ordinary is ordinary
    assert plan.quiet is (ordinary or text == "" or "patients" in text)


def test_the_function_of_a_row_is_made_once_for_each_form_and_keys() -> None:
    columns = Columns((Reveal(SSN, SSN.type), None))
    ciphers, others = full_ciphers(), full_ciphers()
    row = columns.rows(ciphers, binary=True)
    assert columns.rows(ciphers, binary=True) is row
    assert columns.rows(ciphers, binary=False) is not row
    assert columns.rows(others, binary=True) is not row
    assert columns == Columns((Reveal(SSN, SSN.type), None))


def test_a_description_is_made_once_for_what_the_server_says_and_the_formats_asked_for() -> None:
    columns = Columns((Reveal(SSN, SSN.type), None))
    sealed = frozenset({(100, 2)})
    fields = [Field(b"ssn", 100, 2, 17, -1, -1, 1), Field(b"city", 100, 6, 25, -1, -1, 0)]
    frame = encode_row_description(fields)
    shown, _ = columns.description(frame, (0, 0), sealed)
    assert shown == encode_row_description(columns.describe(fields, (0, 0), sealed))
    assert columns.description(bytes(frame), (0, 0), sealed)[0] is shown
    assert columns.description(frame, (1, 0), sealed)[0] != shown
    with pytest.raises(CatalogChanged):
        columns.description(frame, (0, 0), frozenset({(100, 2), (100, 6)}))
    with pytest.raises(CatalogChanged):
        columns.description(encode_row_description(fields[:1]), (0, 0), sealed)
    for oid in range(3 * MAX_DESCRIPTIONS):
        columns.description(encode_row_description([fields[0]._replace(table_oid=200 + oid), fields[1]]), (0, 0), sealed)
    assert len(columns._descriptions) <= MAX_DESCRIPTIONS


def test_what_differs_in_slots_only_is_the_same_to_the_client() -> None:
    """The next slot of an index is filled, and then takes over."""
    (first, *others) = SSN.slots
    following = replace(first, number=max(s.number for s in SSN.slots) + 1, generation=2)

    def planner(column: ProtectedColumn) -> Planner:
        tables = tuple(replace(t, columns={n: column if c is SSN else c for n, c in t.columns.items()}) for t in PROTECTION.tables)
        return Planner(replace(PROTECTION, tables=tables), CATALOG, full_ciphers())

    filled = planner(replace(SSN, slots=(first, *others, replace(following, state="building"))))
    taken_over = planner(replace(SSN, slots=(replace(first, state="ready"), *others, following)))
    for text in (
        b"SELECT full_name FROM patients WHERE ssn = $1 AND id = $2",
        b"INSERT INTO patients (ssn) VALUES ($1) ON CONFLICT (ssn) DO NOTHING RETURNING ssn",
        b"UPDATE patients SET ssn = $1 WHERE ssn IN ($2, $3)",
    ):
        before = PLANNER.statement(text, (), VIEW)
        for now in (filled, taken_over):
            plan = now.statement(text, (), VIEW)
            assert not plan.same(before)
            assert plan.may_follow(before)
