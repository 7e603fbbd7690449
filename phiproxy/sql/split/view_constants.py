"""Constants in the rest of a view must be read alike at all times: PostgreSQL reads them once, when the view is created."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from phiproxy.errors import StatementRefused
from phiproxy.sql.split.remaining import nodes
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.text.parse import Node, children, only, strings, tokens
from phiproxy.wire.oids import TEXT_OIDS

# What the settings DateStyle, TimeZone and IntervalStyle may give another meaning, if it is read as a date, a time or an interval.
_DAY = re.compile(r"\s*\d{4}-\d\d-\d\d\s*")
_NUMBER = re.compile(r"\s*[-+]?\d+(\.\d+)?\s*")
_OF_MOMENT = re.compile(r"\d\s*[-/.:]\s*\d|\d\s*[-/. ]?\s*(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)", re.IGNORECASE)
# Under IntervalStyle sql_standard the sign of the first field is that of all: -1 day 2 hours.
_SIGNED = re.compile(r"\s*-.*\d.*\s.*\d", re.DOTALL)
_MOMENTS = frozenset({"timestamptz", "timetz"})
_OF_TEXTS = frozenset({"~~", "!~~", "~~*", "!~~*", "~", "!~", "~*", "!~*", "||"})


def check_constants(whole: Whole, gone: Collection[int]) -> None:
    """Refuse a constant that would be another one under other settings, and a type that only the search path tells.

    CREATE VIEW … AS SELECT id FROM people WHERE born < '01/02/2000'
    → refused 0A000
    """
    moments = any(c.type.type.family in _MOMENTS for table in whole.tables for c in table.columns) or any(
        strings(node.get("names"))[-1:] and strings(node["names"])[-1] in _MOMENTS
        for kind, node in nodes({"SelectStmt": whole.body}, gone) if kind == "TypeName"
    )  # fmt: skip
    texts = _operands_of_texts(whole, gone)
    for kind, node in nodes({"SelectStmt": whole.body}, gone):
        said = node.get("sval") if kind == "A_Const" else None
        if isinstance(said, dict) and id(node) not in texts and _may_differ(said.get("sval", ""), moments=moments):
            why = "a constant of the view may be another date or time under other settings than now"
            hint = (
                "Write dates as '2000-01-31', and times with a cast and their time zone to a column of the table, not to the view."
            )
            raise StatementRefused(why, hint=hint, position=whole.a.position(node))
        if kind == "TypeName":
            _check_type(whole, node)


def _operands_of_texts(whole: Whole, gone: Collection[int]) -> set[int]:
    """Return the ids of constants that are texts to the operator that they stand beside, or by a cast."""
    found = set[int]()
    base, known = whole.verdict.signatures.base, whole.verdict.types
    for kind, node in nodes({"SelectStmt": whole.body}, gone):
        if kind == "A_Expr" and (node["kind"] in ("AEXPR_LIKE", "AEXPR_ILIKE") or strings(node.get("name"))[-1] in _OF_TEXTS):
            found.update(id(node[side]["A_Const"]) for side in ("lexpr", "rexpr") if "A_Const" in node.get(side, {}))
        elif kind == "A_Expr":
            sides = [node[side] for side in ("lexpr", "rexpr") if node.get(side)]
            if any("List" not in side and base(known.get(id(only(side)[1]))) in TEXT_OIDS for side in sides):
                listed = [item for side in sides for item in (children(side) if "List" in side else [side])]
                found.update(id(item["A_Const"]) for item in listed if "A_Const" in item)
        elif kind == "TypeCast" and strings(node["typeName"].get("names"))[-1:] == ["text"] and "A_Const" in node["arg"]:
            found.add(id(node["arg"]["A_Const"]))
    return found


def quoted(text: bytes) -> Iterator[str]:
    """Yield the constants of a text that are in quotes, as they are written between these."""
    for token in tokens(text):
        if token.name in ("SCONST", "USCONST"):
            yield text[token.start : token.end].decode("utf-8", "replace").partition("'")[2].removesuffix("'")


def may_differ(said: str, changed: Collection[str]) -> bool:
    """Tell whether a constant may be another date, time or interval when these settings are others, in lower case."""
    signed = "intervalstyle" in changed and _SIGNED.match(said) is not None
    return signed or _may_differ(said, moments="timezone" in changed)


def _may_differ(said: str, *, moments: bool) -> bool:
    if _NUMBER.fullmatch(said):
        return False
    if _DAY.fullmatch(said):
        return moments
    return _OF_MOMENT.search(said) is not None


def _check_type(whole: Whole, node: Node) -> None:
    names = strings(node.get("names"))
    own = any(t.name == names[-1] for t in whole.a.context.catalog.types)
    if own and len(names) == 1:
        raise StatementRefused(
            f"which type {names[0]} is would be decided by the search path of whoever reads the view",
            hint="Write its schema before it.",
        )
