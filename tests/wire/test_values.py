"""bytea in both of its text forms, and what text and varchar(n) may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import InvalidEncoding, SealError, StringTooLong
from phiproxy.wire.values import assign_varchar, bytea_from_text, check_text


def escaped(value: bytes) -> bytes:
    """Return bytea's escape output (manual 8.4.2)."""
    return b"".join(b"\\\\" if c == 92 else bytes((c,)) if 32 <= c < 127 else b"\\%03o" % c for c in value)


@given(st.binary(max_size=200))
def test_both_output_forms_are_read(value: bytes) -> None:
    assert bytea_from_text(b"\\x" + value.hex().encode()) == value
    assert bytea_from_text(escaped(value)) == value


@pytest.mark.parametrize("field", [b"\\x0", b"\\xzz", "é".encode()])
def test_what_is_no_bytea_does_not_open(field: bytes) -> None:
    with pytest.raises(SealError):
        bytea_from_text(field)


@given(st.text())
def test_text_is_valid_unless_it_holds_a_zero(text: str) -> None:
    value = text.encode("utf-8", "surrogatepass")
    valid = "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
    if valid:
        assert check_text(value) == value
    else:
        with pytest.raises(InvalidEncoding) as caught:
            check_text(value)
        assert caught.value.sqlstate == "22021"


def test_varchar_counts_characters_and_cuts_blanks_only() -> None:
    assert assign_varchar("ééé".encode(), 3) == "ééé".encode()
    assert assign_varchar(b"abc   ", 3) == b"abc"
    assert assign_varchar(b"ab    ", 3) == b"ab "
    assert assign_varchar("\U0001f600\U0001f600".encode(), 2) == "\U0001f600\U0001f600".encode()
    with pytest.raises(StringTooLong) as caught:
        assign_varchar(b"abcd", 3)
    assert caught.value.sqlstate == "22001"
    assert "abcd" not in caught.value.public_text
