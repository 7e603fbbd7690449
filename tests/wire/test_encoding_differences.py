"""Where Python's codec and the server differ, the server is followed."""

from __future__ import annotations

import pytest

from phiproxy.errors import InvalidEncoding, UntranslatableCharacter
from phiproxy.wire.encoding_differences import CODECS, shipped, table


@pytest.mark.parametrize(
    ("name", "encoded", "text"),
    [
        ("SJIS", b"\x87\x82 \x95\x5c", "№ 表"),  # a trail byte that is a backslash
        ("EUC_JP", b"\xa1\xc1", "\uff5e"),
        ("BIG5", b"\xa1\x45", "•"),
        ("UHC", b"\xc9\xa1", "\ue000"),
        ("EUC_KR", b"\xa4\xd4", "ㅤ"),
    ],
)
def test_read(name: str, encoded: bytes, text: str) -> None:
    assert shipped(name).to_text(encoded) == text


def test_written_as_the_server_writes_it() -> None:
    assert shipped("SJIS").from_text("№x表") == b"\xfa\x59x\x95\x5c"
    for text in ("\ue000", "ก"):
        with pytest.raises(UntranslatableCharacter):
            shipped("SJIS").from_text(text)


def test_malformed_and_unknown() -> None:
    with pytest.raises(InvalidEncoding):
        shipped("SJIS").to_text(b"\x95")
    with pytest.raises(UntranslatableCharacter):
        shipped("SJIS").to_text(b"\xf0\x40")


def test_the_form_of_the_files() -> None:
    made = table("BIG5", ["# said", "read a145 2022", "read a146 -", "write e000-e001 -", "write 2022 a145"])
    assert made.read == {b"\xa1\x45": "•", b"\xa1\x46": None}
    assert made.write == {"\ue000": None, "\ue001": None, "•": b"\xa1\x45"}
    assert "‧" in made.doubtful


def test_there_is_a_table_for_each() -> None:
    assert all(shipped(name).read and shipped(name).write for name in CODECS)
