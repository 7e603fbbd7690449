"""Settings that may not change while a session lasts: those that decide its tenant (policy ``tenant``), and how arrays are read.

What a function sets inside of itself is not seen, and does no harm here: the proxy took the tenant from the startup message, once.
RESET and DISCARD go back to what that message said, so they pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import NotPermitted, StatementRefused
from phiproxy.policy.protection import Protection
from phiproxy.sql.parse import Node, only, strings

_SETS = frozenset({"VAR_SET_VALUE", "VAR_SET_CURRENT", "VAR_SET_DEFAULT", "VAR_SET_MULTI"})


def check_fixed(kind: str, body: Node, walked: Sequence[Node], protection: Protection) -> None:
    """Raise NotPermitted (42501) or StatementRefused for what sets a fixed setting; ``walked`` are the messages of its body."""
    if kind == "VariableSetStmt" and _turns_nulls_off(body):
        raise StatementRefused(
            "array_nulls decides how arrays are read, and must stay on for a database with a policy",
            hint="Leave it on, and quote the word in an array where no NULL is meant.",
        )
    fixed = protection.fixed
    if not fixed:
        return
    if kind == "VariableSetStmt" and body.get("name", "").lower() in fixed and body.get("kind", "VAR_SET_VALUE") in _SETS:
        raise _refusal(body["name"])
    for message in walked:
        if "funcname" in message and strings(message["funcname"])[-1] == "set_config":
            named = _constant(message)
            if named is None or named.lower() in fixed:
                raise _refusal(named or "a setting whose name is not a constant")
        if "relation" in message and message["relation"].get("relname") == "pg_settings" and kind == "UpdateStmt":
            raise _refusal("pg_settings")


def _turns_nulls_off(body: Node) -> bool:
    """Tell whether NULL in an array would be a word from now on."""
    if body.get("name", "").lower() != "array_nulls" or body.get("kind", "VAR_SET_VALUE") != "VAR_SET_VALUE":
        return False
    values = [only(node)[1].get("sval", {}).get("sval", "").lower() for node in body.get("args", ())]
    return values not in (["on"], ["true"], ["yes"])


def _constant(call: Node) -> str | None:
    """Return the first argument of a call where it is a string literal."""
    arguments = call.get("args", ())
    if not arguments:
        return None
    argument, body = only(arguments[0])
    while argument == "TypeCast":
        argument, body = only(body["arg"])
    value: str | None = body["sval"].get("sval", "") if argument == "A_Const" and "sval" in body else None
    return value


def _refusal(name: str) -> NotPermitted:
    return NotPermitted(
        f'"{name}" decides the tenant of this session and may not be changed in it', hint="Connect anew as the other tenant."
    )
