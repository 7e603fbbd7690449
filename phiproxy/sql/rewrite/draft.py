"""What a rewrite works on, and what it makes: edits of the client's text, and the same of its tree.

``SELECT ssn FROM p`` with ``Edit(7, 10, b"mrn")`` is ``SELECT mrn FROM p``. The proof (``apply_edits.verify``) is that the text,
edited, parses to the tree, edited.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

from phiproxy.sql.result import Edit, Occurrence
from phiproxy.sql.rewrite.references_and_markers import node_text
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import Node, Scan, between, location, only
from phiproxy.sql.text.token_spans import Spans

# A name, and a parameter or literal, whose end is plain to see: behind a name nothing stands that could be part of the reference,
# and behind a literal none that continues it. For any other the text is scanned, which costs more than all that is done with it.
_PLAIN_REFERENCE = re.compile(rb"[A-Za-z_][A-Za-z0-9_$]*+(?:\.[A-Za-z_][A-Za-z0-9_$]*+)*+(?=[ \t\n\r]*+(?:[=,;<>]|[A-Za-z_]|\Z))")
_PLAIN_PARAMETER = re.compile(rb"\$[0-9]++(?![\w$\x80-\xff])")
_GOES_ON = re.compile(rb"\s*+['/-]")


class Insert(NamedTuple):
    """Put ``text`` at a byte offset. Of several at one offset, closing ones come first, and an outer one is outside."""

    offset: int
    text: bytes
    closing: bool = False


TextEdit = Edit | Insert | Occurrence


class Draft:
    """One statement on its way to what the server sees.

    ``tree`` is the edited tree, ``text`` the client's whole text, of which ``scan`` was given, with the comments blanked that the
    server may not see: pieces of it are copied. ``statement`` is the span of the statement with its comments in the text.
    """

    def __init__(self, scan: Scan, statement: tuple[int, int], tree: EditedTree, blanks: Sequence[Edit] = ()) -> None:
        self.text = scan.text
        if blanks:  # which are as long as the comments were
            blanked = bytearray(scan.text)
            for edit in blanks:
                blanked[edit.start : edit.end] = edit.text
            self.text = bytes(blanked)
        self.tree = tree
        self._scan = scan
        self._statement = statement
        self._occurrences = 0

    @cached_property
    def spans(self) -> Spans:
        """The tokens of the statement."""
        return Spans(between(self._scan.tokens, *self._statement))

    def reference(self, node: Node) -> tuple[int, int]:
        """Return the span of a ColumnRef, as in ``t.c`` and ``(t).c``."""
        offset = location(only(node)[1])
        plain = _PLAIN_REFERENCE.match(self.text, offset)
        return plain.span() if plain is not None else self.spans.column_ref(offset)

    def value_end(self, offset: int, *, constant: bool) -> int:
        """Return the offset at which a parameter or literal ends, or (``constant``) a number or boolean."""
        text = self.text
        if text.startswith(b"'", offset):  # by searches, which take a hundredth of a pattern's time where it is long
            end = text.find(b"'", offset + 1) + 1
            if end and text.find(b"\\", offset, end) < 0 and _GOES_ON.match(text, end) is None:
                return end
        else:
            plain = _PLAIN_PARAMETER.match(text, offset)
            if plain is not None:
                return plain.end()
        return self.spans.value_end(offset, constant=constant)

    def number(self) -> int:
        """Return the place of the next occurrence in the order in which PostgreSQL looks at them."""
        self._occurrences += 1
        return self._occurrences - 1

    def named(self, column: Node) -> str:
        """Return the text of a reference to a column, of the client's or of one that this package made."""
        body = only(column)[1]
        if "location" not in body:
            return node_text(column)
        start, end = self.reference(column)
        return self.text[start:end].decode()

    def spelled(self, reference: Node) -> str:
        """Return the text of a reference of the client's as the server will see it: its own, or the one that took its place."""
        current = self.tree.now(reference)
        return self.named(reference) if current is reference else node_text(current)


def merged(inserts: Iterable[Insert]) -> dict[int, bytes]:
    """Return what is inserted at each offset, inner ones first: ``Insert(3, b"i(")``, ``Insert(3, b"o(")`` are ``{3: b"o(i("}``."""
    closing: dict[int, bytes] = {}
    opening: dict[int, bytes] = {}
    for insert in inserts:
        if insert.closing:
            closing[insert.offset] = closing.get(insert.offset, b"") + insert.text
        else:
            opening[insert.offset] = insert.text + opening.get(insert.offset, b"")
    return {offset: closing.get(offset, b"") + opening.get(offset, b"") for offset in closing.keys() | opening.keys()}
