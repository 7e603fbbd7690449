"""Guards and tags as text."""

from dataclasses import replace

from phiproxy.policy.bind import assemble
from phiproxy.policy.physical_columns import guard, guard_name, guarded_number, tag
from phiproxy.policy.protection import Slot
from tests.policy.build import make_layout, make_policy

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


def test_tags() -> None:
    assert tag(COLUMN, Slot(0, "@", 1, "active")) == "pg_catalog.substring(c, 13, 16)"
    assert tag(replace(COLUMN, name="Odd"), Slot(2, "@", 1, "active")) == 'pg_catalog.substring("Odd", 45, 16)'


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
