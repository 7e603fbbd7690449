"""Guards and tags as text. Reading them is tested with the DDL, on a real server."""

from dataclasses import replace

from phiproxy.ops.physical import guard, guard_name, same_sql, tag
from phiproxy.policy.bind import assemble
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


def test_same_sql() -> None:
    assert same_sql("substring(c,1,3) = 'x'", "(\"substring\"(c, 1, 3) = 'x')")
    assert not same_sql("get_byte(c,11) >= 1", "get_byte(c, 11) >= 2")
