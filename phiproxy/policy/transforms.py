"""The closed table of index expressions, in phiproxy's own spelling (crypto.md section 6); knows no parser library.

The spelling is stored in the registry when a slot is made and is read from there ever after, so a row of the table
may be added but never changed without a new normaliser version. This version knows one expression: the column
itself, ``@``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from phiproxy.errors import ConfigError

IDENTITY = "@"

_TOKEN = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([A-Za-z_\u0080-\U0010ffff][\w$]*)|(::|[().]))')
# Casts between these change no byte of a text or varchar value; with a length (varchar(3)) they would.
_NO_OP_TYPES = (("text",), ("varchar",), ("character", "varying"))


@dataclass(frozen=True, slots=True)
class Transform:
    """One index expression: canonical bytes in, the bytes whose equality form is tagged out.

    ``total`` means never None for a value; a partial expression's NULL is a slot of 16 zero bytes.
    """

    expression: str
    normaliser: int
    total: bool
    apply: Callable[[bytes], bytes | None]


def _same(value: bytes) -> bytes:
    return value


_TABLE = {IDENTITY: Transform(IDENTITY, normaliser=1, total=True, apply=_same)}


def transform(expression: str) -> Transform:
    """Return the transform of an expression in phiproxy's own spelling; ConfigError when this version has none."""
    found = _TABLE.get(expression)
    if found is None:
        raise ConfigError(f"index expression {expression} is not in this version")
    return found


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
