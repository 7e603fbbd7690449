"""Readers of what a client gives and showers of what was opened, made once per plan; where both are text a value goes as it is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from phiproxy.errors import ValueRefused
from phiproxy.sql.result import Reveal
from phiproxy.sql.values.uses import Search, Store, Use
from phiproxy.types.casts import Cast, cast, explicit, midnight
from phiproxy.types.codecs import codec
from phiproxy.types.comparable_operands import compared, ordered
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import CheckViolated, NotReadExactly
from phiproxy.wire.arrays import Array, array_from_binary, array_from_text

Reader = Callable[[bytes, int, Styles], bytes | Array]
"""Takes a value of the wire, its format code and the session's styles."""


def reader(use: Use) -> Reader | None:
    """Return what reads the values of a use, or None where they go as they are."""
    if not isinstance(use, Store | Search) or use.given is None:
        return None
    assert use.given.type is not None
    return _of_each(use, use.given.type, scalar_reader(use, use.given.type, use.given.casts))


def input_reader(use: Store | Search) -> Reader:
    """Return what reads the values of a use as PostgreSQL does when they come, before it computes with any."""
    given = use.type if use.given is None or use.given.type is None else use.given.type
    own = codec(given)
    return _of_each(use, given, lambda value, code, styles: own.from_binary(value) if code else own.from_text(value, styles))


def _of_each(use: Store | Search, given: DeclaredType, one: Callable[[bytes, int, Styles], bytes]) -> Reader:
    """Return what reads a value by ``one``, of a use of elements each of them."""
    if not use.elements:
        return one

    def elements(value: bytes, code: int, styles: Styles) -> Array:
        array = array_from_binary(value, element_oid=given.oid) if code else array_from_text(value)
        return array.map(lambda element: one(element, code, styles))

    return elements


def scalar_reader(use: Store | Search, given: DeclaredType, casts: Sequence[DeclaredType]) -> Callable[[bytes, int, Styles], bytes]:
    """Return what reads one value that is given as a type, and then cast."""
    own, steps = codec(given), _steps(use, given, casts)
    if use.perhaps:
        steps = [perhaps(use)(step) for step in steps]
    elif any(declared.base is not None for declared in (*casts, use.type)) and not (isinstance(use, Store) and use.certain):
        steps = [partial(_judged, step) for step in steps]

    def read(value: bytes, code: int, styles: Styles) -> bytes:
        value = own.from_binary(value) if code else own.from_text(value, styles)
        for step in steps:
            value = step(value, styles)
        return value

    return read


def _judged(step: Cast, value: bytes, styles: Styles) -> bytes:
    """Say of a value that is none of its domain that PostgreSQL may not ask: it does when a row comes to it."""
    try:
        return step(value, styles)
    except CheckViolated as violated:
        raise NotReadExactly(
            f"{violated.message}, in a statement that may come to no row",
            hint="Leave such a value out; in INSERT … VALUES it is answered as PostgreSQL does.",
        ) from None


@contextmanager
def perhaps(use: Store | Search) -> Iterator[None]:
    """Say of an error in what PostgreSQL may not come to, as CASE and COALESCE choose, that it is not known to be one."""
    try:
        yield
    except ValueRefused:
        raise NotReadExactly(
            f"a value in a CASE or COALESCE is none for {use.column.label}, and whether it is asked for is not known here",
            hint="Send it only where it is stored.",
        ) from None


def _steps(use: Store | Search, given: DeclaredType, casts: Sequence[DeclaredType]) -> list[Cast]:
    steps: list[Cast] = []
    for other in casts:
        steps.append(explicit(given, other))
        given = other
    target = use.type
    if isinstance(use, Search):
        steps.append((compared if use.range is None else ordered)(target, given))
        if use.range is None and use.column.base is not None and target.family == "timestamptz":
            steps.append(midnight)  # no expression of an index is of this type: it is what is cut of a date
        return steps
    steps.append(cast(given, target, "assignment"))
    if not target.is_text:
        assign, typmod = codec(target).assign, target.typmod
        steps.append(lambda value, _styles: assign(value, typmod))
    return steps


def shown(reveal: Reveal, code: int, styles: Styles) -> Callable[[bytes], bytes] | None:
    """Return what writes an opened value of a result column in a format, or None where it goes as it is."""
    write, source = _writer(reveal.type, code, styles), reveal.column.shown_of
    if source is None:
        return write
    converted = explicit(source.type, reveal.type)
    if write is None:
        return lambda value: converted(value, styles)
    return lambda value: write(converted(value, styles))


def _writer(declared: DeclaredType, code: int, styles: Styles) -> Callable[[bytes], bytes] | None:
    if declared.is_text:
        return None
    own = codec(declared)
    if code == 1:
        return own.to_binary
    write = own.to_text
    return lambda value: write(value, styles)
