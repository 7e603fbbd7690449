"""What PostgreSQL computes of given values alone when it plans a statement: where that fails, nothing of the statement is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phiproxy.policy.signatures import Signatures
from phiproxy.sql.split.writes.drawn import name_of
from phiproxy.sql.text.parse import Node, messages, strings
from phiproxy.wire.oids import TEXT_OIDS

_TEXTS = frozenset({"text", "varchar", "bpchar"})
_COMPARED = frozenset({"AEXPR_DISTINCT", "AEXPR_IN", "AEXPR_NOT_DISTINCT", "AEXPR_NULLIF"})
_OPERATORS = frozenset({"=", "<>", "<", "<=", ">", ">=", "||"})
_ANY = frozenset(
    ["btrim", "initcap", "length", "lower", "ltrim", "md5", "replace", "reverse", "rtrim", "starts_with", "strpos", "upper"]
)
"""Functions that no text fails in."""
_OF_TEXT = frozenset({"left", "lpad", "regexp_replace", "right", "rpad", "split_part", "substr", "substring", "translate"})
"""The same, where all arguments behind the first are constants: these fail always, or never."""


def may_fail_when_planned(tree: Any, signatures: Signatures | None, declared: Sequence[int]) -> bool:
    """Tell whether something in a tree is of parameters alone, and fails for some values: ``left($1, 3)::int``.

    ``$1::int`` does not, but where the client says that its parameter is a text: else it is one of an integer.
    """
    return any(
        _may_fail(kind, message[kind], declared)
        for message in messages(tree)
        for kind in ("TypeCast", "FuncCall", "A_Expr")
        if kind in message and _is_given(message[kind], signatures)
    )


def _is_given(tree: Node, signatures: Signatures | None) -> bool:
    found = list(messages(tree))
    if signatures is None or any("ColumnRef" in m or "SubLink" in m or "SQLValueFunction" in m for m in found):
        return False
    called = [*([tree] if "funcname" in tree else []), *(m["FuncCall"] for m in found if "FuncCall" in m)]
    settled = all(f.volatile == "i" for call in called for f in signatures.functions(name_of(call)))
    return settled and any("ParamRef" in m for m in found)


def _may_fail(kind: str, body: Node, declared: Sequence[int]) -> bool:
    if kind == "A_Expr":
        if body["kind"] in ("AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_OP") and "ParamRef" not in str(body.get("rexpr")):
            return body["kind"] == "AEXPR_OP" and strings(body["name"])[-1] not in _OPERATORS | {"~", "!~", "~*", "!~*"}
        return body["kind"] not in _COMPARED and strings(body["name"])[-1] not in _OPERATORS
    if kind == "FuncCall":
        name = name_of(body)
        return name not in _ANY and (name not in _OF_TEXT or "ParamRef" in str(body["args"][1:]))
    if strings(body["typeName"].get("names"))[-1:] and strings(body["typeName"]["names"])[-1] in _TEXTS:
        return False
    number = body["arg"].get("ParamRef", {}).get("number")
    return number is None or (number <= len(declared) and declared[number - 1] in TEXT_OIDS)
