"""Guards as text; that PostgreSQL keeps plaintext out by those of documents: tests/integration/test_document_fields.py."""

from dataclasses import replace

from phiproxy.policy.bind import assemble
from phiproxy.policy.plaintext_guards import guard, guard_name, guarded_clear, guarded_number, guarded_numbers, listing
from phiproxy.policy.protection import Slot
from tests.clinic_model import protected
from tests.policy.build import make_layout, make_policy
from tests.records_model import DOC, SEALED

POLICY = make_policy({"public.t": {"c": {"type": "text", "indexes": ["c"]}}})
COLUMN = assemble(POLICY, make_layout(POLICY), "phiproxy").by_name["public", "t"].columns["c"]


def test_the_guard_is_that_of_the_format() -> None:
    assert guard(replace(COLUMN, number=0x1AB)) == (
        "CHECK (CASE WHEN octet_length(c) >= 12 THEN substring(c,1,3) = '\\xf55001'::bytea"
        " AND substring(c,10,2) = '\\x01ab'::bytea AND get_byte(c,11) >= 1"
        " AND octet_length(c) >= 56 + 16*get_byte(c,11) ELSE c IS NULL END)"
    )


def test_slots_that_are_building_are_not_asked_for() -> None:
    building = Slot(1, "lower(@)", 1, "building")
    assert "get_byte(c,11) >= 1" in guard(replace(COLUMN, slots=(*COLUMN.slots, building)))
    assert "get_byte(c,11) >= 2" in guard(replace(COLUMN, slots=(*COLUMN.slots, replace(building, state="ready"))))
    assert "get_byte(c,11) >= 0" in guard(replace(COLUMN, slots=()))


def test_long_names_are_cut_and_stay_apart() -> None:
    assert guard_name("ssn") == "phi_guard_ssn"
    one, other = guard_name("ü" * 30 + "a"), guard_name("ü" * 30 + "b")
    assert one != other
    assert max(len(one.encode()), len(other.encode())) <= 63


def test_the_number_is_found_in_what_the_server_stores() -> None:
    three = (
        "{CONST :consttype 17 :constlen -1 :constbyval false :constisnull false :location 81 :constvalue 7 [ 28 0 0 0 -11 80 1 ]}"
    )
    two = three.replace("7 [ 28 0 0 0 -11 80 1 ]", "6 [ 24 0 0 0 1 -85 ]")
    assert guarded_number(f"{{CASE :args ({three} {two})}}") == 0x1AB
    assert guarded_number(three) is None


def test_the_guard_asks_for_each_field() -> None:
    text = guard(DOC)
    assert text.startswith(r"CHECK ('\x0028'::bytea IS NOT NULL AND CASE jsonb_typeof(")
    for number, slots in (("0029", "02"), ("002a", "01"), ("002c", "01"), ("002d", "00")):
        assert f"[0-9a-f]{{10}}{number}" in text
        assert f">= '{slots}'::text" in text
    assert 'AND NOT jsonb_path_match(fields, \'exists ($."history"[*]."note"?(@ != null && !(@.type() == "string" &&' in text
    assert guarded_numbers(text.encode()) == (41, 42, 43, 44, 45)
    assert guarded_numbers(guard(protected("t", "c", 1)).encode()) == ()
    assert b"phi-clear:".hex() not in text
    assert listing(DOC.document) is None if DOC.document else False


def test_the_guard_lists_what_is_in_clear_where_all_else_is_sealed() -> None:
    assert SEALED.document is not None
    constant = listing(SEALED.document)
    assert constant == b'phi-clear:["$.meta.at", "$.ward"]'
    assert f"AND '\\x{constant.hex()}'::bytea IS NOT NULL" in guard(SEALED)
    assert guarded_clear(constant) == ("$.meta.at", "$.ward")
    assert guarded_clear(b"\x00\x28") is None
