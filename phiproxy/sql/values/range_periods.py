"""Ranges as what indexes can answer: the whole years, months, days or single values that they consist of.

``extract(year from dob) IN (1980, 1981)`` is true for exactly the values for which ``dob >= '1980-01-01' AND dob < '1982-01-01'``
is, so nothing has to be filtered afterwards. No index answers a range that consists of no such periods.
"""

from dataclasses import dataclass
from functools import lru_cache

from phiproxy.index.cover_range import Axis, Period, Unbounded, axis, cover, period, span
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, read
from phiproxy.index.transform import transform
from phiproxy.sql.values.patterns import NotAnswered

MOST = 1000
"""Tags of one range: what a search gives the server, and the proxy computes, must have an end."""

Closed = tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class RangeBounds:
    """The operators of the two bounds of a range, such as ``>=`` and ``<``; ``pair`` is the range's number in the statement.

    ``symmetric``: either bound may be the lower one. ``filter``: NULL counts as false where the range stands.
    """

    pair: int
    lower: str = ">="
    upper: str = "<="
    symmetric: bool = False
    filter: bool = False

    @property
    def closed(self) -> Closed:
        """Whether each bound belongs to the range."""
        return self.lower == ">=", self.upper == "<="


@dataclass(frozen=True, slots=True)
class Range:
    """One index that may answer a range, or a part of it: number ``own`` of ``parts``.

    ``parts`` are the expressions of all indexes that may answer, in phiproxy's spelling, over a value of ``type``; ``over`` is what
    that value is of the column. ``upper``: this is the upper bound, in whose place the server gets the ``word``. ``hint`` tells
    which ranges of ``owner`` are answered.
    """

    parts: tuple[str, ...]
    type: str
    over: str
    own: int
    bounds: RangeBounds
    owner: str
    hint: str
    upper: bool = False
    word: bytes = b""

    @property
    def operator(self) -> str:
        """The operator of this bound."""
        return self.bounds.upper if self.upper else self.bounds.lower

    def subjects(self, lower: bytes | None, upper: bytes | None) -> list[bytes] | None:
        """Return canonical values of which the index must have one; None: the condition is NULL. NotAnswered: no whole periods."""
        if lower is None or upper is None:
            if self.bounds.filter or self.bounds.symmetric or lower is upper:
                return None
            why = f"no blind index answers a range over {self.owner} one end of which is NULL"
            raise NotAnswered(why, hint="Leave the condition out, or give both ends.")
        of = _axis(self.type, self.over)
        try:
            period_span = span(of, lower, upper, closed=self.bounds.closed)
            if period_span is None and self.bounds.symmetric:
                period_span = span(of, upper, lower, closed=self.bounds.closed)
        except Unbounded:
            raise self._refused() from None
        if period_span is None:
            return []
        if isinstance(period_span, bytes):
            return [self._transformed(period_span)] if not self.own else []
        covered = cover([_period(part, of) for part in self.parts], *period_span, MOST)
        if covered is None:
            raise self._refused()
        return [self._transformed(of.value(number)) for number in covered[self.own]]

    def _transformed(self, value: bytes) -> bytes:
        transformed = transform(self.parts[self.own], self.type).apply(value)
        assert transformed is not None
        return transformed

    def _refused(self) -> NotAnswered:
        return NotAnswered(f"no blind index answers this range over {self.owner}", hint=self.hint)


def _period(part: str, of: Axis) -> Period:
    read_period = period(part, of)
    assert read_period is not None
    return read_period


@lru_cache(maxsize=256)
def _axis(type_name: str, over: str) -> Axis:
    read_axis = axis(type_name, read(over))
    assert read_axis is not None
    return read_axis


def within(expression: Expression, over: Expression) -> Expression | None:
    """Return an expression with ``over`` replaced by the column; None where it is made of something else."""
    if expression == over:
        return Column()
    match expression:
        case Constant():
            return expression
        case Cast(argument=argument, type=target):
            inner = within(argument, over)
            return None if inner is None else Cast(inner, target)
        case Call(name=name, arguments=arguments):
            inside = [within(argument, over) for argument in arguments]
            readable = tuple(argument for argument in inside if argument is not None)
            return Call(name, readable) if len(readable) == len(inside) else None
    return None
