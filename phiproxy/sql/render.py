"""The client's text with the edits applied: nothing else in it changes, so hints, formatting and positions survive.

``verify`` is the proof: the rendered text must parse to the edited tree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from pglast.parser import ParseError, parse_sql_json

from phiproxy.errors import StatementRefused
from phiproxy.sql.meaning import Edit, Occurrence
from phiproxy.sql.parse import decode_text, without_locations

_PLAINER = "This is a fault of phiproxy. Report the statement without its values, and write it in a plainer form."
_WORD = re.compile(rb"[\w$\x80-\xff]{2}")


def _joined(before: bytes, after: bytes) -> bool:
    """Tell whether the lexer would read these two bytes as parts of one token."""
    return _WORD.fullmatch(before + after) is not None


def _place(change: Edit | Occurrence) -> tuple[int, int, bool]:
    """Order what stands at one place: what an occurrence brings with it is part of what the client has before it."""
    return change.start, change.end, isinstance(change, Edit)


class Rendered:
    """Pieces of constant text with an occurrence between each two: piece, occurrence, piece, …, piece.

    ``map`` pairs byte offsets (in the constant text before any occurrence is filled, in the client's text) at each edit.
    """

    __slots__ = ("client", "occurrences", "pieces", "spans")

    def __init__(self, text: bytes, edits: Sequence[Edit], occurrences: Sequence[Occurrence]) -> None:
        self.client = text
        changes: list[Edit | Occurrence] = sorted([*edits, *occurrences], key=_place)
        self.pieces: list[bytes] = []
        self.occurrences: list[Occurrence] = []
        self.spans: list[tuple[int, int, int]] = []
        piece: list[bytes] = []
        pos = 0
        for change in changes:
            if change.start < pos:
                raise StatementRefused("the rewrite of the statement overlaps itself", hint=_PLAINER)
            piece.append(text[pos : change.start])
            pos = change.end
            new = change.text if isinstance(change, Edit) else change.lead or b"$"
            if _joined(text[change.start - 1 : change.start] if change.start else b"", new[:1]):
                # ``FROM'x'`` must not become ``FROM$1``, which is one name.
                piece.append(b" ")
                self.spans.append((change.start, change.start, 1))
            if isinstance(change, Edit):
                piece.append(change.text)
                self.spans.append((change.start, change.end, len(change.text)))
            else:
                around = len(change.lead) + len(change.trail)
                if around:
                    self.spans.append((change.start, change.start, around))
                self.pieces.append(b"".join([*piece, change.lead]))
                self.occurrences.append(change)
                piece = [change.trail]
            end = new[-1:] if isinstance(change, Edit) else change.trail or b"$"
            if _joined(end, text[pos : pos + 1]):
                piece.append(b" ")
                self.spans.append((pos, pos, 1))
        piece.append(text[pos:])
        self.pieces.append(b"".join(piece))

    def fill(self, replace: Callable[[int, Occurrence], bytes]) -> bytes:
        """Return the text with occurrence i replaced by ``replace(i, occurrence)``."""
        if not self.occurrences:
            return self.pieces[0]
        parts = [self.pieces[0]]
        for i, occurrence in enumerate(self.occurrences):
            parts.append(replace(i, occurrence))
            parts.append(self.pieces[i + 1])
        return b"".join(parts)


def position_map(edits: Sequence[tuple[int, int, int]]) -> Callable[[int], int]:
    """Return a function from a byte offset in the server's text to one in the client's.

    ``edits`` are (start, end, new length) over the client's text, in order. An offset inside a replacement maps to its start.
    """
    ordered = sorted(edits)

    def to_client(offset: int) -> int:
        shift = 0
        for start, end, length in ordered:
            server_start = start + shift
            if offset < server_start:
                break
            if offset < server_start + length:
                return start
            shift += length - (end - start)
        return offset - shift

    return to_client


def verify(rendered: bytes, tree: Sequence[dict[str, Any]]) -> None:
    """Check that a rendered text parses to the edited statements (locations apart); StatementRefused when it does not.

    This is the last guard against a splice that went wrong: what was analysed is what runs.
    """
    try:
        parsed = [raw["stmt"] for raw in json.loads(parse_sql_json(decode_text(rendered))).get("stmts", ())]
    except ParseError:
        raise StatementRefused("the rewrite of the statement does not parse", hint=_PLAINER) from None
    found, meant = without_locations(parsed), without_locations(list(tree))
    if found != meant and found != _flattened(meant):
        raise StatementRefused("the rewrite of the statement is not what was meant", hint=_PLAINER)


def _flattened(tree: Any) -> Any:
    """Return a tree in which what stands first in an OR is no OR itself: to the grammar they are one, brackets or not."""
    if isinstance(tree, list):
        return [_flattened(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    made = {key: _flattened(value) for key, value in tree.items()}
    outer = made.get("BoolExpr", {})
    if outer.get("boolop") == "OR_EXPR" and (first := outer["args"][0].get("BoolExpr", {})).get("boolop") == "OR_EXPR":
        made["BoolExpr"] = {**outer, "args": [*first["args"], *outer["args"][1:]]}
    return made
