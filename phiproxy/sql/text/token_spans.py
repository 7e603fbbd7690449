"""Where nodes, clauses, operands and items are in a text, by its tokens: trees do not tell. ``apply_edits`` proves the edits."""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from functools import cached_property

from phiproxy.errors import StatementRefused
from phiproxy.sql.text.parse import Node, Token, location, messages

OPEN, CLOSE, COMMA, DOT, SEMICOLON = "ASCII_40", "ASCII_41", "ASCII_44", "ASCII_46", "ASCII_59"
_ZONED = frozenset({"WITH", "WITH_LA", "WITHOUT", "WITHOUT_LA"})
SET_OPERATORS = frozenset({"UNION", "INTERSECT", "EXCEPT"})
# What can follow the body of a SELECT: these words are reserved, so elsewhere they stand behind AS or a dot only.
_AFTER_BODY = SET_OPERATORS | {"ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "RETURNING", "WITH", SEMICOLON}
_AFTER_FROM_ITEM = frozenset({"NATURAL", "CROSS", "JOIN", "INNER_P", "LEFT", "RIGHT", "FULL", "ON", "USING", "WHEN"})
_CONSTANTS = frozenset({"ICONST", "FCONST", "TRUE_P", "FALSE_P"})
_AFTER_ITEM = _AFTER_BODY | {"FROM", "WHERE", "GROUP_P", "HAVING", "WINDOW", "INTO", COMMA}


def _lost() -> StatementRefused:
    return StatementRefused("a part of the statement could not be located in its text", hint="Write it in a plainer form.")


def dotted(tokens: Sequence[Token], first: int) -> tuple[int, int]:
    """Return the span of a dotted name from its first part, which may be in parentheses: ``t.c``, ``(t).c``."""
    last = first
    while last + 2 < len(tokens) and tokens[last + 1].name == DOT:
        last += 2
    start, end = first, last
    while start > 0 and end + 1 < len(tokens) and tokens[start - 1].name == OPEN and tokens[end + 1].name == CLOSE:
        start, end = start - 1, end + 1
    if end > last and end + 2 < len(tokens) and tokens[end + 1].name == DOT:
        return tokens[start].start, tokens[end + 2].end
    return tokens[first].start, tokens[last].end


class Spans:
    """The tokens of one text, with their nesting.

    Methods take and return token indexes; offsets and spans are in bytes. StatementRefused for what cannot be located.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self._index = {t.start: i for i, t in enumerate(tokens)}

    @cached_property
    def _match(self) -> dict[int, int]:
        """Each bracket's partner, in both directions."""
        partners: dict[int, int] = {}
        waiting: list[int] = []
        for i, token in enumerate(self.tokens):
            if token.name in (OPEN, "ASCII_91"):
                waiting.append(i)
            elif token.name in (CLOSE, "ASCII_93") and waiting:
                partners[waiting[-1]] = i
                partners[i] = waiting.pop()
        return partners

    @cached_property
    def _parameters(self) -> tuple[list[int], list[Token]]:
        own = [token for token in self.tokens if token.name == "PARAM"]
        return [token.start for token in own], own

    def parameters(self, start: int, end: int) -> list[Token]:
        """Return the parameters that begin between two byte offsets."""
        starts, own = self._parameters
        return own[bisect_left(starts, start) : bisect_left(starts, end)]

    def at(self, offset: int) -> int:
        """Return the token that starts at a byte offset."""
        index = self._index.get(offset)
        if index is None:
            raise _lost()
        return index

    def name(self, i: int) -> str:
        """Return a token's name; empty outside of the text, and for a reserved word that is a label here."""
        if not 0 <= i < len(self.tokens):
            return ""
        name = self.tokens[i].name
        return "" if name.isalpha() and i and self.tokens[i - 1].name in ("AS", DOT) and not self._begins_query(i) else name

    def _begins_query(self, i: int) -> bool:
        """Tell whether a word behind AS begins a query, as in CREATE VIEW … AS SELECT, and is no label (``1 AS select, 2``)."""
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

    # -- spans of nodes, in bytes ------------------------------------------------------------------------------------------

    def column_ref(self, offset: int) -> tuple[int, int]:
        """Return the span of a dotted name whose first part starts at ``offset``, as in ``t.c`` and ``(t).c``."""
        return dotted(self.tokens, self.at(offset))

    def last_part(self, end: int) -> int:
        """Return the offset of the last part of the dotted name that ends at ``end``."""
        return next(t.start for t in self.tokens if t.end == end)

    def items(self, offset: int) -> list[tuple[int, int]]:
        """Return the spans that commas separate between the bracket at ``offset`` and its partner."""
        opening = self.at(offset)
        closing = self.partner(opening)
        spans, first, i = [], opening + 1, opening + 1
        while i <= closing:
            if i == closing or self.tokens[i].name == COMMA:
                spans.append((self.tokens[first].start, self.tokens[i - 1].end))
                first = i + 1
            i = self.partner(i) + 1 if self.tokens[i].name in (OPEN, "ASCII_91") else i + 1
        return spans

    def relation_end(self, offset: int, *, aliased: bool) -> int:
        """Return the offset at which the target of an INSERT ends, with its alias if it has one."""
        _, end = self.column_ref(offset)
        i = next(i for i in range(self.at(offset), len(self.tokens)) if self.tokens[i].end == end)
        return self.tokens[i + 2].end if aliased else end

    def after(self, offset: int, count: int) -> Token:
        """Return the token that stands ``count`` tokens behind the one at ``offset``."""
        return self.tokens[self.at(offset) + count]

    def value_end(self, offset: int, *, constant: bool) -> int:
        """Return the offset at which a parameter or literal ends, or (``constant``) a number or boolean."""
        i = self.at(offset)
        while self.tokens[i].name == "ASCII_45":  # the sign of a number
            i += 1
        token = self.tokens[i]
        if constant and token.name not in _CONSTANTS:
            raise StatementRefused("a number could not be located in the text", hint="Write it without brackets.")
        if token.name in ("USCONST", "SCONST") and i + 2 < len(self.tokens) and self.tokens[i + 1].name == "UESCAPE":
            return self.tokens[i + 2].end
        return token.end

    def cast(self, cast: Node) -> list[tuple[int, int]]:
        """Return the spans of a cast without its argument: of ``x::t``, ``CAST(x AS t)`` and ``t 'x'``; or of COLLATE."""
        if "CollateClause" in cast:
            start = location(cast["CollateClause"])
            return [(start, dotted(self.tokens, self.at(start) + 1)[1])]
        offset = location(cast["TypeCast"])
        type_offset, end = self.type_name(cast)
        if offset in (-1, type_offset):
            return [(type_offset, end)]
        token, before = self.tokens[self.at(offset)], self.tokens[self.at(type_offset) - 1]
        if token.name == "TYPECAST":
            return [(offset, end)]
        if token.name != "CAST" or before.name != "AS":
            raise StatementRefused("a cast of a protected value could not be located in the text", hint="Write it as value::text.")
        return [(offset, token.end), (before.start, end)]

    def type_name(self, cast: Node) -> tuple[int, int]:
        """Return the span of the type's name in a cast."""
        offset = location(cast["TypeCast"]["typeName"])
        return offset, self.tokens[self._type_end(self.at(offset))].end

    def _type_end(self, i: int) -> int:
        """Return the last token of the type's name that begins at ``i``: ``national varchar(3)[]``, ``time(3) with time zone``."""
        i = self._word_end(i + 1 if self.tokens[i].name == "NATIONAL" else i)
        if self.name(i + 1) == OPEN:  # varchar(n), numeric(p, s)
            i = self._word_end(self.partner(i + 1))
        return self._word_end(i + 1) if self.name(i + 1) == "ARRAY" else i

    def expression(self, node: Node) -> tuple[int, int]:
        """Return the span, in bytes, of an expression of constants, parameters, casts, operators and calls."""
        indexes = [self.at(m["location"]) for m in messages(node) if m.get("location", -1) >= 0]
        if not indexes:
            raise _lost()
        first, last = min(indexes), self._word_end(max(indexes))
        i = first
        while i <= last:
            if self.name(i) in (OPEN, CLOSE, "ASCII_91", "ASCII_93"):
                partner = self.partner(i)
                i, first, last = (partner, partner, last) if partner < first else (i, first, max(last, partner))
            i += 1
        return self.tokens[first].start, self.tokens[self._word_end(last)].end

    def _word_end(self, last: int) -> int:
        """Return the last token of a type's name, or of a number or string with its type, that begins at ``last``."""
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

    # -- clauses, as token indexes -----------------------------------------------------------------------------------------

    def select(self, offset: int) -> int:
        """Return the SELECT or VALUES whose first item or row begins at ``offset``, or within parentheses there."""
        return self._before(self.at(offset), ("SELECT", "VALUES"))

    def item_end(self, offset: int) -> int:
        """Return the last token of the list item that begins at ``offset``."""
        return self._end(self.at(offset), _AFTER_ITEM)

    def targets_end(self, i: int) -> int:
        """Return the last token of the target list of the SELECT at ``i``."""
        return self._end(i + 1, _AFTER_ITEM - {COMMA})

    def body_end(self, i: int) -> int:
        """Return the last token of the SELECT or VALUES at ``i``, without ORDER BY and what follows it."""
        return self._end(i, _AFTER_BODY)

    def _end(self, i: int, words: frozenset[str]) -> int:
        while not self._ends(i, words):
            i = self._next(i)
        return i - 1

    def _next(self, i: int) -> int:
        """Return the token behind this one, or behind the brackets that it opens."""
        return (self.partner(i) if self.name(i) in (OPEN, "ASCII_91") else i) + 1

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
        return self._before(i, SET_OPERATORS)

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
        """Return the last token of the right operand, which is no set operation without parentheses."""
        i = self.right_start(operator)
        return self.partner(i) if self.name(i) == OPEN else self.body_end(i)

    def before(self, i: int, name: str) -> int:
        """Return the last token of this name before ``i`` that is not within parentheses closed before ``i``."""
        return self._before(i, (name,))

    def _before(self, i: int, names: Collection[str]) -> int:
        i -= 1
        while i >= 0:
            name = self.name(i)
            if name in names:
                return i
            i = self.partner(i) - 1 if name == CLOSE else i - 1
        raise _lost()

    def around(self, i: int) -> int:
        """Return the bracket that opens around a token."""
        return self._before(i, (OPEN,))

    def join_condition(self, i: int) -> int:
        """Return the ON or USING of the JOIN at ``i``; joins on its right side have theirs before it."""
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
        """Return the last token of the FROM item at ``i``, which is no join without parentheses."""
        return self._end(self._next(i), _AFTER_ITEM | _AFTER_FROM_ITEM)
