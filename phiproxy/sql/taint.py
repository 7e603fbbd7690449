"""Taint (sql.md section 2): what meets a protected column once may be nothing unprotected elsewhere in the statement."""

from __future__ import annotations

from collections.abc import Iterator

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.analysis import Analysis, DecidedUse
from phiproxy.sql.meaning import PLAIN, Nullness, Plain, Search, Store
from phiproxy.sql.parse import location, only
from phiproxy.sql.shape import PLAIN_NAME
from phiproxy.sql.sinks import SinkNode
from phiproxy.wire.arrays import array_from_text


def untainted(a: Analysis) -> list[DecidedUse]:
    """Return the uses of a statement, decided; StatementRefused where one is protected in one place and not in another."""
    numbers = {n for u in a.uses if isinstance(u.use, Store | Search) for n in u.sink.numbers}
    literals = {v for u in a.uses if isinstance(u.use, Store | Search) for v in _said(a, u.sink)} - {b""}
    settled = []
    for u in a.uses:
        sink = u.sink
        protected = not numbers.isdisjoint(sink.numbers) or (sink.kind == "literal" and says(sink.literal, literals))
        if isinstance(u.use, Nullness) and not protected:
            settled += [DecidedUse(part, PLAIN) for part in sink.parts or (sink,)]
            continue
        if isinstance(u.use, Plain) and protected and sink.kind != "null":
            raise _elsewhere(a, f"parameter ${sink.number}" if sink.kind == "param" else "a literal", sink.offset)
        settled.append(u)
    if literals:
        _check_others(a, literals)
        _check_names(a, literals)
    return settled


def says(literal: bytes, values: set[bytes]) -> bool:
    """Tell whether a literal is one of these values, or as an array holds one."""
    if literal in values:
        return True
    if literal.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        return not values.isdisjoint(e for e in array_from_text(literal).elements if e is not None)
    except ValueRefused:
        return False  # no array to PostgreSQL either


def _check_others(a: Analysis, literals: set[bytes]) -> None:
    """Refuse a protected literal in a place that no rule has looked at as a value."""
    seen = {location(only(sink.node)[1]) for u in a.uses for sink in _with_parts(u.sink)}  # some nodes are in the tree twice
    for walked in a.walks.values():
        for message in walked:
            constant = message.get("sval")
            if isinstance(constant, dict) and location(message) not in seen and says(constant.get("sval", "").encode(), literals):
                raise _elsewhere(a, "a literal", location(message))


def _check_names(a: Analysis, literals: set[bytes]) -> None:
    """Refuse a name that is a protected value: reports give one to the column that counts it (``… AS "Influenza"``).

    Not one that needs no quotes, such as ``m``: those are what people call tables too.
    """
    telling = {value.decode() for value in literals if not PLAIN_NAME.fullmatch(value)} - a.context.protection.column_names
    for walked in a.walks.values():
        for message in walked if telling else ():
            for key in _NAMES:
                name = message.get(key)
                if isinstance(name, str) and name in telling:
                    raise a.refuse(
                        "a name in this statement is a value that meets a protected column",
                        message,
                        hint="Give it another name, and put the value there in the application.",
                    )


# Of an output, a relation in FROM, and a query of WITH.
_NAMES = ("name", "aliasname", "ctename")


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
