"""Functions over text; that they are PostgreSQL's own is shown by test_postgres.py."""

import pytest

from phiproxy.index.text_functions import btrim, left, length, ltrim, right, rtrim, substring


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (left("äbc".encode(), 2), "äb"),
        (left(b"abc", -2), "a"),
        (left(b"abc", -5), ""),
        (right("abä".encode(), 2), "bä"),
        (right(b"abc", -2), "c"),
        (right(b"abc", 0), ""),
        (right(b"abc", 9), "abc"),
        (substring(b"abcdef", 2, 3), "bcd"),
        (substring(b"abcdef", -1, 3), "a"),
        (substring(b"abcdef", -9, 3), ""),
        (substring(b"abcdef", 5), "ef"),
        (btrim(b" \ta "), "\ta"),
        (btrim(b"xyaxy", b"yx"), "a"),
        (btrim(b"a", b""), "a"),
        (ltrim(b"  a "), "a "),
        (rtrim("aä".encode(), "ä".encode()), "a"),
        (length("äb".encode()), "2"),
    ],
)
def test_functions(found: bytes, answer: str) -> None:
    assert found == answer.encode()
