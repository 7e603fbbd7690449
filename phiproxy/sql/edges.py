"""Ranges as what indexes can have: the whole years, months, days or single values of which they are made, if they are.

``extract(year from dob) IN (1980, 1981)`` is true of exactly the values of which ``dob >= '1980-01-01' AND dob < '1982-01-01'`` is,
so nothing is filtered afterwards; of every other range it is said that no index answers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from phiproxy.index.periods import Axis, Period, Unbounded, axis, cover, period, span
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, read
from phiproxy.index.transform import transform
from phiproxy.sql.pattern import NotAnswered

MOST = 1000
"""Tags of one range: what a search gives the server, and the proxy computes, must have an end."""

Closed = tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Ends:
    """The operators of the two ends of a range, ``>=`` and ``<``; ``pair`` is its number in the statement.

    ``symmetric``: which of them is the lower one is not known. ``filter``: where it stands, NULL is as good as false.
    """

    pair: int
    lower: str = ">="
    upper: str = "<="
    symmetric: bool = False
    filter: bool = False

    @property
    def closed(self) -> Closed:
        """Whether the bounds are part of it."""
        return self.lower == ">=", self.upper == "<="


@dataclass(frozen=True, slots=True)
class Range:
    """One index that may answer a range, or have a part of it; it is the one numbered ``own`` among ``parts``.

    These are what each index makes of a value, in phiproxy's own spelling, over a value of ``type``, which is itself what
    ``over`` is. ``upper``: this is the upper end, in whose place the server gets the ``word``.
    ``hint`` says what would be answered, ``owner`` of which column.
    """

    parts: tuple[str, ...]
    type: str
    over: str
    own: int
    ends: Ends
    owner: str
    hint: str
    upper: bool = False
    word: bytes = b""

    @property
    def operator(self) -> str:
        """The operator of this end."""
        return self.ends.upper if self.upper else self.ends.lower

    def subjects(self, lower: bytes | None, upper: bytes | None) -> list[bytes] | None:
        """Return what this index must have one of, in canonical form; None where the whole is NULL. NotAnswered."""
        if lower is None or upper is None:
            if self.ends.filter or self.ends.symmetric or lower is upper:
                return None
            raise NotAnswered(
                f"no blind index answers a range over {self.owner} one end of which is NULL",
                hint="Leave the condition out, or give both ends.",
            )
        of = _axis(self.type, self.over)
        try:
            found = self._span(of, lower, upper)
        except Unbounded:
            raise self._refused() from None
        if found is None:
            return []
        if isinstance(found, bytes):
            return [self._made(found)] if not self.own else []
        covered = cover([_period(part, of) for part in self.parts], *found, MOST)
        if covered is None:
            raise self._refused()
        return [self._made(of.value(number)) for number in covered[self.own]]

    def _span(self, of: Axis, lower: bytes, upper: bytes) -> tuple[int, int] | bytes | None:
        found = span(of, lower, upper, closed=self.ends.closed)
        return span(of, upper, lower, closed=self.ends.closed) if found is None and self.ends.symmetric else found

    def _made(self, value: bytes) -> bytes:
        made = transform(self.parts[self.own], self.type).apply(value)
        assert made is not None
        return made

    def _refused(self) -> NotAnswered:
        return NotAnswered(f"no blind index answers this range over {self.owner}", hint=self.hint)


def _period(part: str, of: Axis) -> Period:
    found = period(part, of)
    assert found is not None
    return found


@lru_cache(maxsize=256)
def _axis(type_name: str, over: str) -> Axis:
    found = axis(type_name, read(over))
    assert found is not None
    return found


def within(expression: Expression, over: Expression) -> Expression | None:
    """Return an expression with ``over`` in it as the column: what it makes of that; None where it is made of something else."""
    if expression == over:
        return Column()
    match expression:
        case Constant():
            return expression
        case Cast(argument=argument, type=target):
            inner = within(argument, over)
            return None if inner is None else Cast(inner, target)
        case Call(name=name, arguments=arguments):
            made = [within(argument, over) for argument in arguments]
            known = tuple(argument for argument in made if argument is not None)
            return Call(name, known) if len(known) == len(made) else None
    return None
