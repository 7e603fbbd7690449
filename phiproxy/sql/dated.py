"""Constants written as arithmetic: ``date '2001-01-01' + 1``, ``… + interval '1 month'``, ``make_date(2001, 1, 1)``, ``1 + 1``.

The proxy computes those whose value depends on nothing: no setting of the session, no clock. Dates are written year first then,
intervals with their units and no signs. Everything else is no constant here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from phiproxy.errors import ValueRefused
from phiproxy.policy.protection import DeclaredType
from phiproxy.policy.types import builtin
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.derived import own_name
from phiproxy.sql.formula import Formula
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.sinks import SinkNode, as_sink, cast_type
from phiproxy.types.arithmetic import Interval, OutOfRange, add_days, add_interval, days_between, integer, make_date, negative
from phiproxy.types.casts import explicit
from phiproxy.types.intervalinput import read_interval
from phiproxy.types.registry import codec
from phiproxy.types.styles import Styles

_SPELLED = {
    "int4": re.compile(rb"-?[0-9]+"),
    "date": re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    "timestamp": re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}(?: [0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)?"),
    "interval": re.compile(rb"[0-9]+ [a-z]+(?: [0-9]+ [a-z]+)*"),
}
_CASTS = frozenset({("date", "timestamp"), ("timestamp", "date")})
_PLAIN_CALL = {"funcname", "args", "funcformat", "location"}
# Nobody writes more operators into one constant, and each is a call of a call.
_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class _Value:
    """A constant of a type, by its short name, in canonical form."""

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


def dated_sink(a: Analysis, node: Node) -> SinkNode | None:
    """Return an expression of constants as a constant of its type, or None for any other expression."""
    kind, _ = only(node)
    if kind not in ("A_Expr", "FuncCall", "TypeCast") or as_sink(node) is not None:
        return None
    parts: list[SinkNode] = []
    try:
        found = _read(a, node, parts)
    except (OutOfRange, ValueRefused):
        return None  # the server would say what is wrong, or would not
    if found is None or found.type == "interval":
        return None
    a.meaning.by_value = True
    made = Formula(value=found.text)
    return SinkNode("literal", node, node, (), literal=found.text, formula=made, parts=tuple(parts), own=builtin(found.type))


def _read(a: Analysis, node: Node, parts: list[SinkNode], depth: int = 0) -> _Value | None:
    sink = as_sink(node)
    if sink is not None:
        parts.append(sink)
        return _constant(sink)
    kind, body = only(node)
    if kind == "TypeCast" and depth < _DEEPEST:
        target, inner = cast_type(body), _read(a, body["arg"], parts, depth + 1)
        return None if inner is None or target is None else _cast(inner, target)
    name, operands = _call(a, kind, body)
    if name not in _NAMES or depth == _DEEPEST:
        return None
    return _computed(name, [_read(a, operand, parts, depth + 1) for operand in operands])


def _call(a: Analysis, kind: str, body: Node) -> tuple[str, list[Node]]:
    """Return the name of a function or operator of the server's own, else an empty one, and its operands."""
    if kind == "A_Expr" and body["kind"] == "AEXPR_OP" and "lexpr" in body:
        return own_name(a, strings(body["name"])), [body["lexpr"], body["rexpr"]]
    if kind == "FuncCall" and not set(body) - _PLAIN_CALL:
        return own_name(a, strings(body["funcname"])), body.get("args", [])
    return "", []


def _constant(sink: SinkNode) -> _Value | None:
    """Return a constant whose type its cast says, or its own, where its spelling is the same in every session."""
    types = sink.types
    if sink.kind not in ("literal", "constant") or not types or types[0].typmod != -1:
        return None
    spelled = _SPELLED.get(types[0].family)
    if spelled is None or spelled.fullmatch(sink.literal) is None:
        return None
    read = codec(types[0]).from_text(sink.literal, Styles.CANONICAL)
    found: _Value | None = _Value(types[0].family, sink.literal if types[0].family == "interval" else read)
    for target in types[1:]:
        found = None if found is None else _cast(found, target)
    return found


def _cast(value: _Value, target: DeclaredType) -> _Value | None:
    if target.typmod != -1 or target.element is not None:
        return None
    if value.type == target.family:
        return value
    if (value.type, target.family) not in _CASTS:
        return None
    return _Value(target.family, explicit(builtin(value.type), target)(value.text, Styles.CANONICAL))


def _computed(name: str, operands: list[_Value | None]) -> _Value | None:
    known = [operand for operand in operands if operand is not None]
    rule = _RULES.get((name, *(operand.type for operand in known)))
    if rule is None or len(known) < len(operands):
        return None
    result, function = rule
    return _Value(result, function(*known))


def _midnight(date: _Value) -> bytes:
    return explicit(builtin("date"), builtin("timestamp"))(date.text, Styles.CANONICAL)


def _later(moment: _Value, by: _Value) -> bytes:
    return add_interval(_midnight(moment) if moment.type == "date" else moment.text, by.interval)


def _earlier(moment: _Value, by: _Value) -> bytes:
    return add_interval(_midnight(moment) if moment.type == "date" else moment.text, negative(by.interval))


_RULES: dict[tuple[str, ...], tuple[str, Callable[..., bytes]]] = {
    ("+", "int4", "int4"): ("int4", lambda x, y: integer(x.number + y.number)),
    ("-", "int4", "int4"): ("int4", lambda x, y: integer(x.number - y.number)),
    ("*", "int4", "int4"): ("int4", lambda x, y: integer(x.number * y.number)),
    ("+", "date", "int4"): ("date", lambda date, n: add_days(date.text, n.number)),
    ("+", "int4", "date"): ("date", lambda n, date: add_days(date.text, n.number)),
    ("-", "date", "int4"): ("date", lambda date, n: add_days(date.text, -n.number)),
    ("-", "date", "date"): ("int4", lambda one, other: days_between(one.text, other.text)),
    ("make_date", "int4", "int4", "int4"): ("date", lambda y, m, d: make_date(y.number, m.number, d.number)),
    **{("+", moment, "interval"): ("timestamp", _later) for moment in ("date", "timestamp")},
    **{("-", moment, "interval"): ("timestamp", _earlier) for moment in ("date", "timestamp")},
    **{("+", "interval", moment): ("timestamp", lambda by, x: _later(x, by)) for moment in ("date", "timestamp")},
}
_NAMES = frozenset(rule[0] for rule in _RULES)
