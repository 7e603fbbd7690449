"""Conditions that proxies evaluate, as SQL again: what ``check_evaluation`` keeps as data, over a column that is in clear."""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from phiproxy.policy.check_evaluation import VERSION
from phiproxy.policy.identifiers import literal, shown_expression

_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_INFIX: Final = frozenset({"=", "<>", "<", "<=", ">", ">="})
_PATTERNS: Final = {"~": "~", "!~": "!~", "~*": "~*", "!~*": "!~*", "~~": "LIKE", "!~~": "NOT LIKE"}
_CALLS: Final = {
    "length": "length", "octet_length": "octet_length", "octets": "octet_length", "lower": "lower", "upper": "upper",
    "btrim": "btrim", "ltrim": "ltrim", "rtrim": "rtrim",
}  # fmt: skip
_EXTRACT: Final = re.compile(r"\bextract\('(\w+)',")
# Of a value these only say as what it is compared, which its type says to the server.
_SAME: Final = frozenset({"number", "day", "moment", "double", "single", "truth"})


def condition_sql(text: bytes, value: str) -> str:
    """Return a condition that ``check_evaluation.written`` made as SQL, over ``value``, an SQL expression; ValueError for another.

    ``condition_sql(b'{"condition": ["<>", ["value"], ["constant", ""]], "version": 1}', "ssn")`` is ``(ssn <> '')``.
    """
    read = json.loads(text)
    if read["version"] != VERSION:
        raise ValueError("a condition of another version")
    return _sql(read["condition"], value)


def _sql(tree: list[Any], value: str) -> str:
    kind, *parts = tree
    if kind == "value":
        return value
    if kind == "constant":
        return _constant(parts[0])
    if kind == "index":
        return f"({expression_sql(parts[0], _sql(parts[2], value))})"
    if kind in _SAME:
        return _compared(parts[0], value)
    if kind in _PATTERNS:
        escape = f" ESCAPE {_constant(parts[2])}" if len(parts) > 2 else ""
        return f"({_sql(parts[0], value)} {_PATTERNS[kind]} {_constant(parts[1])}{escape})"
    inside = [_sql(part, value) for part in parts]
    if kind in _INFIX:
        return f"({inside[0]} {kind} {inside[1]})"
    if kind in _CALLS:
        return f"pg_catalog.{_CALLS[kind]}({', '.join(inside)})"
    if kind in _JOINED:
        return _JOINED[kind](inside)
    raise ValueError("not a condition")


def expression_sql(expression: str, over: str) -> str:
    """Return an index expression, in phiproxy's own spelling, as the server reads it: ``extract('year',@)`` has a grammar there."""
    return shown_expression(_EXTRACT.sub(r"extract(\1 FROM ", expression), over)


_JOINED: Final[dict[str, Callable[[list[str]], str]]] = {
    "and": lambda inside: f"({' AND '.join(inside)})",
    "or": lambda inside: f"({' OR '.join(inside)})",
    "not": lambda inside: f"(NOT {inside[0]})",
    "null": lambda inside: f"({inside[0]} IS NULL)",
    "distinct": lambda inside: f"({inside[0]} IS DISTINCT FROM {inside[1]})",
}


def _compared(part: list[Any], value: str) -> str:
    """Return a value as it is; a constant, which is in canonical form, as a number where it is one."""
    if part[0] == "constant" and isinstance(part[1], str) and _NUMBER.fullmatch(part[1]):
        return part[1] if not part[1].startswith("-") else f"({part[1]})"
    if part[0] == "constant" and part[1] in ("t", "f"):
        return "true" if part[1] == "t" else "false"
    return _sql(part, value)


def _constant(constant: object) -> str:
    if constant is None:
        return "NULL"
    if isinstance(constant, bool):
        return "true" if constant else "false"
    if isinstance(constant, int):
        return str(constant) if constant >= 0 else f"({constant})"
    return literal(str(constant))
