"""Taint (spec/sql 2.4): a value that meets a protected column once must not occur unprotected in the same statement."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.long_values import LONG_VALUE, decoded, encoded
from phiproxy.sql.context import Analysis
from phiproxy.sql.rewrite.common_changes import DecidedUse
from phiproxy.sql.text.parse import Node, location, messages, only
from phiproxy.sql.text.shape import PLAIN_NAME, literal_value
from phiproxy.sql.values.operands import Operand, constant_text
from phiproxy.sql.values.uses import PLAIN, Nullness, Plain, Search, Store
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
    """Return the digits and exponent of a number, the same for ``'04713.0'`` and ``-4713``; None for no number, or few digits."""
    if (prefixed := _PREFIXED.fullmatch(literal)) is not None:
        with suppress(ValueError):  # 0o9 and 0x__1 are none
            literal = b"%d" % int(prefixed["integer"], 0)
    match = _NUMBER.fullmatch(literal)
    if match is None:
        return None
    fraction = (match["fraction"] or b"").replace(b"_", b"")
    digits = (match["whole"].replace(b"_", b"") + fraction).lstrip(b"0")
    exponent = int(match["exponent"] or 0) - len(fraction)
    if not digits or max(len(digits), len(digits) + exponent) < _TELLING_DIGITS:
        return None
    significant = digits.rstrip(b"0")
    return significant, exponent + len(digits) - len(significant)


class ProtectedValues:
    """The constants of a statement that meet a protected column, and the search for repetitions of them.

    A text is repeated by the same text, and by an array with it as an element; a number by the same number in any spelling. Rows of
    VALUES may share numbers by chance (an ``id`` and a year), so each row is searched by itself.
    """

    def __init__(self, values: Iterable[tuple[bytes, int | None]], row_of: Callable[[int | None], int | None]) -> None:
        """Take the ``values`` with their offsets; ``row_of`` returns the number of the row at an offset, None outside of rows."""
        self.texts: set[bytes] = set()
        self._rows: dict[Number, set[int | None]] = {}
        self._row_of = row_of
        for value, offset in values:
            self.texts.add(value)
            number = telling_number(value)
            if number is not None:
                self._rows.setdefault(number, set()).add(row_of(offset))
        self.texts.discard(b"")

    def __bool__(self) -> bool:
        return bool(self.texts)

    def repeated_by(self, literal: bytes, offset: int | None) -> bool:
        """Tell whether a text literal at an offset repeats one of the values, or is an array that has one."""
        return literal in self.texts or self.repeated_by_number(literal, offset) or not self.texts.isdisjoint(elements_of(literal))

    def repeated_by_constant(self, constant: bytes, offset: int | None) -> bool:
        """Tell the same of a constant as it is spelled: a plain literal in quotes, or a number."""
        if constant[:1] == b"'":
            return self.repeated_by(literal_value(constant), offset)
        return self.repeated_by_number(constant, offset)

    def repeated_by_number(self, literal: bytes, offset: int | None) -> bool:
        """Tell whether a number at an offset repeats one of the values."""
        if not self._rows:
            return False
        number = telling_number(literal)
        rows = self._rows.get(number) if number is not None else None
        if rows is None:
            return False
        row = self._row_of(offset)
        return row is None or row in rows or None in rows


def checked_uses(a: Analysis) -> list[DecidedUse]:
    """Return the uses of a statement; StatementRefused where a value is protected in one use and not in another.

    ``SET ssn = 'x', city = 'x'``, ``SELECT ssn AS "x y" … WHERE ssn = 'x y'`` and ``SET age = '4713', room = 4713`` are refused:
    they would tell the server what is sealed.

    SELECT id FROM patients WHERE ssn = $1 AND city = $1
    → refused 0A000

    SELECT id FROM patients WHERE id = '5' AND ssn = '5'
    → refused 0A000
    """
    numbers = {n for u in a.uses if isinstance(u.use, Store | Search) for n in u.operand.numbers}
    values = ProtectedValues(_protected(a), _Rows(a).at)
    settled = []
    for u in a.uses:
        operand = u.operand
        protected = not numbers.isdisjoint(operand.numbers) or _repeats(values, operand)
        if isinstance(u.use, Nullness) and not protected and not _is_tested_only(a, u.operand):
            settled += [DecidedUse(part, PLAIN) for part in operand.parts or (operand,)]
            continue
        if isinstance(u.use, Plain) and protected and operand.kind != "null":
            raise _elsewhere(a, f"parameter ${operand.number}" if operand.kind == "param" else "a literal", operand.offset)
        settled.append(u)
    if values:
        _check_others(a, values)
        check_names(a, values)
    return settled


def _is_tested_only(a: Analysis, operand: Operand) -> bool:
    """Tell whether a parameter of a source is tested for NULL wherever it stands, as a text: of any other type it may be none.

    INSERT INTO patients (id, mrn) VALUES (1, coalesce($1, 'M' || nextval('numbers')))
    → source: SELECT CASE WHEN ($1::pg_catalog.text) IS NULL THEN nextval('numbers') END
    """
    if not a.context.of_source or operand.kind != "param" or not all(declared.is_text for declared in operand.types):
        return False
    standing: int = sum(m["ParamRef"].get("number", 0) == operand.number for m in a.whole() if "ParamRef" in m)
    return sum(isinstance(u.use, Nullness) and u.operand.number == operand.number for u in a.uses) == standing


def _protected(a: Analysis) -> Iterator[tuple[bytes, int | None]]:
    """Yield the literals and numbers that meet a protected column, each with its byte offset."""
    for u in a.uses:
        if not isinstance(u.use, Store | Search):
            continue
        for operand in _with_parts(u.operand):
            if operand.kind == "constant":
                yield operand.literal, operand.offset
            elif operand.kind in ("literal", "formula"):
                said = _said(a, operand)
                of_array = elements_of(operand.literal) if u.use.column.type.element is not None else ()
                yield from ((value, operand.offset) for value in {*said, *of_array})


def _repeats(values: ProtectedValues, operand: Operand) -> bool:
    if operand.kind == "literal":
        return values.repeated_by(operand.literal, operand.offset)
    return operand.kind == "constant" and values.repeated_by_number(operand.literal, operand.offset)


def elements_of(literal: bytes) -> Iterator[bytes]:
    """Yield the elements of a literal that PostgreSQL would read as an array."""
    if literal.lstrip()[:1] not in (b"{", b"["):
        return
    try:
        yield from (e for e in array_from_text(literal).elements if e is not None)
    except ValueRefused:
        return


class _Rows:
    """The rows of a statement's VALUES, by the offsets of their first and last expressions."""

    def __init__(self, a: Analysis) -> None:
        self._a = a

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        lists = [m["valuesLists"] for m in self._a.whole() if len(m.get("valuesLists", ())) > 1]
        offsets = ([p for m in messages(row) if (p := location(m)) > 0] for rows in lists for row in rows)
        return sorted((min(own), max(own)) for own in offsets if own)

    def at(self, offset: int | None) -> int | None:
        """Return the number of the row at an offset, None outside of rows."""
        if offset is None:
            return None
        i = bisect_right(self._spans, offset, key=lambda span: span[0]) - 1
        return i if i >= 0 and offset <= self._spans[i][1] else None


def _check_others(a: Analysis, values: ProtectedValues) -> None:
    """Refuse a protected value that occurs where no rule has analysed a value."""
    seen = {
        location(only(operand.node)[1]) for u in a.uses for operand in _with_parts(u.operand)
    }  # some nodes are in the tree twice
    for walked in a.walks.values():
        for message in walked:
            if ("sval" not in message and "ival" not in message and "fval" not in message) or location(message) in seen:
                continue
            text, offset = message.get("sval"), location(message)
            if isinstance(text, dict):
                if values.repeated_by(encoded(text.get("sval", "")), offset):
                    raise _elsewhere(a, "a literal", offset)
            elif _is_number(message) and values.repeated_by_number(constant_text(message), offset):
                raise _elsewhere(a, "a number", offset)


# What stands in ``body`` for what is sealed, as ``markers.marker`` spells it, is no text of the client's.
_MARKERS = (rb"\x00", b"{}")


def check_definition(a: Analysis, texts: Iterable[bytes], body: Node) -> None:
    """Refuse DDL in which a sealed literal is also a name, or occurs in ``body``, which the server will see.

    ALTER TABLE patients ALTER ssn SET DEFAULT 'x', ALTER city SET DEFAULT 'x'
    → refused 0A000
    """
    values = ProtectedValues(((text, None) for text in texts if text not in _MARKERS), lambda _: None)
    if not values:
        return
    for message in messages(body):
        text = message.get("sval")
        if isinstance(text, dict) and not values.texts.isdisjoint((said := encoded(text.get("sval", "")), *elements_of(said))):
            why = "a literal of this definition is sealed in one place, and in clear in another"
            raise a.refuse(why, message, hint="Make one of the two by a statement of its own.")
    check_names(a, values)


def _is_number(message: Node) -> bool:
    return isinstance(message.get("ival"), dict) or isinstance(message.get("fval"), dict)


def check_names(a: Analysis, values: ProtectedValues) -> None:
    """Refuse a name that equals a protected value: reports name columns after what they count (``… AS "Influenza A"``).

    Names that need no quotes, such as ``m``, and names of existing relations and columns are not refused.

    SELECT id, city AS "123" FROM patients WHERE ssn = '123'
    → refused 0A000
    """
    columns = a.context.protection.column_names
    revealing = {decoded(v) for v in values.texts if len(v) > LONG_VALUE or not PLAIN_NAME.fullmatch(v)} - columns
    if not revealing:
        return

    def reveals(name: str) -> bool:
        return name in revealing or (name not in columns and values.repeated_by_number(name.encode(), None))

    for walked in a.walks.values():
        revealing_names = [
            (message, name) for message in walked for name in message.values() if isinstance(name, str) and reveals(name)
        ]
        others = _no_names(walked) if revealing_names else ()
        for message, name in revealing_names:
            if id(message) not in others and not _is_there(a, walked, name):
                why = "a name in this statement is a value that meets a protected column"
                raise a.refuse(why, message, hint="Give it another name, and put the value there in the application.")


def _no_names(walked: Iterable[Node]) -> set[int]:
    """Return the ids of messages whose texts are no names: constants, which are checked as such, and operators."""
    ids: set[int] = set()
    for message in walked:
        for key, value in message.items():
            if key in ("sval", "fval") and isinstance(value, dict):
                ids.add(id(value))
            elif key in ("operName", "useOp") or (key == "name" and str(message.get("kind", "")).startswith("AEXPR")):
                ids.update(id(only(part)[1]) for part in value)
    return ids


def _is_there(a: Analysis, walked: Iterable[Node], name: str) -> bool:
    """Tell whether a name is that of a relation of the statement or of one of its columns, which tells the server nothing."""
    relations = {message["relname"] for message in walked if "relname" in message}
    return any(
        relation.name == name or relation.column(name) is not None
        for relation in a.context.catalog.relations
        if relation.name in relations
    )


def _with_parts(operand: Operand) -> Iterator[Operand]:
    yield operand
    for part in operand.parts:
        yield from _with_parts(part)


def _said(a: Analysis, operand: Operand) -> frozenset[bytes]:
    try:
        return operand.values
    except ValueRefused as error:
        error.position = a.at(operand.offset)
        raise


def _elsewhere(a: Analysis, what: str, offset: int) -> StatementRefused:
    why = f"{what} meets a protected column and is used unprotected elsewhere in the statement"
    return StatementRefused(why, hint="Pass the unprotected use as a parameter of its own.", position=a.at(offset))
