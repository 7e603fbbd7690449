"""Clauses of MERGE that only newer servers know: WHEN NOT MATCHED BY, and RETURNING."""

from collections.abc import Sequence
from typing import Final

from phiproxy.errors import SyntaxRefused
from phiproxy.sql.text.parse import Scan, Statement, char_position, only
from phiproxy.sql.text.token_spans import CLOSE, OPEN

_SINCE: Final = 170000
_BY = ["WHEN", "NOT", "MATCHED", "BY"]


def check_clauses(scan: Scan, statements: Sequence[Statement], server_version: int) -> None:
    """Raise SyntaxRefused for such a clause where the server does not know it, whose words these are.

    MERGE INTO members m USING visits v ON v.mrn = m.mrn WHEN NOT MATCHED BY SOURCE THEN UPDATE SET email = upper(m.email)
    → refused 42601
    """
    if server_version >= _SINCE:
        return
    for statement in statements:
        query = statement.body.get("query") or {statement.kind: statement.body}
        if only(query)[0] == "MergeStmt":
            _check(scan, statement)


def _check(scan: Scan, statement: Statement) -> None:
    tokens = [t for t in scan.tokens if statement.start <= t.start < statement.end]
    names, depth = [t.name for t in tokens], 0
    for i, token in enumerate(tokens):
        depth += {OPEN: 1, CLOSE: -1}.get(token.name, 0)
        if names[max(i - 3, 0) : i + 1] == _BY or (token.name == "RETURNING" and not depth):
            word = scan.text[token.start : token.end].decode("ascii")
            raise SyntaxRefused(f'syntax error at or near "{word}"', position=char_position(scan.text, token.start))
