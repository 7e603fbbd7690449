"""Texts under ``standard_conforming_strings``: spelled so that they mean the same whether it is on or off.

Where it is off, a backslash in a plain ``'…'`` begins an escape, as in ``E'…'``; nothing else is read otherwise but ``U&'…'``,
which the server then refuses. Everything in this package reads texts as where it is on. Lexical rules: manual 4.1, scan.l.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Edit = tuple[int, int, bytes]
"""Start and end in the text, and what stands there instead."""

# A literal goes on behind white space that holds the end of a line, and comments there, in the way in which it began.
_GOES_ON = rb"(?:[ \t\f\v]|--[^\n\r]*)*+[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*+'"
# One without an end reaches to that of the text: it would be searched for anew from each of its quotes.
_ESCAPED = rb"(?:[^'\\]|\\.|'')*+(?:'|\\?\Z)"
_PLAIN = rb"[^']*+(?:''[^']*+)*+'"


def _lexer(inside: bytes) -> re.Pattern[bytes]:
    """Return what finds the tokens that matter; ``inside``: what stands in a plain literal, up to its quote."""
    whole = b"'" + inside + b"(?:" + _GOES_ON + inside + b")*+"
    other = [
        rb"--[^\n\r]*+",
        rb'"[^"]*+"',
        rb"[eE]'" + _ESCAPED + b"(?:" + _GOES_ON + _ESCAPED + b")*+",
        rb"[uU]&'" + _PLAIN,
        rb"[bBxX]'[^']*+'",
        rb"\$(?P<tag>(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*+)?+)\$.*?\$(?P=tag)\$",
        rb"\$[0-9]++",
    ]
    named = rb"(?P<national>[nN])?(?P<plain>" + whole + rb")"
    words = rb"[A-Za-z_\x80-\xff][\w$\x80-\xff]*+"
    return re.compile(b"|".join([*other, named, rb"(?P<comment>/\*)", words]), re.DOTALL)


_LEXERS = {True: _lexer(_PLAIN), False: _lexer(_ESCAPED)}
_BRACKETS = re.compile(rb"/\*|\*/")


def either_way(text: bytes, *, conforming: bool) -> tuple[bytes, list[Edit]]:
    r"""Return a text that means, on and off, what ``text`` means where the setting is ``conforming``, and what was changed in it.

    ``SELECT 'a\'b'`` (off) → ``SELECT E'a\'b'``; ``SELECT 'a\b'`` (on) → ``SELECT E'a\\b'``. A text without a backslash stays;
    what becomes of one that the server cannot read, such as one with a quote that does not end, means nothing.
    """
    edits = list(_edits(text, conforming=conforming)) if b"\\" in text else []
    parts: list[bytes] = []
    behind = 0
    for start, end, instead in edits:
        parts += (text[behind:start], instead)
        behind = end
    return b"".join((*parts, text[behind:])), edits


def _edits(text: bytes, *, conforming: bool) -> Iterator[Edit]:
    lexer, at = _LEXERS[conforming], 0
    while (found := lexer.search(text, at)) is not None:
        at = found.end()
        if found["comment"] is not None:
            at = _behind_comment(text, at)
        elif found["plain"] is not None and b"\\" in found["plain"]:
            start = found.start()
            national = b"nchar " if found["national"] is not None else b""
            if conforming:
                yield start, at, national + b"E" + found["plain"].replace(b"\\", b"\\\\")
            else:
                yield start, found.start("plain"), national + b"E"


def _behind_comment(text: bytes, at: int) -> int:
    """Return where a comment ends that has just begun; comments hold comments."""
    depth = 1
    while depth:
        found = _BRACKETS.search(text, at)
        if found is None:
            return len(text)
        depth += 1 if found[0] == b"/*" else -1
        at = found.end()
    return at
