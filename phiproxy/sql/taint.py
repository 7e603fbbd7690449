"""Taint (sql.md section 2): what meets a protected column once may be nothing unprotected elsewhere in the statement."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.analysis import Analysis, DecidedUse
from phiproxy.sql.meaning import PLAIN, Nullness, Plain, Search, Store
from phiproxy.sql.parse import Node, location, messages, only
from phiproxy.sql.shape import PLAIN_NAME, literal_value
from phiproxy.sql.sinks import SinkNode
from phiproxy.wire.arrays import array_from_text

# A number of fewer digits is everywhere (LIMIT 10, id = 3): that it is repeated tells nothing.
_TELLING_DIGITS = 4
# Nothing in these is tried twice: a literal may have megabytes.
_DIGITS = rb"[0-9]++(?:_[0-9]++)*+"
_NUMBER = re.compile(
    rb"\s*+[+-]?(?=\.?[0-9])(?P<whole>(?:%b)?+)(?:\.(?P<fraction>(?:%b)?+))?+(?:[eE](?P<exponent>[+-]?[0-9]{1,4}))?\s*+"
    % (_DIGITS, _DIGITS)
)
# More digits than these are no integer's of PostgreSQL.
_PREFIXED = re.compile(rb"\s*+[+-]?(?P<integer>0[xXoObB][0-9a-fA-F_]{1,200})\s*+")

Number = tuple[bytes, int]


def telling_number(literal: bytes) -> Number | None:
    """Return the digits and the exponent of a number without its sign (``'04713.0'`` and ``-4713`` are one).

    None for what is no number, or one of few digits.
    """
    if (prefixed := _PREFIXED.fullmatch(literal)) is not None:
        with suppress(ValueError):  # 0o9 and 0x__1 are none
            literal = b"%d" % int(prefixed["integer"], 0)
    found = _NUMBER.fullmatch(literal)
    if found is None:
        return None
    fraction = (found["fraction"] or b"").replace(b"_", b"")
    digits = (found["whole"].replace(b"_", b"") + fraction).lstrip(b"0")
    exponent = int(found["exponent"] or 0) - len(fraction)
    if not digits or max(len(digits), len(digits) + exponent) < _TELLING_DIGITS:
        return None
    telling = digits.rstrip(b"0")
    return telling, exponent + len(digits) - len(telling)


class ProtectedValues:
    """The constants of a statement that meet a protected column, and what repeats one of them.

    A text is repeated by the same text, and by an array that has it as an element; a number by the same number, however it is
    spelled. Rows of VALUES share numbers by chance (an ``id`` and a year): of these each row is looked at by itself.
    """

    def __init__(self, values: Iterable[tuple[bytes, int | None]], row_of: Callable[[int | None], int | None]) -> None:
        """``values``: each with its place, of which ``row_of`` tells the number of the row, None outside of rows."""
        self.texts: set[bytes] = set()
        self._rows: dict[Number, set[int | None]] = {}
        self._row_of = row_of
        for value, place in values:
            self.texts.add(value)
            number = telling_number(value)
            if number is not None:
                self._rows.setdefault(number, set()).add(row_of(place))
        self.texts.discard(b"")

    def __bool__(self) -> bool:
        return bool(self.texts)

    def repeated_by(self, literal: bytes, place: int | None) -> bool:
        """Tell whether a text literal at this place is one of the values, or as an array holds one."""
        return literal in self.texts or self.repeated_by_number(literal, place) or not self.texts.isdisjoint(elements_of(literal))

    def repeated_by_constant(self, constant: bytes, place: int | None) -> bool:
        """Tell it of a constant as it is spelled: a plain literal in its quotes, or a number."""
        if constant[:1] == b"'":
            return self.repeated_by(literal_value(constant), place)
        return self.repeated_by_number(constant, place)

    def repeated_by_number(self, literal: bytes, place: int | None) -> bool:
        """Tell whether a number at this place is one of the values."""
        if not self._rows:
            return False
        number = telling_number(literal)
        rows = self._rows.get(number) if number is not None else None
        if rows is None:
            return False
        row = self._row_of(place)
        return row is None or row in rows or None in rows


def untainted(a: Analysis) -> list[DecidedUse]:
    """Return the uses of a statement, decided; StatementRefused where one is protected in one place and not in another.

    ``SET ssn = 'x', city = 'x'``, ``SELECT ssn AS "x y" … WHERE ssn = 'x y'`` and ``SET age = '4713', room = 4713`` are refused:
    the server would be told what is sealed.
    """
    numbers = {n for u in a.uses if isinstance(u.use, Store | Search) for n in u.sink.numbers}
    values = ProtectedValues(_protected(a), _Rows(a).at)
    settled = []
    for u in a.uses:
        sink = u.sink
        protected = not numbers.isdisjoint(sink.numbers) or _repeats(values, sink)
        if isinstance(u.use, Nullness) and not protected:
            settled += [DecidedUse(part, PLAIN) for part in sink.parts or (sink,)]
            continue
        if isinstance(u.use, Plain) and protected and sink.kind != "null":
            raise _elsewhere(a, f"parameter ${sink.number}" if sink.kind == "param" else "a literal", sink.offset)
        settled.append(u)
    if values:
        _check_others(a, values)
        check_names(a, values)
    return settled


def _protected(a: Analysis) -> Iterator[tuple[bytes, int | None]]:
    """Yield what the literals and numbers say that meet a protected column, each with its byte offset."""
    for u in a.uses:
        if not isinstance(u.use, Store | Search):
            continue
        for sink in _with_parts(u.sink):
            if sink.kind == "constant":
                yield sink.literal, sink.offset
            elif sink.kind in ("literal", "formula"):
                said = _said(a, sink)
                of_array = elements_of(sink.literal) if u.use.column.type.element is not None else ()
                yield from ((value, sink.offset) for value in {*said, *of_array})


def _repeats(values: ProtectedValues, sink: SinkNode) -> bool:
    if sink.kind == "literal":
        return values.repeated_by(sink.literal, sink.offset)
    return sink.kind == "constant" and values.repeated_by_number(sink.literal, sink.offset)


def elements_of(literal: bytes) -> Iterator[bytes]:
    """Yield the elements of what may be an array; nothing where it is none to PostgreSQL either."""
    if literal.lstrip()[:1] not in (b"{", b"["):
        return
    try:
        yield from (e for e in array_from_text(literal).elements if e is not None)
    except ValueRefused:
        return


class _Rows:
    """The rows of a statement's VALUES, by the byte offsets of their first and last expressions."""

    def __init__(self, a: Analysis) -> None:
        self._a = a

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        lists = [m["valuesLists"] for m in self._a.whole() if len(m.get("valuesLists", ())) > 1] if self._a.walks else []
        offsets = ([p for m in messages(row) if (p := location(m)) > 0] for rows in lists for row in rows)
        return sorted((min(own), max(own)) for own in offsets if own)

    def at(self, offset: int | None) -> int | None:
        """Return the number of the row, None outside of rows."""
        if offset is None:
            return None
        i = bisect_right(self._spans, offset, key=lambda span: span[0]) - 1
        return i if i >= 0 and offset <= self._spans[i][1] else None


def _check_others(a: Analysis, values: ProtectedValues) -> None:
    """Refuse a protected value in a place that no rule has looked at as a value."""
    seen = {location(only(sink.node)[1]) for u in a.uses for sink in _with_parts(u.sink)}  # some nodes are in the tree twice
    for walked in a.walks.values():
        for message in walked:
            if ("sval" not in message and "ival" not in message and "fval" not in message) or location(message) in seen:
                continue
            text, place = message.get("sval"), location(message)
            if isinstance(text, dict):
                if values.repeated_by(text.get("sval", "").encode(), place):
                    raise _elsewhere(a, "a literal", place)
            elif ("ival" in message or "fval" in message) and values.repeated_by_number(_spelled(message), place):
                raise _elsewhere(a, "a number", place)


# What stands in ``body`` for what is sealed, as ``finish.marker`` spells it, is no text of the client's.
_MARKERS = (rb"\x00", b"{}")


def check_definition(a: Analysis, texts: Iterable[bytes], body: Node) -> None:
    """Refuse DDL of which a text that is sealed is also a name, or a text of what the server is to see (``body``).

    ``ALTER TABLE patients ALTER ssn SET DEFAULT 'x', ALTER city SET DEFAULT 'x'`` is refused.
    """
    values = ProtectedValues(((text, None) for text in texts if text not in _MARKERS), lambda _: None)
    if not values:
        return
    for message in messages(body):
        text = message.get("sval")
        if isinstance(text, dict) and not values.texts.isdisjoint((said := text.get("sval", "").encode(), *elements_of(said))):
            raise a.refuse(
                "a literal of this definition is sealed in one place, and in clear in another",
                message,
                hint="Make one of the two by a statement of its own.",
            )
    check_names(a, values)


def _spelled(constant: Node) -> bytes:
    if isinstance(constant.get("fval"), dict):
        return str(constant["fval"].get("fval", "")).encode()
    whole = constant.get("ival")
    return b"%d" % whole.get("ival", 0) if isinstance(whole, dict) else b""


def check_names(a: Analysis, values: ProtectedValues) -> None:
    """Refuse a name that is a protected value: reports give one to the column that counts it (``… AS "Influenza A"``).

    Not one that needs no quotes, such as ``m``, since those are what people call tables too; nor the name of what there is.
    """
    columns = a.context.protection.column_names
    telling = {value.decode() for value in values.texts if not PLAIN_NAME.fullmatch(value)} - columns
    if not telling:
        return

    def tells(name: object) -> bool:
        if not isinstance(name, str):
            return False
        return name in telling or (name not in columns and values.repeated_by_number(name.encode(), None))

    for walked in a.walks.values():
        others = _no_names(walked)
        for message in walked:
            if id(message) in others:
                continue
            name = next(filter(tells, message.values()), None)
            if name is not None and not _is_there(a, walked, name):
                raise a.refuse(
                    "a name in this statement is a value that meets a protected column",
                    message,
                    hint="Give it another name, and put the value there in the application.",
                )


def _no_names(walked: Iterable[Node]) -> set[int]:
    """Return the ids of messages whose texts are constants, which are looked at as such, or operators."""
    found: set[int] = set()
    for message in walked:
        found.update(id(message[key]) for key in ("sval", "fval") if isinstance(message.get(key), dict))
        if str(message.get("kind", "")).startswith("AEXPR"):
            found.update(id(only(part)[1]) for part in message.get("name", ()))
        found.update(id(only(part)[1]) for key in ("operName", "useOp") for part in message.get(key, ()))
    return found


def _is_there(a: Analysis, walked: Iterable[Node], name: str) -> bool:
    """Tell whether a name is that of a relation of the statement, or of a column of one: it says nothing that is not there."""
    relations = {message["relname"] for message in walked if "relname" in message}
    return any(
        relation.name == name or relation.column(name) is not None
        for relation in a.context.catalog.relations
        if relation.name in relations
    )


def _with_parts(sink: SinkNode) -> Iterator[SinkNode]:
    yield sink
    for part in sink.parts:
        yield from _with_parts(part)


def _said(a: Analysis, sink: SinkNode) -> frozenset[bytes]:
    try:
        return sink.values
    except ValueRefused as error:
        error.position = a.at(sink.offset)
        raise


def _elsewhere(a: Analysis, what: str, offset: int) -> StatementRefused:
    return StatementRefused(
        f"{what} meets a protected column and is used unprotected elsewhere in the statement",
        hint="Pass the unprotected use as a parameter of its own.",
        position=a.at(offset),
    )
