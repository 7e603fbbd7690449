"""Texts that mean the same whether ``standard_conforming_strings`` is on or off.

Where it is off, a backslash in a plain ``'…'`` begins an escape, as in ``E'…'``, and the server rejects ``U&'…'``; nothing else
differs. All other modules read texts as if it were on. Lexical rules: manual 4.1, scan.l.
"""

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
    """Return the pattern of the tokens that matter; ``inside`` is the pattern of what stands in a plain literal."""
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
    r"""Return a text that always means what ``text`` means where the setting is ``conforming``, and the edits.

    ``SELECT 'a\'b'`` (off) → ``SELECT E'a\'b'``; ``SELECT 'a\b'`` (on) → ``SELECT E'a\\b'``. A text without a backslash stays. What
    becomes of a text that the server rejects, such as one with an open quote, has no meaning.
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
    while (token := lexer.search(text, at)) is not None:
        at = token.end()
        if token["comment"] is not None:
            at = _behind_comment(text, at)
        elif token["plain"] is not None and b"\\" in token["plain"]:
            start = token.start()
            national = b"nchar " if token["national"] is not None else b""
            if conforming:
                yield start, at, national + b"E" + token["plain"].replace(b"\\", b"\\\\")
            else:
                yield start, token.start("plain"), national + b"E"


def _behind_comment(text: bytes, at: int) -> int:
    """Return the offset behind a comment; comments may be nested."""
    depth = 1
    while depth:
        bound = _BRACKETS.search(text, at)
        if bound is None:
            return len(text)
        depth += 1 if bound[0] == b"/*" else -1
        at = bound.end()
    return at
