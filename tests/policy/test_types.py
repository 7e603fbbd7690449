"""Types that a policy may name."""

import pytest

from phiproxy.policy.protection import DeclaredType
from phiproxy.policy.types import parse_type


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


@pytest.mark.parametrize(
    "text",
    ["char(3)", "int4", "numeric(10,2)", "double precision", "timestamp(3) with time zone", "text[]", "jsonb", "bool"],
)
def test_known_but_later(text: str) -> None:
    with pytest.raises(ValueError, match="is not in this version"):
        parse_type(text)


@pytest.mark.parametrize("text", ["wibble", "", "text; drop table t", "text(3", "varchar[][]"])
def test_unknown(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown type .* this version encrypts text, varchar"):
        parse_type(text)


@pytest.mark.parametrize("text", ["varchar(0)", "varchar(10485761)", "varchar(1,2)"])
def test_length(text: str) -> None:
    with pytest.raises(ValueError, match="the length must be"):
        parse_type(text)
