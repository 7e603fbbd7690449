"""Types that a policy may name."""

import pytest

from phiproxy.policy.column_types import array_of, builtin, by_oid, named_type, of_typmod, parse_type
from phiproxy.policy.protection import DeclaredType


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        ("text", DeclaredType("text", 25, -1)),
        ("TEXT", DeclaredType("text", 25, -1)),
        ("varchar", DeclaredType("varchar", 1043, -1)),
        ("varchar(12)", DeclaredType("varchar(12)", 1043, 16)),
        ("character  varying ( 12 )", DeclaredType("varchar(12)", 1043, 16)),
        ("character varying", DeclaredType("varchar", 1043, -1)),
    ],
)
def test_supported(text: str, declared: DeclaredType) -> None:
    assert parse_type(text) == declared


@pytest.mark.parametrize("text", ["public.mood", "citext", "public.mood[]", "mood", '"Mood"'])
def test_the_database_says_what_its_own_types_are(text: str) -> None:
    found = parse_type(text)
    assert not found.known
    assert found.name == text


@pytest.mark.parametrize("text", ["", "text; drop table t", "text(3", "varchar[][]", "a.b.c", "Mood", "mood(3)"])
def test_unknown(text: str) -> None:
    with pytest.raises(ValueError, match="unknown type"):
        parse_type(text)


@pytest.mark.parametrize("text", ["varchar(0)", "varchar(10485761)", "varchar(1,2)"])
def test_length(text: str) -> None:
    with pytest.raises(ValueError, match="the length must be"):
        parse_type(text)


@pytest.mark.parametrize(
    ("text", "name", "oid", "typmod"),
    [
        ("integer", "int4", 23, -1),
        ("BIGINT", "int8", 20, -1),
        ("double precision", "float8", 701, -1),
        ("float(24)", "float4", 700, -1),
        ("float", "float8", 701, -1),
        ("decimal", "numeric", 1700, -1),
        ("numeric(10,2)", "numeric(10,2)", 1700, (10 << 16 | 2) + 4),
        ("numeric(5)", "numeric(5,0)", 1700, (5 << 16) + 4),
        ("numeric(3,-2)", "numeric(3,-2)", 1700, (3 << 16 | 2046) + 4),
        ("char", "char(1)", 1042, 5),
        ("character(9)", "char(9)", 1042, 13),
        ("bpchar", "bpchar", 1042, -1),
        ("timestamp(3) with time zone", "timestamptz(3)", 1184, 3),
        ("timestamp without time zone", "timestamp", 1114, -1),
        ("time ( 0 )", "time(0)", 1083, 0),
        ("interval(2)", "interval(2)", 1186, 0x7FFF << 16 | 2),
        ("pg_catalog.date", "date", 1082, -1),
        ("uuid[]", "uuid[]", 2951, -1),
        ("varchar(5) [ ]", "varchar(5)[]", 1015, 9),
        ("public.mood", "public.mood", 0, -1),
        ('public."Mood"[]', 'public."Mood"[]', 0, -1),
    ],
)
def test_spellings(text: str, name: str, oid: int, typmod: int) -> None:
    found = named_type(text)
    assert (found.name, found.oid, found.typmod) == (name, oid, typmod)
    assert named_type(found.name) == found  # what the registry holds is read back


@pytest.mark.parametrize("text", ["date(3)", "numeric(1001)", "timestamp(7)", "char(0)", "float(54)", "float(1,2)", "time(1,2)"])
def test_modifiers(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|takes no length"):
        named_type(text)


def test_families() -> None:
    names = {"char(3)": "bpchar", "numeric(3,1)": "numeric", "int4[]": "array", "text": "text", "timestamptz(2)": "timestamptz"}
    assert {text: named_type(text).family for text in names} == names


@pytest.mark.parametrize(
    "text", ["varchar(5)", "char(9)", "numeric(10,2)", "numeric(3,-2)", "time(0)", "timestamptz(6)", "varchar(5)[]", "date"]
)
def test_of_typmod(text: str) -> None:
    found = named_type(text)
    assert of_typmod(found.oid, found.typmod) == found


def test_fields_of_an_interval_are_not_known() -> None:
    assert of_typmod(1186, 0x4 << 16 | 0xFFFF) is None
    assert of_typmod(26, -1) is None


def test_by_oid() -> None:
    assert by_oid(1082) == builtin("date")
    assert by_oid(1182) == array_of(builtin("date"))
    assert by_oid(26) is None
