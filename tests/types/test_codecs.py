"""Which codec a declared type has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import ConfigError, ValueRefused
from phiproxy.policy.column_types import BUILTIN, array_of, builtin, by_oid
from phiproxy.types.codecs import codec
from phiproxy.types.declared import DeclaredType
from phiproxy.types.integers import INT4
from phiproxy.types.styles import Styles
from tests.types.against import batches, outcome
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


def test_a_domain_over_a_limited_type() -> None:
    short = DeclaredType("short", 99994, base=DeclaredType("varchar(2)", 1043, 6))
    assert codec(short).assign(b"ab ", -1) == b"ab"
    for found, value in ((codec(short), b"abc"), (codec(DeclaredType("short[]", 99993, element=short)), b"{abc}")):
        with pytest.raises(ValueRefused, match="too long"):
            found.assign(value, -1)


SIGNS = "0123456789-+:./eE,{}[]\"\\'aAbBcCdDnNtTpPzZ \n\x00\u00e9\U0001f600"


@pytest.mark.parametrize("name", [*sorted(BUILTIN), "citext", "mood"])
def test_garbage_is_refused(name: str) -> None:
    known = DeclaredType("mood", 9, labels=("sad",)) if name == "mood" else DeclaredType("citext", 8)
    declared = known if name in ("mood", "citext") else builtin(name)
    found = [codec(declared, bytes.lower), codec(array_of(declared), bytes.lower)]

    @batches(150)
    @given(
        st.one_of(
            st.binary(max_size=24), st.text(SIGNS, max_size=16).map(str.encode), st.integers(0, 9).map(lambda n: b"%d" % n * 5000)
        )
    )
    def run(field: bytes) -> None:
        for one in found:
            for read in (one.from_binary, lambda given, one=one: one.from_text(given, Styles.CANONICAL)):
                canonical = outcome(lambda read=read: read(field))  # type: ignore[misc]
                if isinstance(canonical, bytes):
                    assert one.from_binary(one.to_binary(canonical)) == canonical

    run()


def test_an_enum() -> None:
    mood = codec(DeclaredType("mood", 99998, labels=("sad", "ok")))
    assert mood.from_text(b"ok", Styles.CANONICAL) == b"ok"
    with pytest.raises(ValueRefused):
        mood.from_text(b"glad", Styles.CANONICAL)


def test_citext_compares_by_lower() -> None:
    citext = DeclaredType("citext", 99997)
    assert codec(citext, bytes.lower).form(b"AbC") == b"abc"
    assert codec(citext).from_text(b"AbC", Styles.CANONICAL) == b"AbC"
    with pytest.raises(AssertionError, match="upper and lower case"):
        codec(citext).form(b"AbC")


def test_what_cannot_be_protected() -> None:
    with pytest.raises(ConfigError, match="type point is not one that can be protected"):
        codec(DeclaredType("point", 600))
