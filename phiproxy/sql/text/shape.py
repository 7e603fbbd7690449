"""The shape of a text: the text without its constants, found without a parse.

Two texts of one shape differ only in string literals and numbers, so the analysis of one holds for the other wherever the value of
a constant decides nothing (``free_constants``). A text with a form that is not modelled here has no shape, and is analysed in full.
Lexical rules: manual 4.1, with standard_conforming_strings on.
"""

import re
from collections.abc import Iterator, Sequence

from phiproxy.frozen import dataclass
from phiproxy.sql.text.parse import Node, Statement, is_node, location, only, strings

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

# What stands in any text that has a constant, or another form that is looked at.
_ANY = re.compile(
    rb"""
      ["'0-9\-/$] (?: (?<=["']) | (?<=[0-9]) (?<![\w$.\x80-\xff][0-9]) | (?<=-)- | (?<=/)\* | (?<=\$)(?![0-9]) )
    """,
    re.VERBOSE,
)

# More pieces than this are not put together at once: no other thread would have its turn meanwhile.
_AT_ONCE = 16 * 1024

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
    """The gaps and constants of a text: ``gaps[i]`` precedes ``constants[i]``, which begins at ``starts[i]``; one gap is last.

    ``key`` is equal for two texts exactly if their gaps and the kinds of their constants are.
    """

    gaps: tuple[bytes, ...]
    constants: tuple[bytes, ...]
    starts: tuple[int, ...]
    key: bytes


def shape_of(text: bytes, *, parameters: bool = False) -> Shape | None:
    """Return the shape of a text, or None where it has a form that is not modelled.

    ``parameters``: they are taken out of the gaps too, as constants of a kind of their own.
    """
    if not parameters and _ANY.search(text) is None:
        return Shape((text,), (), (), text)
    gaps: list[bytes] = []
    constants: list[bytes] = []
    starts: list[int] = []
    joined: list[bytes] = []
    parts: list[bytes] = []
    before = 0
    for piece in _PIECE.finditer(text):
        kind = piece.lastgroup
        if kind is None or (kind == "parameter" and not parameters):
            continue
        if kind == "other":
            return None
        start, end = piece.span()
        gap = text[before:start]
        gaps.append(gap)
        constants.append(text[start:end])
        starts.append(start)
        # A statement text holds no zero byte, so no gap can be mistaken for two.
        parts += (gap, b"\0s" if kind == "string" else kind_of(text[start:end]))
        if len(parts) > _AT_ONCE:
            joined.append(b"".join(parts))
            parts.clear()
        before = end
    gaps.append(text[before:])
    parts.append(gaps[-1])
    return Shape(tuple(gaps), tuple(constants), tuple(starts), b"".join([*joined, *parts]))


def gaps_at_beginning(text: bytes) -> list[bytes]:
    """Return the gaps of a text that may be cut off anywhere, up to the last constant before what is not modelled."""
    gaps: list[bytes] = []
    before = 0
    for piece in _PIECE.finditer(text):
        if piece.lastgroup == "other":
            break
        if piece.lastgroup is not None:
            gaps.append(text[before : piece.start()])
            before = piece.end()
    return [*gaps, b""]


def quoted_names(shape: Shape) -> frozenset[bytes]:
    """Return the identifiers of a text that need their quotes; those with escapes (``U&``) as they are spelled."""
    names = (match[1].replace(b'""', b'"') for gap in shape.gaps for match in _QUOTED.finditer(gap))
    return frozenset(name for name in names if not PLAIN_NAME.fullmatch(name))


def numbers_of_gaps(shape: Shape) -> frozenset[bytes]:
    """Return the numbers in the gaps of a shape, as they are spelled: every text of the shape has them."""
    numbers = (match["number"] for gap in shape.gaps for match in _LEFT.finditer(gap))
    return frozenset(number for number in numbers if number is not None)


def kind_of(constant: bytes) -> bytes:
    """Return what a shape's key holds of a constant in place of its value."""
    if constant[:1] == b"'":
        return b"\0s"
    return b"\0p" if constant[:1] == b"$" else _number_kind(constant)


def _number_kind(constant: bytes) -> bytes:
    """Return what the key holds of a number: whether it is an integer, a bigint or a numeric.

    The two numbers that are of the smaller type only with a minus sign have kinds of their own.
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
    the arguments of a function, in a path of a document, or in a clause that is not listed here, is not free.
    """
    return frozenset(offset for s in statements for offset in _free({s.kind: s.body}, direct=False))


def free_operands(tree: object) -> frozenset[int]:
    """Return the same of conditions by themselves, such as HAVING."""
    return frozenset(_free_in(tree, direct=False))


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
_PATHS = (["->"], ["->>"], ["#>"], ["#>>"], ["#-"])


def _free(node: Node, *, direct: bool) -> Iterator[int]:
    kind, body = only(node)
    if kind == "A_Const":
        if direct and not body.get("isnull"):
            yield location(body)
        return
    fields = _FIELDS.get(kind)
    if fields is None or body.get("op", "SETOP_NONE") != "SETOP_NONE":
        return
    if kind == "A_Expr" and strings(body.get("name"))[-1:] in _PATHS:
        # What stands at a path of a document may be sealed, and what stands at another is not.
        yield from _free_in(body.get("lexpr"), direct=False)
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
