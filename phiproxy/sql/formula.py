"""Expressions of constants and parameters that the proxy evaluates itself: a closed table of functions over text (manual 9.4).

Each answers what PostgreSQL answers, NULLs included. Case mapping beyond ASCII depends on the server's libraries and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from phiproxy.errors import ValueRefused
from phiproxy.index.transform import transform
from phiproxy.wire.values import check_text, cut_text

Text = bytes | None


class NotComputed(ValueRefused):
    """A function of a value whose result the proxy does not know (0A000)."""

    sqlstate = "0A000"


@dataclass(frozen=True, slots=True)
class Formula:
    """A constant (``value``), a parameter (``number``) or a ``function`` of ``arguments``; ``limit`` is that of a cast.

    ``type_oid`` is the type that a parameter has there, ``expression`` what the function "index" makes of a text.
    """

    function: str = ""
    arguments: tuple[Formula, ...] = ()
    number: int = 0
    value: Text = None
    limit: int = 0
    type_oid: int = 0
    expression: str = ""

    def parameters(self) -> Iterator[Formula]:
        """Yield the parameters in it."""
        if self.number:
            yield self
        for argument in self.arguments:
            yield from argument.parameters()

    def constants(self) -> Iterator[bytes]:
        """Yield the values written in it."""
        if self.value is not None:
            yield self.value
        for argument in self.arguments:
            yield from argument.constants()

    def evaluate(self, values: Sequence[Text]) -> Text:
        """Return its value; ``values`` are those of the parameters from the first on. ValueRefused."""
        if self.number:
            value = values[self.number - 1]
            return None if value is None else check_text(value)
        if not self.function:
            return self.value
        found = [argument.evaluate(values) for argument in self.arguments]
        if self.function == "cast":
            return None if found[0] is None else cut_text(found[0], self.limit)
        if self.function in _OF_ALL:
            return _OF_ALL[self.function](found)
        if self.function == "index":
            return None if found[0] is None else transform(self.expression, "text").apply(found[0])
        strict = [value for value in found if value is not None]
        return STRICT[self.function][1](*strict) if len(strict) == len(found) else None


def _lower(value: bytes) -> bytes:
    return _ascii(value).lower()


def _upper(value: bytes) -> bytes:
    return _ascii(value).upper()


def _ascii(value: bytes) -> bytes:
    if not value.isascii():
        raise NotComputed(
            "lower() and upper() of a value for a protected column are computed here only where it is ASCII",
            hint="Compute it in the application.",
        )
    return value


def _stripped(value: str, of: bytes, *, left: bool, right: bool) -> bytes:
    characters = of.decode()
    if characters and left:
        value = value.lstrip(characters)
    if characters and right:
        value = value.rstrip(characters)
    return value.encode()


def _btrim(value: bytes, of: bytes = b" ") -> bytes:
    return _stripped(value.decode(), of, left=True, right=True)


def _ltrim(value: bytes, of: bytes = b" ") -> bytes:
    return _stripped(value.decode(), of, left=True, right=False)


def _rtrim(value: bytes, of: bytes = b" ") -> bytes:
    return _stripped(value.decode(), of, left=False, right=True)


def _joined(one: bytes, other: bytes) -> bytes:
    return one + other


def _concat(values: Sequence[Text]) -> Text:
    return b"".join(value for value in values if value is not None)


def _coalesce(values: Sequence[Text]) -> Text:
    return next((value for value in values if value is not None), None)


def _nullif(values: Sequence[Text]) -> Text:
    value, other = values
    return None if value is not None and value == other else value


# What answers NULL where one of its arguments is NULL, with the numbers of arguments that it takes.
STRICT: dict[str, tuple[range, Callable[..., bytes]]] = {
    "lower": (range(1, 2), _lower),
    "upper": (range(1, 2), _upper),
    "btrim": (range(1, 3), _btrim),
    "ltrim": (range(1, 3), _ltrim),
    "rtrim": (range(1, 3), _rtrim),
    "||": (range(2, 3), _joined),
}
_OF_ALL: dict[str, Callable[[Sequence[Text]], Text]] = {"concat": _concat, "coalesce": _coalesce, "nullif": _nullif}
CASE_MAPPING = frozenset({"lower", "upper"})
EVALUATED = frozenset({*STRICT, "concat"})
