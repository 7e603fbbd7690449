"""Arithmetic of constants: ``date '2001-01-01' + 1``, ``… + interval '1 month'``, ``make_date(2001, 1, 1)``, ``1 + 1``.

The proxy computes what depends on no setting of the session and on no clock. Dates must be written with the year first, intervals
with units and without signs. Any other expression is no constant here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from phiproxy.errors import ValueRefused
from phiproxy.policy.column_types import builtin
from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.index_expressions import own_name
from phiproxy.sql.text.parse import Node, is_plain_call, only, strings
from phiproxy.sql.values.formula import Formula
from phiproxy.sql.values.operands import Operand, as_operand, cast_type
from phiproxy.types.arithmetic import Interval, OutOfRange, add_days, add_interval, days_between, integer, make_date, negative
from phiproxy.types.casts import explicit
from phiproxy.types.codecs import codec
from phiproxy.types.interval_input import read_interval
from phiproxy.types.styles import Styles

_SPELLED = {
    "int4": re.compile(rb"-?[0-9]+"),
    "date": re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    "timestamp": re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}(?: [0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)?"),
    "interval": re.compile(rb"[0-9]+ [a-z]+(?: [0-9]+ [a-z]+)*"),
}
_CASTS = frozenset({("date", "timestamp"), ("timestamp", "date")})
# Nobody writes more operators into one constant, and each is a call of a call.
_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class _Value:
    """A constant in canonical form, and the short name of its type."""

    type: str
    text: bytes

    @property
    def number(self) -> int:
        """The value of an integer."""
        return int(self.text)

    @property
    def interval(self) -> Interval:
        """The value of an interval."""
        return read_interval(self.text.decode(), Styles.CANONICAL, 0)


def arithmetic_operand(a: Analysis, node: Node) -> Operand | None:
    """Return arithmetic of constants as one constant, or None for any other expression.

    SELECT id FROM people WHERE born = date '2001-01-01' + 1
    → SELECT id FROM people WHERE tag(born) = tag(date '2001-01-01' + 1)

    INSERT INTO people (born) VALUES (make_date(2001, 1, 1) + interval '1 month')
    → INSERT INTO people (born) VALUES (envelope(make_date(2001, 1, 1) + interval '1 month'))

    INSERT INTO people (born) VALUES (current_date)
    → refused 0A000
    """
    kind, _ = only(node)
    if kind not in ("A_Expr", "FuncCall", "TypeCast") or as_operand(node) is not None:
        return None
    parts: list[Operand] = []
    try:
        value = _read(a, node, parts)
    except (OutOfRange, ValueRefused):
        return None  # the server would say what is wrong, or would not
    if value is None or value.type == "interval":
        return None
    a.answer.by_value = True
    formula = Formula(value=value.text)
    return Operand("literal", node, node, (), literal=value.text, formula=formula, parts=tuple(parts), own=builtin(value.type))


def _read(a: Analysis, node: Node, parts: list[Operand], depth: int = 0) -> _Value | None:
    operand = as_operand(node)
    if operand is not None:
        parts.append(operand)
        return _constant(operand)
    kind, body = only(node)
    if kind == "TypeCast" and depth < _DEEPEST:
        target, inner = cast_type(body), _read(a, body["arg"], parts, depth + 1)
        return None if inner is None or target is None else _cast(inner, target)
    name, arguments = _call(a, kind, body)
    if name not in _NAMES or depth == _DEEPEST:
        return None
    operands = [_read(a, argument, parts, depth + 1) for argument in arguments]
    values = [operand for operand in operands if operand is not None]
    rule = _RULES.get((name, *(operand.type for operand in values)))
    return None if rule is None or len(values) < len(operands) else _Value(rule[0], rule[1](*values))


def _call(a: Analysis, kind: str, body: Node) -> tuple[str, list[Node]]:
    """Return the name of PostgreSQL's own function or operator, and its operands; an empty name for any other."""
    if kind == "A_Expr" and body["kind"] == "AEXPR_OP" and "lexpr" in body:
        return own_name(a, strings(body["name"])), [body["lexpr"], body["rexpr"]]
    if kind == "FuncCall" and is_plain_call(body):
        return own_name(a, strings(body["funcname"])), body.get("args", [])
    return "", []


def _constant(operand: Operand) -> _Value | None:
    """Return a constant of the type of its cast, or of its own; None where its spelling may mean different values."""
    types = operand.types
    if operand.kind not in ("literal", "constant") or not types or types[0].typmod != -1:
        return None
    spelled = _SPELLED.get(types[0].family)
    if spelled is None or spelled.fullmatch(operand.literal) is None:
        return None
    read = codec(types[0]).from_text(operand.literal, Styles.CANONICAL)
    value: _Value | None = _Value(types[0].family, operand.literal if types[0].family == "interval" else read)
    for target in types[1:]:
        value = None if value is None else _cast(value, target)
    return value


def _cast(value: _Value, target: DeclaredType) -> _Value | None:
    if target.typmod != -1 or target.element is not None:
        return None
    if value.type == target.family:
        return value
    if (value.type, target.family) not in _CASTS:
        return None
    return _Value(target.family, explicit(builtin(value.type), target)(value.text, Styles.CANONICAL))


def _moved(moment: _Value, by: Interval) -> bytes:
    midnight = explicit(builtin("date"), builtin("timestamp"))
    return add_interval(midnight(moment.text, Styles.CANONICAL) if moment.type == "date" else moment.text, by)


_RULES: dict[tuple[str, ...], tuple[str, Callable[..., bytes]]] = {
    ("+", "int4", "int4"): ("int4", lambda x, y: integer(x.number + y.number)),
    ("-", "int4", "int4"): ("int4", lambda x, y: integer(x.number - y.number)),
    ("*", "int4", "int4"): ("int4", lambda x, y: integer(x.number * y.number)),
    ("+", "date", "int4"): ("date", lambda date, n: add_days(date.text, n.number)),
    ("+", "int4", "date"): ("date", lambda n, date: add_days(date.text, n.number)),
    ("-", "date", "int4"): ("date", lambda date, n: add_days(date.text, -n.number)),
    ("-", "date", "date"): ("int4", lambda one, other: days_between(one.text, other.text)),
    ("make_date", "int4", "int4", "int4"): ("date", lambda y, m, d: make_date(y.number, m.number, d.number)),
    **{("+", day, "interval"): ("timestamp", lambda x, by: _moved(x, by.interval)) for day in ("date", "timestamp")},
    **{("-", day, "interval"): ("timestamp", lambda x, by: _moved(x, negative(by.interval))) for day in ("date", "timestamp")},
    **{("+", "interval", day): ("timestamp", lambda by, x: _moved(x, by.interval)) for day in ("date", "timestamp")},
}
_NAMES = frozenset(rule[0] for rule in _RULES)
