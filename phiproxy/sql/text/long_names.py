"""Names that are longer than PostgreSQL keeps them: it says so of each, when it reads a text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from phiproxy.sql.text.parse import Token, tokens

_NAMES = frozenset({"IDENT", "UIDENT"})
_LONGEST = 63
# What any of them holds; the lexer tells what it is.
_PERHAPS = re.compile(rb'[\w$\x80-\xff]{64}|"[^"]{64}|"(?:[^"]|""){64}')


def long_names(text: bytes) -> list[bytes]:
    """Return the names of more than 63 bytes in a text, each as often as it stands there, and as it is written.

    They are read of what has been parsed already.
    """
    if _PERHAPS.search(text) is None:
        return []
    listed = tokens(text)
    long = (at for at, token in enumerate(listed) if token.name in _NAMES and token.end - token.start > _LONGEST)
    return [_written(text, listed[at : at + 3]) for at in long]


def _written(text: bytes, listed: Sequence[Token]) -> bytes:
    """Return the name with which tokens begin, with its escape character: ``U&"d!0061ta" UESCAPE '!'``."""
    name, *escape = (text[token.start : token.end] for token in listed)
    return b" ".join((name, *escape)) if [token.name for token in listed[1:]] == ["UESCAPE", "SCONST"] else name
