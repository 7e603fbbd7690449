"""bytea's two text forms, the validity of text, and varchar's assignment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy import long_values
from phiproxy.errors import InvalidEncoding, SealError, StringTooLong
from phiproxy.wire import bytea_and_text
from phiproxy.wire.bytea_and_text import assign_varchar, bytea_from_text, check_text, cut_text


def escaped(value: bytes) -> bytes:
    """Return the escape form as byteaout makes it (manual 8.4.2)."""
    return b"".join(b"\\\\" if c == 0x5C else bytes((c,)) if 32 <= c < 127 else b"\\%03o" % c for c in value)


@given(st.binary())
def test_both_text_forms_of_bytea_are_read(value: bytes) -> None:
    assert bytea_from_text(b"\\x" + value.hex().encode()) == value
    assert bytea_from_text(b"\\x" + value.hex().upper().encode()) == value
    assert bytea_from_text(escaped(value)) == value


@pytest.mark.parametrize("field", [b"\\xf", b"\\xzz", b"\\x 00", b"\\x\xff\xff", "\u00e4".encode(), b"a\x80"])
def test_what_is_in_neither_form_does_not_open(field: bytes) -> None:
    with pytest.raises(SealError) as caught:
        bytea_from_text(field)
    assert field.decode("latin-1") not in str(caught.value)


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_text_passes(value: str) -> None:
    assert check_text(value.encode()) == value.encode()


@pytest.mark.parametrize("value", [b"\0", b"abc\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"ok\xe4"])
def test_what_is_no_text_in_utf8_is_22021(value: bytes) -> None:
    with pytest.raises(InvalidEncoding) as caught:
        check_text(value)
    assert caught.value.sqlstate == "22021"


@pytest.mark.parametrize(
    ("value", "limit", "stored"),
    [
        ("abc", 3, "abc"),
        ("abc  ", 3, "abc"),
        ("abc  ", 4, "abc "),
        ("\u00e4\u00e4\u00e4", 3, "\u00e4\u00e4\u00e4"),
        ("\u00e4\u00e4  ", 2, "\u00e4\u00e4"),
        ("", 1, ""),
        ("   ", 1, " "),
    ],
)
def test_varchar_counts_characters_and_cuts_blanks(value: str, limit: int, stored: str) -> None:
    assert assign_varchar(value.encode(), limit) == stored.encode()


@pytest.mark.parametrize(("value", "limit"), [("abcd", 3), ("abc\t", 3), ("\u00e4\u00e4x", 2), ("abc\u00a0", 3)])
def test_varchar_refuses_anything_else_in_excess(value: str, limit: int) -> None:
    with pytest.raises(StringTooLong, match=rf"character varying\({limit}\)") as caught:
        assign_varchar(value.encode(), limit)
    assert value not in caught.value.public_text


def test_a_cast_cuts_characters_not_bytes() -> None:
    assert cut_text(b"abcdef", 3) == b"abc"
    assert cut_text("é€x".encode(), 2) == "é€".encode()
    assert cut_text(b"ab", 3) == b"ab"
    with pytest.raises(InvalidEncoding):
        cut_text(b"\xff", 1)


@given(st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)), st.integers(1, 9))
def test_a_long_text_is_checked_in_pieces_as_a_short_one_is(value: bytes, piece: int) -> None:
    def accepted() -> bool:
        try:
            return check_text(value) is value
        except InvalidEncoding:
            return False

    whole = accepted()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bytea_and_text, "LONG_VALUE", 0)
        patch.setattr(long_values, "PIECE", piece)
        assert accepted() is whole
