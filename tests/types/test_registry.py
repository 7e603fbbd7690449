"""Which codec a declared type has."""

from __future__ import annotations

import pytest

from phiproxy.errors import ConfigError, ValueRefused
from phiproxy.policy.types import BUILTIN, array_of, by_oid
from phiproxy.types.declared import DeclaredType
from phiproxy.types.integers import INT4
from phiproxy.types.registry import codec
from phiproxy.types.styles import Styles
from tests.types.server import Oracle

INT = DeclaredType("int4", 23)


def test_base_types_and_domains() -> None:
    assert codec(INT) is INT4
    assert codec(DeclaredType("age", 99999, base=INT)) is INT4


@pytest.mark.parametrize("oid", sorted(row.oid for row in BUILTIN.values()))
def test_every_type_of_the_policy(oracle: Oracle, oid: int) -> None:
    declared = by_oid(oid)
    assert declared is not None
    found = codec(array_of(declared))
    for known in oracle.read(f"{declared.name}[]", [b"{}", b"{NULL}"]):
        assert found.from_binary(known.binary) == known.canonical
        assert found.to_binary(known.canonical) == known.binary


def test_the_fields_of_an_interval() -> None:
    hours = codec(DeclaredType("interval hour", 1186, 67174399))
    assert hours.from_text(b"1", Styles.CANONICAL) == b"01:00:00"


def test_a_domain_over_an_enum_in_an_array() -> None:
    mood = DeclaredType("mood", 99998, labels=("sad", "ok"))
    found = codec(DeclaredType("x[]", 99996, element=DeclaredType("x", 99995, base=mood)))
    assert found.from_text(b'{"ok",NULL}', Styles.CANONICAL) == b"{ok,NULL}"
    assert found.to_binary(b"{ok}")[8:12] == (99995).to_bytes(4, "big")


def test_an_enum() -> None:
    mood = codec(DeclaredType("mood", 99998, labels=("sad", "ok")))
    assert mood.from_text(b"ok", Styles.CANONICAL) == b"ok"
    with pytest.raises(ValueRefused):
        mood.from_text(b"glad", Styles.CANONICAL)


def test_citext_compares_by_lower() -> None:
    citext = DeclaredType("citext", 99997)
    assert codec(citext, bytes.lower).form(b"AbC") == b"abc"
    with pytest.raises(ConfigError, match="citext"):
        codec(citext)


def test_what_cannot_be_protected() -> None:
    with pytest.raises(ConfigError, match="type point is not one that can be protected"):
        codec(DeclaredType("point", 600))
