"""Which expressions surely give a scalar, or an array of them: nothing of it becomes a key of a document.

Keys of a document stand in clear, also where all else of it is sealed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phiproxy.policy.signatures import Signatures
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.wire.oids import BUILTIN_TYPES

_SCALARS = """
    bool bpchar date float4 float8 int2 int4 int8 interval name numeric oid text time timestamp timestamptz timetz uuid varchar
"""
_NAMES = frozenset(_SCALARS.split())
SCALAR_OIDS = frozenset(BUILTIN_TYPES[name].oid for name in _NAMES if name in BUILTIN_TYPES)
_OF_ARGUMENTS = frozenset(
    BUILTIN_TYPES[name].oid for name in ("anyelement", "anynonarray", "anycompatible", "anycompatiblenonarray")
)
"""The polymorphic types anyelement, anynonarray, and their compatible kin: scalars where the arguments are."""
_TO_TEXT = frozenset({"->>", "#>>"})
_ARITHMETIC = frozenset({"||", "+", "-", "*", "/", "%"})


@dataclass(frozen=True, slots=True)
class Scalars:
    """What is known of a write: the functions that there are, and the columns of its target that are scalars."""

    signatures: Signatures | None
    columns: frozenset[str]

    def are(self, node: Node, is_own: Callable[[Node], bool]) -> bool:
        """Tell whether an expression gives scalars; ``is_own`` tells whether a reference is one to a column of the target.

        ``upper(ssn)``, ``doc->>'x'``, ``x::text``
        """
        kind, body = only(node)
        match kind:
            case "A_Const":
                return True
            case "TypeCast":
                names = strings(body["typeName"]["names"])
                return names[-1] in _NAMES and names[:-1] in ([], ["pg_catalog"])
            case "ColumnRef":
                return is_own(body) and strings(body["fields"])[-1] in self.columns
            case "CoalesceExpr" | "MinMaxExpr":
                return all(self.are(one, is_own) for one in body["args"])
            case "CaseExpr":
                results = [only(when)[1]["result"] for when in body["args"]]
                return all(self.are(one, is_own) for one in (*results, *([body["defresult"]] if "defresult" in body else [])))
            case "A_Expr" if body["kind"] == "AEXPR_OP":
                name = strings(body["name"])[-1]
                sides = [body[side] for side in ("lexpr", "rexpr") if side in body]
                return name in _TO_TEXT or (name in _ARITHMETIC and all(self.are(side, is_own) for side in sides))
            case "FuncCall":
                return self._is_called(body, is_own)
        return False

    def _is_called(self, body: Node, is_own: Callable[[Node], bool]) -> bool:
        functions = self.signatures.functions(strings(body["funcname"])[-1]) if self.signatures is not None else ()
        results = {function.result for function in functions}
        if not results or not results <= SCALAR_OIDS | _OF_ARGUMENTS:
            return False
        return results.isdisjoint(_OF_ARGUMENTS) or all(self.are(one, is_own) for one in body.get("args", ()))
