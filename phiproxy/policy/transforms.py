"""A DBA's index expressions in phiproxy's own spelling (crypto.md section 6); knows no parser library.

Only the column itself so far; what else the table of ``phiproxy.index`` has needs the parser of statements.
"""

from __future__ import annotations

import re

from phiproxy.errors import ConfigError
from phiproxy.index.spelling import IDENTITY

_TOKEN = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([A-Za-z_\u0080-\U0010ffff][\w$]*)|(::|[().]))')
# Casts between these change no byte of a text or varchar value; with a length (varchar(3)) they would.
_NO_OP_TYPES = (("text",), ("varchar",), ("character", "varying"))


def spell(text: str, column: str) -> str:
    """Return the spelling (``@``) of a DBA's expression over ``column``, which is ``value`` in a domain.

    Raises ConfigError for every expression that is not in the table.
    """
    tokens = _tokens(text)
    if tokens is not None and _is_column(tokens, column):
        return IDENTITY
    raise ConfigError(f"index expression {text!r} is not in this version (this version indexes the column itself: {column!r})")


def _tokens(text: str) -> list[tuple[str, str]] | None:
    """Cut into (kind, token): ``name`` folded as PostgreSQL does, ``sign``; None for anything else."""
    tokens: list[tuple[str, str]] = []
    position = 0
    text = text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        quoted, bare, sign = match.groups()
        if sign is not None:
            tokens.append(("sign", sign))
        elif bare is not None:
            # ASCII only: what the server does above it depends on its locale, and no type name needs it
            tokens.append(("name", bare.lower() if bare.isascii() else bare))
        else:
            tokens.append(("quoted", quoted.replace('""', '"')))
        position = match.end()
    return tokens


def _is_column(tokens: list[tuple[str, str]], column: str) -> bool:
    """Say whether the tokens are the column, in parentheses and no-op casts only."""
    while True:
        values = [token for _, token in tokens]
        if len(tokens) == 1:
            return tokens[0][0] != "sign" and values[0] == column
        cast = next((i for i in range(len(tokens) - 1, -1, -1) if tokens[i] == ("sign", "::")), None)
        if cast is not None and _is_no_op_type(tokens[cast + 1 :]):
            tokens = tokens[:cast]
        elif tokens and tokens[0] == ("sign", "(") and tokens[-1] == ("sign", ")"):
            tokens = tokens[1:-1]
        else:
            return False


def _is_no_op_type(tokens: list[tuple[str, str]]) -> bool:
    if [t for _, t in tokens[:2]] == ["pg_catalog", "."]:
        return [t for _, t in tokens[2:]] in (["text"], ["varchar"])
    return all(kind == "name" for kind, _ in tokens) and tuple(t for _, t in tokens) in _NO_OP_TYPES
