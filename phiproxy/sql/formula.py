"""Expressions of constants and parameters that the proxy evaluates itself: a closed table of functions over text (manual 9.4).

Each answers what PostgreSQL answers, NULLs included. Functions that an index may use are computed as the index is, upper and lower
case by the tables that were compared with the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from phiproxy.index.characters import ASCII, Characters
from phiproxy.index.texts import btrim, ltrim, rtrim
from phiproxy.index.transform import transform
from phiproxy.wire.values import check_text, cut_text

Text = bytes | None


@dataclass(frozen=True, slots=True)
class Formula:
    """A constant (``value``), a parameter (``number``) or a ``function`` of ``arguments``; ``limit`` is that of a cast.

    ``type_oid`` is the type that a parameter has there, ``expression`` what the function "index" makes of a text of ``characters``.
    """

    function: str = ""
    arguments: tuple[Formula, ...] = ()
    number: int = 0
    value: Text = None
    limit: int = 0
    type_oid: int = 0
    expression: str = ""
    characters: Characters = ASCII

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

    def of_constants(self, values: Iterator[bytes]) -> Formula:
        """Return the same of other constants, in the order of ``constants``."""
        if self.value is not None:
            return replace(self, value=next(values))
        return (
            replace(self, arguments=tuple(argument.of_constants(values) for argument in self.arguments)) if self.arguments else self
        )

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
            return None if found[0] is None else transform(self.expression, "text", self.characters).apply(found[0])
        strict = [value for value in found if value is not None]
        return STRICT[self.function][1](*strict) if len(strict) == len(found) else None


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
    "btrim": (range(1, 3), btrim),
    "ltrim": (range(1, 3), ltrim),
    "rtrim": (range(1, 3), rtrim),
    "||": (range(2, 3), _joined),
}
_OF_ALL: dict[str, Callable[[Sequence[Text]], Text]] = {"concat": _concat, "coalesce": _coalesce, "nullif": _nullif}
CASE_MAPPING = frozenset({"lower", "upper"})
EVALUATED = frozenset({*STRICT, "concat"})
