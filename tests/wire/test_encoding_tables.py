"""Tables that are kept whole: the form of the files, and characters that are one way only, or two code points."""

from __future__ import annotations

import pytest

from phiproxy.errors import InvalidEncoding, UntranslatableCharacter
from phiproxy.wire.encoding_tables import UNITS, mapping, shipped


@pytest.mark.parametrize(
    ("name", "encoded", "text"),
    [
        ("EUC_TW", b"\xc4\xe3\x8e\xa2\xa1\xa1 x", "中乂 x"),
        ("EUC_JIS_2004", b"\xa4\xf7x", "か\u309ax"),
        ("SHIFT_JIS_2004", b"\x82\xf5\x95\x5c\\\\", "か\u309a表\\\\"),  # a trail byte that is a backslash
        ("JOHAB", b"\xd9\xce\xf1\xae", "☏字"),
    ],
)
def test_read_and_written(name: str, encoded: bytes, text: str) -> None:
    found = shipped(name)
    assert found.to_text(encoded) == text
    assert found.from_text(text) == encoded


def test_the_form_of_the_files() -> None:
    lines = ["# said", "a4f7 304b+309a", "a4ab 304b", "8ea1 ff71", "a5a2 ff71", "< a5 5c"]
    made = mapping("EUC_JIS_2004", lines)
    assert made.read == {b"\xa4\xf7": "か\u309a", b"\xa4\xab": "か", b"\x8e\xa1": "ｱ", b"\xa5\xa2": "ｱ"}
    assert made.write == {"か\u309a": b"\xa4\xf7", "か": b"\xa4\xab", "ｱ": b"\x8e\xa1", "¥": b"\\"}
    assert made.from_text("かか\u309ax¥ｱ") == b"\xa4\xab\xa4\xf7x\\\x8e\xa1"
    assert made.as_far_as_known(b"a\xa4\xab\xa4\xa4\xff") == "aか\ufffd\ufffd"
    assert made.as_far_as_sayable("aか\u309a\u309a") == b"a\xa4\xf7?"


def test_some_of_johab_is_only_written() -> None:
    found = shipped("JOHAB")
    assert found.from_text("가") == b"\x88a"
    with pytest.raises(InvalidEncoding):
        found.to_text(b"\x88a")


@pytest.mark.parametrize("name", UNITS)
def test_malformed_and_unknown(name: str) -> None:
    found = shipped(name)
    for encoded in (b"\xff", b"\x8e", b"a\x8f\x20"):
        with pytest.raises(InvalidEncoding):
            found.to_text(encoded)
    with pytest.raises(UntranslatableCharacter):
        found.from_text("a\u0e01")


@pytest.mark.parametrize("name", UNITS)
def test_what_is_read_can_be_written_so_that_it_is_read_again(name: str) -> None:
    """A text that the client sends may be rewritten; the server must understand it."""
    found = shipped(name)
    assert len(found.read) > 8000
    assert all(found.read[found.write[character]] == character for character in found.read.values())
