"""The client's text with the edits and nothing else changed: hints, formatting and positions survive. ``verify`` proves it."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from pglast.parser import ParseError

from phiproxy.errors import StatementRefused
from phiproxy.sql.result import Edit, Occurrence
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import LONG_TREE, let_go, read_tree

_PLAINER = "This is a fault of phiproxy. Report the statement without its values, and write it in a plainer form."
_WORD = frozenset(byte for byte in range(256) if byte >= 0x80 or re.match(rb"[\w$]", bytes([byte])))


def _joined(before: bytes, after: bytes) -> bool:
    """Tell whether the lexer would read these two bytes as parts of one token."""
    return bool(before and after) and before[0] in _WORD and after[0] in _WORD


class Rendered:
    """Pieces of constant text with an occurrence between each two: piece, occurrence, piece, …, piece.

    ``map`` pairs byte offsets (in the constant text before any occurrence is filled, in the client's text) at each edit.
    """

    __slots__ = ("client", "occurrences", "pieces", "spans")

    def __init__(self, text: bytes, edits: Sequence[Edit], occurrences: Sequence[Occurrence]) -> None:
        self.client = text
        # What an occurrence brings with it is part of what the client has before it. Numbers are compared, and end, faster than
        # tuples: meanwhile no other thread has its turn.
        changes: list[Edit | Occurrence] = sorted(
            [*occurrences, *edits], key=lambda change: 2 * change.start + (change.end > change.start)
        )
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


def verify(rendered: bytes, trees: Sequence[EditedTree]) -> None:
    """Check that a rendered text parses to the edited trees (locations apart); StatementRefused when it does not.

    This is the last guard against a splice that went wrong: what was analysed is what runs.
    """
    try:
        parsed = [raw["stmt"] for raw in read_tree(rendered).get("stmts", ())]
    except ParseError:
        raise StatementRefused("the rewrite of the statement does not parse", hint=_PLAINER) from None
    if len(parsed) != len(trees) or not all(map(_is_meant, trees, parsed)):
        raise StatementRefused("the rewrite of the statement is not what was meant", hint=_PLAINER)
    if len(rendered) > LONG_TREE:
        let_go(parsed)


def _is_meant(tree: EditedTree, parsed: dict[str, Any]) -> bool:
    return tree.same(parsed) or EditedTree(_flattened(tree.copy(tree.root))).same(parsed)


def _flattened(tree: Any) -> Any:
    """Return a tree in which what stands first in an OR or AND is none itself: to the grammar they are one, brackets or not."""
    if isinstance(tree, list):
        return [_flattened(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    flattened = {key: _flattened(value) for key, value in tree.items()}
    outer = flattened.get("BoolExpr", {})
    joined = outer.get("boolop") in ("OR_EXPR", "AND_EXPR")
    if joined and (first := outer["args"][0].get("BoolExpr", {})).get("boolop") == outer["boolop"]:
        flattened["BoolExpr"] = {**outer, "args": [*first["args"], *outer["args"][1:]]}
    return flattened
