r"""Texts of a database in SQL_ASCII: bytes that are no characters come and go, and are shown as they are written in ``E'…'``."""

from __future__ import annotations

from phiproxy.jobs.binary_arrays import ByteaArray
from phiproxy.jobs.bytes_of_text import array_of, bytes_of, is_utf8, shown, text_of

WRONG = b"caf\xe9 \xc3\xa9"


def test_bytes_come_and_go_as_they_are() -> None:
    text = text_of(WRONG)
    assert text is not None
    assert (bytes_of(text), shown(text), is_utf8(text)) == (WRONG, r"caf\xe9 é", False)
    assert (text_of(None), is_utf8("é"), shown("é")) == (None, True, "é")
    assert array_of([text, None]).data == ByteaArray([WRONG, None]).data
