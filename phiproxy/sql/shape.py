"""The shape of a text: what is left of it without its constants, found without a parse.

Two texts of one shape differ only in their string literals and numbers, so what was understood of the one is true of the other
wherever the value of a constant decides nothing (``free_constants``). A form that this module does not know has no shape: it is
analysed in full. Lexical rules: manual 4.1, with standard_conforming_strings on (``escapes``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from phiproxy.sql.parse import Node, Statement, is_node, location, only

# Quoted identifiers are stepped over; comments, dollar quotes, prefixed and continued literals make a text shapeless (the last
# alternative). A number that touches a letter, a dot or a dollar sign is part of something else and stays in the gap, and so does
# a parameter that does.
# One set of bytes that any of them begins with comes first: the search is ten times as fast where nothing begins.
_PIECE = re.compile(
    rb"""
      ["'0-9\-/$] (?:
          (?<=") [^"]*"
        | (?P<string> (?<=') (?<![\w$&\x80-\xff]') [^']*+(?:''[^']*+)*+' (?!\s*') )
        | (?P<number> (?<=[0-9]) (?<![\w$.\x80-\xff][0-9]) (?<![0-9.][eE][-+][0-9]) [0-9]*+(?:\.[0-9]++)? (?![\w.$\x80-\xff]) )
        | (?P<parameter> (?<=\$) (?<![\w$\x80-\xff]\$) [1-9][0-9]{0,4}+ (?![\w$\x80-\xff]) )
        | (?P<other> (?<=-)- | (?<=/)\* | (?<=\$)(?![0-9]) | (?<=['"]) )
      )
    """,
    re.VERBOSE,
)


# What an identifier may be without quotes.
PLAIN_NAME = re.compile(rb"[a-z_][a-z0-9_$]*")
_QUOTED = re.compile(rb'"((?:[^"]|"")*)"')
# What stays in a gap of numbers: 4713., 47.13e2, .4713, 0x1269 and 4_713.
_LEFT = re.compile(
    rb"""
      "[^"]*"
    | (?<![\w$.\x80-\xff]) (?P<number>
        0[xXoObB][0-9a-fA-F_]++ | (?: [0-9][0-9_]*+ (?:\.[0-9_]*+)?+ | \.[0-9][0-9_]*+ ) (?:[eE][+-]?[0-9]++)?+ )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """``gaps[i]`` stands before ``constants[i]``, and one more gap at the end; ``starts`` are the constants' byte offsets.

    ``key`` is equal for two texts exactly when their gaps and the kinds of their constants are.
    """

    gaps: tuple[bytes, ...]
    constants: tuple[bytes, ...]
    starts: tuple[int, ...]
    key: bytes


def shape_of(text: bytes, *, parameters: bool = False) -> Shape | None:
    """Return the shape of a text, or None where it holds a form that is not modelled.

    ``parameters``: these are taken out of the gaps too, as constants of a kind of their own.
    """
    gaps: list[bytes] = []
    constants: list[bytes] = []
    starts: list[int] = []
    parts: list[bytes] = []
    before = 0
    for found in _PIECE.finditer(text):
        kind = found.lastgroup
        if kind is None or (kind == "parameter" and not parameters):
            continue
        if kind == "other":
            return None
        start, end = found.span()
        gap = text[before:start]
        gaps.append(gap)
        constants.append(text[start:end])
        starts.append(start)
        # A statement text holds no zero byte, so no gap can be mistaken for two.
        parts += (gap, b"\0s" if kind == "string" else kind_of(text[start:end]))
        before = end
    gaps.append(text[before:])
    parts.append(gaps[-1])
    return Shape(tuple(gaps), tuple(constants), tuple(starts), b"".join(parts))


def quoted_names(shape: Shape) -> frozenset[bytes]:
    """Return the identifiers of a text that need their quotes; those with escapes (``U&``) as they are spelled."""
    names = (found[1].replace(b'""', b'"') for gap in shape.gaps for found in _QUOTED.finditer(gap))
    return frozenset(name for name in names if not PLAIN_NAME.fullmatch(name))


def numbers_of_gaps(shape: Shape) -> frozenset[bytes]:
    """Return the numbers that are no constants of a shape, as they are spelled: all texts of it have them."""
    found = (match["number"] for gap in shape.gaps for match in _LEFT.finditer(gap))
    return frozenset(number for number in found if number is not None)


def kind_of(constant: bytes) -> bytes:
    """Return what the key of a shape says of a constant in place of its value."""
    if constant[:1] == b"'":
        return b"\0s"
    return b"\0p" if constant[:1] == b"$" else _number_kind(constant)


def _number_kind(constant: bytes) -> bytes:
    """Return what the key says of a number: whether it is an integer, a bigint or a numeric, which the meaning may hang on.

    The two that only with a minus sign are of the smaller type are apart from all others.
    """
    if len(constant) < 10 and b"." not in constant:
        return b"\0n"
    if b"." in constant:
        return b"\0d"
    value = int(constant)
    for limit, below, there in ((1 << 31, b"\0n", b"\0m"), (1 << 63, b"\0b", b"\0M")):
        if value <= limit:
            return there if value == limit else below
    return b"\0d"


def literal_value(constant: bytes) -> bytes:
    """Return the value of a plain string literal or number as it is spelled."""
    return constant[1:-1].replace(b"''", b"'") if constant[:1] == b"'" else constant


def free_constants(statements: Sequence[Statement]) -> frozenset[int]:
    """Return the byte offsets of the constants whose value decides nothing about what the statements mean.

    They stand where a value may stand: an operand, a stored value, a row of VALUES, LIMIT. A constant in ORDER BY, in a type, among
    the arguments of a function or in a clause that is not listed here may be anything, and is not free.
    """
    return frozenset(offset for s in statements for offset in _free({s.kind: s.body}, direct=False))


# Node type -> its fields that hold expressions or queries, and whether a constant directly there is a mere value.
_FIELDS: dict[str, dict[str, bool]] = {
    "SelectStmt": {
        "targetList": False, "fromClause": False, "whereClause": False, "valuesLists": True, "limitCount": True,
        "limitOffset": True, "withClause": False,
    },
    "InsertStmt": {"selectStmt": False, "returningClause": False, "withClause": False},
    "UpdateStmt": {"targetList": False, "whereClause": False, "fromClause": False, "returningClause": False, "withClause": False},
    "DeleteStmt": {"usingClause": False, "whereClause": False, "returningClause": False, "withClause": False},
    "CommonTableExpr": {"ctequery": False},
    "ResTarget": {"val": True},
    "List": {"items": True},
    "BoolExpr": {"args": False},
    "NullTest": {"arg": False},
    "A_Expr": {"lexpr": True, "rexpr": True},
    "TypeCast": {"arg": True},
    "SubLink": {"testexpr": True, "subselect": False},
    "CaseExpr": {"arg": False, "args": False, "defresult": True},
    "CaseWhen": {"expr": False, "result": True},
    "JoinExpr": {"larg": False, "rarg": False, "quals": False},
    "RangeSubselect": {"subquery": False},
}  # fmt: skip
# Where outputs are compared with one another, a constant among them is more than a value.
_COMPARES_OUTPUTS = ("groupClause", "distinctClause", "windowClause", "sortClause")


def _free(node: Node, *, direct: bool) -> Iterator[int]:
    kind, body = only(node)
    if kind == "A_Const":
        if direct and not body.get("isnull"):
            yield location(body)
        return
    fields = _FIELDS.get(kind)
    if fields is None or body.get("op", "SETOP_NONE") != "SETOP_NONE":
        return
    compares = kind == "SelectStmt" and any(clause in body for clause in _COMPARES_OUTPUTS)
    for name, value_here in fields.items():
        if name in body and not (compares and name == "targetList"):
            yield from _free_in(body[name], direct=value_here)


def _free_in(value: object, *, direct: bool) -> Iterator[int]:
    if is_node(value):
        assert isinstance(value, dict)
        yield from _free(value, direct=direct)
    elif isinstance(value, list):
        for item in value:
            yield from _free_in(item, direct=direct)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _free_in(item, direct=direct)
