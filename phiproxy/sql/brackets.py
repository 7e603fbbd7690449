"""Where clauses, operands and list items begin and end in a text: what the trees do not say, found among the tokens.

Nothing here is trusted: what is spliced at these places is parsed again and compared with the edited tree (``render.verify``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from phiproxy.errors import StatementRefused
from phiproxy.sql.parse import Node, Token, messages

OPEN, CLOSE, COMMA, DOT, SEMICOLON = "ASCII_40", "ASCII_41", "ASCII_44", "ASCII_46", "ASCII_59"
_ZONED = frozenset({"WITH", "WITH_LA", "WITHOUT", "WITHOUT_LA"})
SET_OPERATORS = frozenset({"UNION", "INTERSECT", "EXCEPT"})
# What can follow the body of a SELECT: these words are reserved, so elsewhere they stand behind AS or a dot only.
_AFTER_BODY = SET_OPERATORS | {"ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "RETURNING", "WITH", SEMICOLON}
_AFTER_FROM_ITEM = frozenset({"NATURAL", "CROSS", "JOIN", "INNER_P", "LEFT", "RIGHT", "FULL", "ON", "USING", "WHEN"})
_AFTER_ITEM = _AFTER_BODY | {"FROM", "WHERE", "GROUP_P", "HAVING", "WINDOW", "INTO", COMMA}


def _lost() -> StatementRefused:
    return StatementRefused("a part of the statement could not be located in its text", hint="Write it in a plainer form.")


def dotted(tokens: Sequence[Token], first: int) -> tuple[int, int]:
    """Return the span of a dotted name whose first part is this token; it may stand in brackets of its own, before a dot."""
    last = first
    while last + 2 < len(tokens) and tokens[last + 1].name == DOT:
        last += 2
    start, end = first, last
    while start > 0 and end + 1 < len(tokens) and tokens[start - 1].name == OPEN and tokens[end + 1].name == CLOSE:
        start, end = start - 1, end + 1
    if end > last and end + 2 < len(tokens) and tokens[end + 1].name == DOT:
        return tokens[start].start, tokens[end + 2].end
    return tokens[first].start, tokens[last].end


class Brackets:
    """The tokens of one text with their nesting. Places are token indexes; StatementRefused for what is not found."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self._index = {t.start: i for i, t in enumerate(tokens)}

    @cached_property
    def _match(self) -> dict[int, int]:
        """Each bracket's partner, in both directions."""
        found: dict[int, int] = {}
        waiting: list[int] = []
        for i, token in enumerate(self.tokens):
            if token.name in (OPEN, "ASCII_91"):
                waiting.append(i)
            elif token.name in (CLOSE, "ASCII_93") and waiting:
                found[waiting[-1]] = i
                found[i] = waiting.pop()
        return found

    def at(self, offset: int) -> int:
        """Return the token that starts at a byte offset."""
        index = self._index.get(offset)
        if index is None:
            raise _lost()
        return index

    def name(self, i: int) -> str:
        """Return a token's name; empty beyond the ends, and for a reserved word that is a label here."""
        if not 0 <= i < len(self.tokens):
            return ""
        name = self.tokens[i].name
        return "" if name.isalpha() and i and self.tokens[i - 1].name in ("AS", DOT) and not self._begins_query(i) else name

    def _begins_query(self, i: int) -> bool:
        """Tell whether a word behind AS is no label: that of CREATE VIEW … AS SELECT, unlike that of ``1 AS select, 2``."""
        name, behind = self.tokens[i].name, self.tokens[i + 1 : i + 2]
        if name == "SELECT" and behind and self.tokens[i - 1].name == "AS":
            return behind[0].name not in _AFTER_ITEM | {CLOSE}
        return name == "WITH"

    def partner(self, i: int) -> int:
        """Return the bracket that closes or opens this one."""
        if i not in self._match:
            raise _lost()
        return self._match[i]

    def next(self, i: int, name: str) -> int:
        """Return the first token of this name at or behind ``i``."""
        while i < len(self.tokens):
            if self.name(i) == name:
                return i
            i += 1
        raise _lost()

    def dotted(self, offset: int) -> tuple[int, int]:
        """Return the span of a dotted name whose first part starts at ``offset``, as in ``t.c`` and ``(t).c``."""
        return dotted(self.tokens, self.at(offset))

    def expression(self, node: Node) -> tuple[int, int]:
        """Return the span of an expression of constants, parameters, casts, operators and calls."""
        places = [self.at(m["location"]) for m in messages(node) if m.get("location", -1) >= 0]
        if not places:
            raise _lost()
        first, last = min(places), self._word_end(max(places))
        i = first
        while i <= last:
            if self.name(i) in (OPEN, CLOSE, "ASCII_91", "ASCII_93"):
                partner = self.partner(i)
                i, first, last = (partner, partner, last) if partner < first else (i, first, max(last, partner))
            i += 1
        return self.tokens[first].start, self.tokens[self._word_end(last)].end

    def _word_end(self, last: int) -> int:
        """Return the last token of a type's name, a number or a string that has one at ``last``."""
        while self.name(last) == "ASCII_45":  # its sign
            last += 1
        while True:
            follows = self.name(last + 1)
            if follows in ("VARYING", "PRECISION"):
                last += 1
            elif follows in (DOT, "UESCAPE"):
                last += 2
            elif follows == "ASCII_91":
                last = self.partner(last + 1)
            elif follows in _ZONED and self.name(last + 2) == "TIME":
                last += 3
            else:
                return last

    def select(self, offset: int) -> int:
        """Return the SELECT or VALUES whose first item or row begins at ``offset``, or inside of brackets there."""
        i = self.at(offset) - 1
        while i >= 0:
            name = self.name(i)
            if name in ("SELECT", "VALUES"):
                return i
            i = self.partner(i) - 1 if name == CLOSE else i - 1
        raise _lost()

    def item_end(self, offset: int) -> int:
        """Return the last token of the list item that begins at ``offset``."""
        i = self.at(offset)
        while not self._ends(i, _AFTER_ITEM):
            i = self.partner(i) if self.name(i) in (OPEN, "ASCII_91") else i
            i += 1
        return i - 1

    def targets_end(self, i: int) -> int:
        """Return the last token of the target list of the SELECT at ``i``."""
        i += 1
        while not self._ends(i, _AFTER_ITEM - {COMMA}):
            i = self.partner(i) if self.name(i) in (OPEN, "ASCII_91") else i
            i += 1
        return i - 1

    def body_end(self, i: int) -> int:
        """Return the last token of the SELECT or VALUES at ``i``, without ORDER BY and what follows it."""
        while not self._ends(i, _AFTER_BODY):
            i = self.partner(i) if self.name(i) in (OPEN, "ASCII_91") else i
            i += 1
        return i - 1

    def _ends(self, i: int, words: frozenset[str]) -> bool:
        name = self.name(i)
        if name == "FROM" and self.name(i - 1) == "DISTINCT":
            return False  # IS DISTINCT FROM
        if name == "WITH" and self.name(i + 1) != "DATA_P" and self.name(i + 1) != "NO":
            return False  # WITH ORDINALITY, WITH TIME ZONE
        if name == "ON" and self.name(i + 1) == "CONFLICT" and self.name(i + 2) in (OPEN, "ON", "DO"):
            return True
        return (not name and i >= len(self.tokens)) or name in words or name == CLOSE

    def operator(self, i: int) -> int:
        """Return the UNION, INTERSECT or EXCEPT before the operand whose leftmost SELECT or VALUES is at ``i``."""
        i -= 1
        while i >= 0:
            name = self.name(i)
            if name in SET_OPERATORS:
                return i
            i = self.partner(i) - 1 if name == CLOSE else i - 1
        raise _lost()

    def left_start(self, operator: int, first: int) -> int:
        """Return where the left operand of a set operation begins; ``first`` is its leftmost SELECT or VALUES."""
        start = first
        while True:
            before = start - 1
            if self.name(before) == CLOSE:
                before = self._with(before) - 1  # (WITH … SELECT …) UNION …
            if self.name(before) != OPEN or self.partner(before) > operator:
                return start
            start = before

    def _with(self, i: int) -> int:
        """Return the WITH whose last query ends at ``i``."""
        while i >= 0 and self.name(i) != "WITH":
            i = self.partner(i) - 1 if self.name(i) == CLOSE else i - 1
        return i

    def right_start(self, operator: int) -> int:
        """Return where the right operand begins: behind ALL or DISTINCT."""
        return operator + 2 if self.name(operator + 1) in ("ALL", "DISTINCT") else operator + 1

    def right_end(self, operator: int) -> int:
        """Return the last token of the right operand that is no set operation of its own without brackets."""
        i = self.right_start(operator)
        return self.partner(i) if self.name(i) == OPEN else self.body_end(i)

    def before(self, i: int, name: str) -> int:
        """Return the last token of this name before ``i``, not inside of brackets that close before it."""
        i -= 1
        while i >= 0:
            found = self.name(i)
            if found == name:
                return i
            i = self.partner(i) - 1 if found == CLOSE else i - 1
        raise _lost()

    def around(self, i: int) -> int:
        """Return the bracket that opens around a token."""
        i -= 1
        while self.name(i) != OPEN:
            if i < 0:
                raise _lost()
            i = self.partner(i) - 1 if self.name(i) == CLOSE else i - 1
        return i

    def join_condition(self, i: int) -> int:
        """Return the ON or USING of the JOIN at ``i``: those of joins on its right side come first."""
        waiting = 0
        while i < len(self.tokens):
            name = self.name(i)
            if name == "JOIN":
                waiting += not self._is_complete(i)
            elif name in ("ON", "USING"):
                waiting -= 1
                if not waiting:
                    return i
            i = self.partner(i) + 1 if name in (OPEN, "ASCII_91") else i + 1
        raise _lost()

    def _is_complete(self, i: int) -> bool:
        """Tell whether a JOIN has no condition: CROSS JOIN, NATURAL [LEFT [OUTER]] JOIN."""
        i -= 1
        while self.name(i) in ("INNER_P", "LEFT", "RIGHT", "FULL", "OUTER_P"):
            i -= 1
        return self.name(i) in ("CROSS", "NATURAL")

    def from_item_end(self, i: int) -> int:
        """Return the last token of the item of FROM at ``i``, which is no join without brackets."""
        first = i
        while i == first or not (self.name(i) in _AFTER_FROM_ITEM or self._ends(i, _AFTER_ITEM)):
            i = self.partner(i) if self.name(i) in (OPEN, "ASCII_91") else i
            i += 1
        return i - 1
