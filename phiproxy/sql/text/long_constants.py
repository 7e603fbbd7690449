"""Texts without their long constants: what PostgreSQL's lexer and parser are given, since these look at each character.

While they do, and while their tree is read as JSON, no other thread has its turn. A constant is a token whatever it says.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

# Of a shorter text all is looked at.
LONG_TEXT, LONG_CONSTANT = 256 * 1024, 4 * 1024
# Outside of constants: what may begin something else in which a quote stands …
_OTHER_QUOTES = re.compile(rb"--|/\*|\$(?![0-9])")
# … and what may belong to the constant behind it: E'…' has quotes behind backslashes, U&'…', X'…' and N'…' mean something else.
_PREFIX = re.compile(rb"[\w$&\x80-\xff]\Z")


class Shortened(NamedTuple):
    """A text in which each long constant is one of ``constants``, which say where it stood, without its quotes.

    From ``behind[i]`` on, ``left_out[i]`` bytes are left out.
    """

    text: bytes
    constants: Mapping[str, tuple[int, int]]
    behind: Sequence[int]
    left_out: Sequence[int]

    def offset(self, at: int) -> int:
        """Return the offset in the whole text of one that is not inside of a constant."""
        return at + self.left_out[bisect_right(self.behind, at) - 1]


def shortened(text: bytes) -> Shortened | None:
    """Return a text without its long constants.

    None where there are none, and where not every quote is surely one around a constant or inside of it.

    ``INSERT INTO t VALUES ('…5 MB…', 'b')`` → ``INSERT INTO t VALUES ('␁0', 'b')``
    """
    if len(text) <= LONG_TEXT or not _may_have_long(text):
        return None
    pieces: list[bytes] = []
    constants: dict[str, tuple[int, int]] = {}
    behind, left_out = [0], [0]
    last = size = 0
    for begin, end in _constants(text):
        if begin < 0 or not _is_plain(text[last : begin - 1], first=not last):
            return None
        if end - begin > LONG_CONSTANT:
            mark = f"\x01{len(constants)}"
            constants[mark] = begin, end
            kept = behind[-1] + left_out[-1]
            pieces += (text[kept:begin], mark.encode())
            size += begin - kept + len(mark)
            behind.append(size)
            left_out.append(end - size)
        last = end + 1
    if not constants or _OTHER_QUOTES.search(text, last) or text.count(b'"', last) % 2:
        return None
    pieces.append(text[behind[-1] + left_out[-1] :])
    shorter = b"".join(pieces)
    return Shortened(shorter, constants, behind, left_out) if shorter.count(b"\x01") == len(constants) else None


def without_long_constants(text: bytes) -> bytes:
    """Return what is ``shortened`` of a text, or all of it."""
    shorter = shortened(text)
    return text if shorter is None else shorter.text


def _may_have_long(text: bytes) -> bool:
    """Tell whether something in a text that is long has no quote in it; a constant with a quote here and there is left as it is."""
    step = LONG_CONSTANT // 2
    return any(text.find(b"'", at, at + step) < 0 for at in range(0, len(text) - step, step))


def _constants(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield where constants begin and end, without their quotes; (-1, -1) for one that does not end."""
    begin = text.find(b"'") + 1  # ten times as fast as a pattern
    while begin:
        end = text.find(b"'", begin)
        while end >= 0 and text.startswith(b"'", end + 1):
            end = text.find(b"'", end + 2)
        if end < 0:
            yield -1, -1
            return
        yield begin, end
        begin = text.find(b"'", end + 1) + 1


def _is_plain(between: bytes, *, first: bool) -> bool:
    """Tell whether what stands before a constant says nothing of it; where it is blank, two constants may be one."""
    if _OTHER_QUOTES.search(between) or _PREFIX.search(between) or between.count(b'"') % 2:
        return False
    return first or not between.isspace()
