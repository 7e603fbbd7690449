"""The closed table: which functions an index may use, over which types, with which constants.

A row may be added but never changed without a new normaliser version: tags made by it are in databases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from phiproxy.index import texts
from phiproxy.index.characters import Characters

INTEGERS = range(-(2**31), 2**31)
TEXTS = frozenset({"text", "varchar", "bpchar", "citext"})
# Functions of their own over citext, which ignore case, where those over text do not.
PLAIN_TEXTS = TEXTS - {"citext"}

Apply = Callable[[bytes], bytes | None]


class Misused(ValueError):
    """A constant with which PostgreSQL's function would fail, or that is not in the table; the text says what is."""


@dataclass(frozen=True, slots=True)
class Step:
    """One function with its constants: ``apply`` to the canonical bytes of its operand. ``total``: never None."""

    result: str
    apply: Apply
    total: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One function of the table. ``usage`` is how it is written, ``operand`` the place of what is indexed among its arguments.

    ``constants`` are the types of the others; the last ``optional`` of them may be left out. ``build`` makes a step of them, for
    an operand of one of the types that it ``takes``; texts come as text.
    """

    usage: str
    takes: frozenset[str]
    build: Callable[[str, Sequence[Any], Characters], Step]
    constants: tuple[type, ...] = ()
    optional: int = 0
    operand: int = 0


def row(name: str) -> Row | None:
    """Return the row of a function, or None."""
    return _ROWS.get(name)


def usages() -> Iterator[str]:
    """Yield how each function is written."""
    return (found.usage for found in _ROWS.values())


def _lower(_operand: str, _constants: Sequence[Any], characters: Characters) -> Step:
    return Step("text", characters.lower)


def _upper(_operand: str, _constants: Sequence[Any], characters: Characters) -> Step:
    return Step("text", characters.upper)


def _of_text(function: Callable[..., bytes], result: str = "text") -> Callable[[str, Sequence[Any], Characters], Step]:
    """Build a step of a function over text: its constants come behind the value, strings as UTF-8."""

    def build(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
        values = [c.encode() if isinstance(c, str) else c for c in constants]
        return Step(result, (lambda value: function(value, *values)) if values else function)

    return build


def _substring(_operand: str, constants: Sequence[Any], _characters: Characters) -> Step:
    start, count = (*constants, None)[:2]
    if count is not None and count < 0:
        raise Misused("a negative length is an error of substring")
    return Step("text", partial(texts.substring, start=start, count=count))


_ROWS = {
    "lower": Row("lower(@)", TEXTS, _lower),
    "upper": Row("upper(@)", TEXTS, _upper),
    "btrim": Row("btrim(@[,'characters'])", TEXTS, _of_text(texts.btrim), (str,), optional=1),
    "ltrim": Row("ltrim(@[,'characters'])", TEXTS, _of_text(texts.ltrim), (str,), optional=1),
    "rtrim": Row("rtrim(@[,'characters'])", TEXTS, _of_text(texts.rtrim), (str,), optional=1),
    "left": Row("left(@,n)", TEXTS, _of_text(texts.left), (int,)),
    "right": Row("right(@,n)", TEXTS, _of_text(texts.right), (int,)),
    "substring": Row("substring(@,from[,for])", TEXTS, _substring, (int, int), optional=1),
    "length": Row("length(@)", TEXTS, _of_text(texts.length, "int4")),
}
