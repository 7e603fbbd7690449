"""A declared type says its length and what it is without its typmod."""

from __future__ import annotations

from phiproxy.types.declared import DeclaredType


def test_length() -> None:
    assert DeclaredType("varchar(7)", 1043, 11).max_length == 7
    assert DeclaredType("text", 25).max_length is None


def test_unlimited() -> None:
    assert DeclaredType("varchar(7)", 1043, 11).unlimited == DeclaredType("varchar", 1043)
    assert DeclaredType("char(4)", 1042, 8).unlimited.name == "bpchar"
    limited = DeclaredType("numeric(6,3)[]", 1231, 393223, element=DeclaredType("numeric(6,3)", 1700, 393223))
    assert limited.unlimited == DeclaredType("numeric[]", 1231, element=DeclaredType("numeric", 1700))
    text = DeclaredType("text", 25)
    assert text.unlimited is text
