"""A declared type says its length and what it is without its typmod."""

from __future__ import annotations

from phiproxy.types.declared import DeclaredType


def test_length() -> None:
    assert DeclaredType("varchar(7)", 1043, 11).max_length == 7
    assert DeclaredType("text", 25).max_length is None


def test_unlimited() -> None:
    assert DeclaredType("varchar(7)", 1043, 11).unlimited == DeclaredType("varchar(7)", 1043)
    text = DeclaredType("text", 25)
    assert text.unlimited is text
