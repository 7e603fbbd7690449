"""What only newer servers read: numbers that are no decimal ones or have underscores, and clauses of MERGE."""

import re
from collections.abc import Sequence
from typing import Final

from phiproxy.errors import SyntaxRefused
from phiproxy.long_values import SMALL_PIECE
from phiproxy.sql.text.long_constants import without_long_constants
from phiproxy.sql.text.parse import Scan, Statement, char_position, only
from phiproxy.sql.text.token_spans import CLOSE, OPEN

_NUMBERS_SINCE: Final = 160000
_CLAUSES_SINCE: Final = 170000
_NEWER = re.compile(rb"0[xXoObB]|[0-9]_")
_NUMBERS = frozenset({"ICONST", "FCONST"})
_BY = ["WHEN", "NOT", "MATCHED", "BY"]


def check_newer(scan: Scan, statements: Sequence[Statement], server_version: int) -> None:
    """Raise SyntaxRefused for what the server does not know, whose words these are.

    Of numbers (``0x1F``, ``1_000``) version 14 takes the rest for the name of a column: they are refused there too.

    MERGE INTO members m USING visits v ON v.mrn = m.mrn WHEN NOT MATCHED BY SOURCE THEN UPDATE SET email = upper(m.email)
    → refused 42601
    """
    if server_version < _NUMBERS_SINCE and _may_have_number(scan.text):
        for token in scan.tokens:
            if token.name in _NUMBERS and _NEWER.search(scan.text, token.start, token.end) is not None:
                raise SyntaxRefused("trailing junk after numeric literal", position=char_position(scan.text, token.start))
    if server_version < _CLAUSES_SINCE:
        for statement in statements:
            query = statement.body.get("query") or {statement.kind: statement.body}
            if only(query)[0] == "MergeStmt":
                _check_merge(scan, statement)


def _may_have_number(text: bytes) -> bool:
    """Tell whether a text may have such a number outside of long constants; in pieces, so that other threads have their turn."""
    text = without_long_constants(text)
    return any(_NEWER.search(text, at, at + SMALL_PIECE + 1) is not None for at in range(0, len(text), SMALL_PIECE))


def _check_merge(scan: Scan, statement: Statement) -> None:
    """Refuse WHEN NOT MATCHED BY, and RETURNING."""
    tokens = [t for t in scan.tokens if statement.start <= t.start < statement.end]
    names, depth = [t.name for t in tokens], 0
    for i, token in enumerate(tokens):
        depth += {OPEN: 1, CLOSE: -1}.get(token.name, 0)
        if names[max(i - 3, 0) : i + 1] == _BY or (token.name == "RETURNING" and not depth):
            word = scan.text[token.start : token.end].decode("ascii")
            raise SyntaxRefused(f'syntax error at or near "{word}"', position=char_position(scan.text, token.start))
