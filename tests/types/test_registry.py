"""Which codec a declared type has."""

from __future__ import annotations

import pytest

from phiproxy.errors import ConfigError, ValueRefused
from phiproxy.types.declared import DeclaredType
from phiproxy.types.integers import INT4
from phiproxy.types.registry import codec
from phiproxy.types.styles import Styles

INT = DeclaredType("int4", 23)


def test_base_types_and_domains() -> None:
    assert codec(INT) is INT4
    assert codec(DeclaredType("age", 99999, base=INT)) is INT4


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
