"""What was understood of one split statement, for all texts of its shape: the analysis is paid once, whatever its constants are.

A template holds the texts of source, rest and write without the client's constants, and where spans of the client's text stand in
them. A constant whose value may decide something is *fixed*: the template is only for texts with this very constant there, of which
a keyed digest is kept. Of a pattern it counts which part of a value it is about. Which constants are equal counts too, since none
may be in the source in clear that meets something protected in the rest. The source of each text is planned like any statement of a
client, so whatever is decided here, nothing leaks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from phiproxy.plan.plan_cache import PlanCache
from phiproxy.sql.expressions.repeated_in_clear import elements_of, telling_number
from phiproxy.sql.result import Split
from phiproxy.sql.split.same_answers import means_clock
from phiproxy.sql.text.parse import Statement, location, messages, parse, strings
from phiproxy.sql.text.shape import Shape, free_constants, free_operands, literal_value, numbers_of_gaps, quoted_names, shape_of
from phiproxy.sql.values.patterns import read_pattern, read_regex

MAX_TEMPLATES_PER_SHAPE = 8
# A text with more has long lists, and hardly comes again in the same shape.
MAX_CONSTANTS = 64

# Of constants that must be the same: what they were cannot be found out from these.
_KEY = secrets.token_bytes(32)
_COMPARING = frozenset({"=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "||"})


class _Place(NamedTuple):
    """A place of every text of a shape: so many bytes behind the beginning of a gap."""

    gap: int
    offset: int


class _Span(NamedTuple):
    """A span of the client's text."""

    start: _Place
    end: _Place


_Piece = bytes | _Span | None
"""Of a text that is made: bytes that all have, a span of the client's, or where the source stands."""


@dataclass(frozen=True, slots=True)
class SplitTemplate:
    """How all texts of a shape are split."""

    prototype: Split
    """How one of them is, without its texts."""
    start: _Place
    end: _Place
    source: tuple[_Piece, ...]
    rest: tuple[_Piece, ...]
    described: tuple[_Piece, ...]
    write: tuple[_Piece, ...] | None
    fixed: tuple[tuple[int, bytes], ...]
    """Digests of the constants, by number, that a text must have: their values may have decided something."""
    patterns: tuple[tuple[int, object], ...]
    """What it must have in common of those that are patterns (``_about``)."""
    equal: tuple[int, ...]
    """Which constants are equal (``_equal``)."""
    names: frozenset[bytes]
    """The names and numbers that all texts have."""

    def speaks_of(self, shape: Shape) -> bool:
        """Tell whether another text of the shape is split like this one."""
        constants = shape.constants
        if any(_digest(constants[i]) != digest for i, digest in self.fixed):
            return False
        if any(_about(constants[i]) != about for i, about in self.patterns):
            return False
        return self.equal == _equal(constants, self.names) and not any(map(_may_mean_clock, constants))

    def split(self, shape: Shape, text: bytes) -> Split:
        """Return how another text is split, of which this template speaks."""
        source, _, source_spans = _made(self.source, shape, text)
        rest_parts, rest_spans = _rest(self.rest, shape, text)
        described_parts, described_spans = _rest(self.described, shape, text)
        write = self.prototype.write
        if write is not None and self.write is not None:
            written, _, write_spans = _made(self.write, shape, text)
            write = dataclasses.replace(write, text=b"".join(written), spans=write_spans)
        return dataclasses.replace(
            self.prototype,
            start=_offset(self.start, shape),
            end=_offset(self.end, shape),
            source=b"".join(source),
            source_spans=source_spans,
            rest=dataclasses.replace(self.prototype.rest, parts=rest_parts, spans=rest_spans),
            described=dataclasses.replace(self.prototype.described, parts=described_parts, spans=described_spans),
            write=write,
        )


def split_template(shape: Shape, text: bytes, split: Split) -> SplitTemplate | None:
    """Return the template of a text that was split, or None where a constant may decide something in a way not known here."""
    if (
        not split.cacheable
        or split.kind not in ("select", "write")
        or split.around
        or split.waiting is not None
        or not 0 < len(shape.constants) <= MAX_CONSTANTS
    ):
        return None
    (statement,) = parse(text)
    free, patterns = (free_constants([statement]) | _compared(statement)) - _held(statement), _patterns(statement)
    fixed = tuple((i, _digest(shape.constants[i])) for i, start in enumerate(shape.starts) if start not in free)
    names = quoted_names(shape) | numbers_of_gaps(shape)
    equal = _equal(shape.constants, names)
    about = tuple((i, _about(shape.constants[i])) for i, start in enumerate(shape.starts) if start in patterns)
    if equal is None or any(each is None for _, each in about):
        return None
    if any(b'&"' in gap or b"^@" in gap for gap in shape.gaps):
        return None  # a name with escapes may be any; of a prefix the length would count
    source = _pieces((split.source,), split.source_spans, shape)
    rest = _pieces(split.rest.parts, split.rest.spans, shape)
    described = _pieces(split.described.parts, split.described.spans, shape)
    write = _pieces((split.write.text,), split.write.spans, shape) if split.write is not None else ()
    if source is None or rest is None or described is None or write is None:
        return None
    bare = dataclasses.replace(
        split,
        source=b"",
        source_spans=(),
        rest=dataclasses.replace(split.rest, parts=(), spans=()),
        described=dataclasses.replace(split.described, parts=(), spans=()),
        write=dataclasses.replace(split.write, text=b"", spans=()) if split.write is not None else None,
        refusal=None,
    )
    start, end = _place(split.start, shape), _place(split.end, shape)
    if start is None or end is None:
        return None
    made = SplitTemplate(bare, start, end, source, rest, described, write or None, fixed, about, equal, names)
    same = made.speaks_of(shape) and made.split(shape, text) == dataclasses.replace(split, refusal=None)
    return made if same else None


# -- texts ---------------------------------------------------------------------------------------------------------------------


def _pieces(parts: Sequence[bytes], spans: Sequence[tuple[int, int, int]], shape: Shape) -> tuple[_Piece, ...] | None:
    """Return a text as pieces; None where something else of it than spans of the client's may hold a constant of the client's."""
    joined, pieces, at = b"".join(parts), list[_Piece](), 0
    between = list(_ends(parts))[:-1]
    for start, end, begin in [*spans, (len(joined), len(joined), -1)]:
        while between and between[0] <= start:
            pieces += (joined[at : between[0]], None)
            at = between.pop(0)
        pieces.append(joined[at:start])
        if begin >= 0:
            first, last = _place(begin, shape), _place(begin + end - start, shape)
            if first is None or last is None:
                return None
            pieces.append(_Span(first, last))
        at = end
    own = [shape_of(piece) for piece in pieces if isinstance(piece, bytes)]
    if between or any(each is None or not set(each.constants).isdisjoint(shape.constants) for each in own):
        return None
    return tuple(piece for piece in pieces if piece != b"")


def _ends(parts: Sequence[bytes]) -> Iterator[int]:
    end = 0
    for part in parts:
        end += len(part)
        yield end


def _rest(pieces: Sequence[_Piece], shape: Shape, text: bytes) -> tuple[tuple[bytes, ...], tuple[tuple[int, int, int], ...]]:
    parts, _, spans = _made(pieces, shape, text)
    return tuple(parts), spans


def _made(pieces: Sequence[_Piece], shape: Shape, text: bytes) -> tuple[list[bytes], int, tuple[tuple[int, int, int], ...]]:
    parts, length, spans = [b""], 0, []
    for piece in pieces:
        if piece is None:
            parts.append(b"")
            continue
        if isinstance(piece, _Span):
            start, end = _offset(piece.start, shape), _offset(piece.end, shape)
            spans.append((length, length + end - start, start))
            parts[-1] += text[start:end]
            length += end - start
        else:
            parts[-1] += piece
            length += len(piece)
    return parts, length, tuple(spans)


def _place(offset: int, shape: Shape) -> _Place | None:
    """Return what is an offset of a text in all texts of its shape; None inside of a constant."""
    bases = [0, *(start + len(constant) for start, constant in zip(shape.starts, shape.constants, strict=True))]
    gap = bisect_right(bases, offset) - 1
    return _Place(gap, offset - bases[gap]) if offset - bases[gap] <= len(shape.gaps[gap]) else None


def _offset(place: _Place, shape: Shape) -> int:
    before = place.gap - 1
    return (shape.starts[before] + len(shape.constants[before]) if before >= 0 else 0) + place.offset


# -- constants -----------------------------------------------------------------------------------------------------------------


def _compared(statement: Statement) -> frozenset[int]:
    """Return the byte offsets of constants that are mere values too where the engine compares: in HAVING, and in rows."""
    found: set[int] = set()
    for message in messages(statement.body):
        found |= free_operands(message.get("havingClause", {}))
        sides = (message["A_Expr"].get(key, {}) for key in ("lexpr", "rexpr")) if "A_Expr" in message else ()
        rows = [node for side in sides if "RowExpr" in side for node in side["RowExpr"].get("args", ())]
        found.update(location(node["A_Const"]) for node in rows if "A_Const" in node)
    return frozenset(found)


def _held(statement: Statement) -> frozenset[int]:
    """Return the byte offsets of the constants beside ``@>``: which parts of an object have an index is in the source."""
    operators = (m["A_Expr"] for m in messages(statement.body) if "A_Expr" in m)
    holding = (node for node in operators if strings(node.get("name", ()))[-1] == "@>")
    return frozenset(location(m["A_Const"]) for node in holding for m in messages(node) if "A_Const" in m)


def _patterns(statement: Statement) -> frozenset[int]:
    """Return the byte offsets of the constants beside an operator that may look into them, as LIKE does."""
    operators = (m["A_Expr"] for m in messages(statement.body) if "A_Expr" in m)
    looking = (
        node for node in operators if node["kind"] not in _PLAIN_KINDS or strings(node.get("name", ()))[-1] not in _COMPARING
    )
    return frozenset(location(m["A_Const"]) for node in looking for m in messages(node) if "A_Const" in m)


_PLAIN_KINDS = frozenset(
    {
        "AEXPR_OP", "AEXPR_OP_ANY", "AEXPR_OP_ALL", "AEXPR_IN", "AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN", "AEXPR_BETWEEN_SYM",
        "AEXPR_NOT_BETWEEN_SYM", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT", "AEXPR_NULLIF",
    }
)  # fmt: skip


def _digest(constant: bytes) -> bytes:
    return hashlib.blake2b(constant, key=_KEY).digest()


def _about(constant: bytes) -> object:
    """Return which part of a value a pattern may be about, and how long it is, whatever its syntax; None where that is not sure."""
    if constant[:1] != b"'":
        return constant[:0]
    value = literal_value(constant)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    if any(len(character.lower()) > 1 for character in text):
        return None  # in lower case it is longer
    keys = tuple(
        None if read is None else (read[0], 0 if read[0] == "whole" else len(read[1]))
        for read in (read_regex(value), read_pattern(value, "\\"))
    )
    return *keys, not value.strip(b"%"), value in (b"^", b"")


def _equal(constants: Sequence[bytes], names: frozenset[bytes]) -> tuple[int, ...] | None:
    """Return for each constant the number of the first that is equal; None where it repeats a name, or another in other words."""
    first: dict[bytes, int] = {}
    numbers: dict[object, bytes] = {number: name for name in names if (number := telling_number(name)) is not None}
    values = [literal_value(constant) for constant in constants]
    for i, value in enumerate(values):
        number = telling_number(value)
        if value in names or (number is not None and numbers.setdefault(number, value) != value):
            return None
        first.setdefault(value, i)
    if any(element in first or element in names for value in values for element in elements_of(value)):
        return None
    return tuple(first[value] for value in values)


def _may_mean_clock(constant: bytes) -> bool:
    return constant[:1] == b"'" and means_clock(constant.decode("utf-8", "replace"))


class SplitTemplates:
    """The templates of one planner, by the shape, and what a plan's key says beside the text. For several threads."""

    def __init__(self) -> None:
        self._templates: PlanCache[tuple[SplitTemplate, ...]] = PlanCache()

    def split(self, key: Hashable, shape: Shape, text: bytes) -> Split | None:
        """Return how a text is split whose shape was seen, or None."""
        known = self._templates.get((shape.key, key)) or ()
        return next((of_shape.split(shape, text) for of_shape in known if of_shape.speaks_of(shape)), None)

    def add(self, key: Hashable, shape: Shape, of_shape: SplitTemplate) -> None:
        """Keep a template; the oldest of its shape gives way."""
        known = self._templates.get((shape.key, key)) or ()
        self._templates.add((shape.key, key), (of_shape, *known)[:MAX_TEMPLATES_PER_SHAPE])
