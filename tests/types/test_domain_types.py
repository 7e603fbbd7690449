"""Domains: the length of what they are over, and their conditions, wherever a value becomes one."""

import pytest

from phiproxy.errors import StringTooLong
from phiproxy.types.casts import explicit
from phiproxy.types.codecs import codec
from phiproxy.types.declared import DeclaredType, DomainCheck
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import CheckViolated

VARCHAR = DeclaredType("varchar(5)", 1043, 9)
INT4 = DeclaredType("int4", 23, array_oid=1007)
MOOD = DeclaredType("public.mood", 20004, labels=("a",), schema="public")
NO_X = DomainCheck("no_x", b"", lambda value: None if value is None else "x" not in value)
ZIP = DeclaredType("public.zip", 20001, base=VARCHAR, schema="public", checks=(NO_X,))


def test_a_value_is_judged_where_it_comes_in_and_where_it_is_assigned() -> None:
    made = codec(ZIP)
    assert made.from_text(b"abc     ", Styles.CANONICAL) == b"abc  "
    assert made.assign(b"abcde   ", -1) == b"abcde"
    for function in (lambda v: made.from_text(v, Styles.CANONICAL), made.from_binary, lambda v: made.assign(v, -1)):
        with pytest.raises(StringTooLong):
            function(b"abcdef")
        with pytest.raises(CheckViolated) as caught:
            function(b"axb")
        assert caught.value.message == 'value for domain zip violates check constraint "no_x"'
        assert caught.value.objects == ((115, "public"), (100, "zip"), (110, "no_x"))


def test_an_explicit_cast_cuts() -> None:
    cast = explicit(DeclaredType("text", 25), ZIP)
    assert cast(b"abcdefgh", Styles.CANONICAL) == b"abcde"
    with pytest.raises(CheckViolated):
        cast(b"xbcdefgh", Styles.CANONICAL)


def test_without_conditions_it_is_what_it_is_over() -> None:
    plain = DeclaredType("public.day", 20002, base=DeclaredType("date", 1082), schema="public")
    assert codec(plain) is codec(DeclaredType("date", 1082))


def test_elements_of_arrays_are_judged() -> None:
    made = codec(DeclaredType("public.zip[]", 20003, element=ZIP))
    assert made.from_text(b"{abc,NULL}", Styles.CANONICAL) == b"{abc,NULL}"
    with pytest.raises(CheckViolated):
        made.from_text(b"{abc,x}", Styles.CANONICAL)


@pytest.mark.parametrize(
    ("declared", "oid"),
    [
        (VARCHAR, 1043),
        (ZIP, 1043),
        (MOOD, 25),
        (DeclaredType("public.citext", 20005, schema="public"), 25),
        (DeclaredType("int4[]", 1007, element=INT4), 1007),
        (DeclaredType("public.mood[]", 20006, element=MOOD), 1009),
        (DeclaredType("x.g[]", 20007, element=DeclaredType("x.g", 20008, base=INT4, schema="x")), 1007),
    ],
)
def test_the_form_on_the_wire(declared: DeclaredType, oid: int) -> None:
    assert declared.sent_as == oid
