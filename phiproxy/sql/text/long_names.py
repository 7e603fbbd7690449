"""Names that are longer than PostgreSQL keeps them: it says so of each, when it reads a text."""

from __future__ import annotations

import re

from phiproxy.sql.text.parse import tokens

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
    written = (text[token.start : token.end] for token in tokens(text) if token.name in _NAMES)
    return [name for name in written if len(name) > _LONGEST]
