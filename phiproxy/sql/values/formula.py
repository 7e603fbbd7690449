"""Expressions of constants and parameters that the proxy evaluates itself: a closed table of functions over text (manual 9.4).

Each returns what PostgreSQL returns, also for NULL. Functions of blind indexes are computed as the index computes them; upper and
lower case follow the tables that were compared with the server's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from phiproxy.frozen import dataclass
from phiproxy.index.characters import ASCII, Characters
from phiproxy.index.text_functions import btrim, ltrim, rtrim
from phiproxy.index.transform import transform
from phiproxy.wire.bytea_and_text import check_text, cut_text

Text = bytes | None


class ParameterPath(Protocol):
    """A path into a document that parameters are in."""

    def subject(self, steps: Mapping[int, str], value: bytes) -> bytes:
        """Return what is compared with the path, by the values of its parameters; ValueRefused."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A constant (``value``), a parameter (``number``), or a ``function`` of ``arguments``.

    ``limit`` is the length of a cast to varchar(n). ``type_oid`` is the type that a parameter has in this context. ``expression``
    is the index expression that the function "index" computes of a text, by the case tables ``characters``. The function "path" is
    of the parameters in a ``path``, in their order, and a value that is compared with what is there.
    """

    function: str = ""
    arguments: tuple[Formula, ...] = ()
    number: int = 0
    value: Text = None
    limit: int = 0
    type_oid: int = 0
    expression: str = ""
    characters: Characters = ASCII
    path: ParameterPath | None = None

    def parameters(self) -> Iterator[Formula]:
        """Yield the parameters in the formula."""
        if self.number:
            yield self
        for argument in self.arguments:
            yield from argument.parameters()

    def constants(self) -> Iterator[bytes]:
        """Yield the constants in the formula."""
        if self.value is not None:
            yield self.value
        for argument in self.arguments:
            yield from argument.constants()

    def of_constants(self, values: Iterator[bytes]) -> Formula:
        """Return the same formula with other constants, given in the order of ``constants``."""
        if self.value is not None:
            return replace(self, value=next(values))
        return (
            replace(self, arguments=tuple(argument.of_constants(values) for argument in self.arguments)) if self.arguments else self
        )

    def evaluate(self, values: Sequence[Text]) -> Text:
        """Return the value; ``values`` are those of the parameters, from $1 on. Raises ValueRefused."""
        if self.number:
            value = values[self.number - 1]
            return None if value is None else check_text(value)
        if not self.function:
            return self.value
        evaluated = [argument.evaluate(values) for argument in self.arguments]
        if self.function == "cast":
            return None if evaluated[0] is None else cut_text(evaluated[0], self.limit)
        if self.function in _OF_ALL:
            return _OF_ALL[self.function](evaluated)
        if self.function == "index":
            return None if evaluated[0] is None else transform(self.expression, "text", self.characters).apply(evaluated[0])
        strict = [value for value in evaluated if value is not None]
        if self.path is not None and len(strict) == len(evaluated):
            steps = {argument.number: text.decode() for argument, text in zip(self.arguments[:-1], strict[:-1], strict=True)}
            return self.path.subject(steps, strict[-1])
        if self.function == "path":
            return None
        return STRICT[self.function][1](*strict) if len(strict) == len(evaluated) else None


def _nullif(values: Sequence[Text]) -> Text:
    value, other = values
    return None if value is not None and value == other else value


# What answers NULL where one of its arguments is NULL, with the numbers of arguments that it takes.
STRICT: dict[str, tuple[range, Callable[..., bytes]]] = {
    "btrim": (range(1, 3), btrim),
    "ltrim": (range(1, 3), ltrim),
    "rtrim": (range(1, 3), rtrim),
    "||": (range(2, 3), lambda one, other: one + other),
}
_OF_ALL: dict[str, Callable[[Sequence[Text]], Text]] = {
    "concat": lambda values: b"".join(value for value in values if value is not None),
    "coalesce": lambda values: next((value for value in values if value is not None), None),
    "nullif": _nullif,
}
EVALUATED = frozenset({*STRICT, "concat"})
