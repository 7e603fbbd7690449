"""Settings that may not change while a session lasts: those that decide its tenant (policy ``tenant``).

What a function sets inside of itself is not seen, and does no harm here: the proxy took the tenant from the startup message, once.
RESET and DISCARD go back to what that message said, so they pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import NotPermitted
from phiproxy.policy.protection import Protection
from phiproxy.sql.parse import Node, only, strings

_SETS = frozenset({"VAR_SET_VALUE", "VAR_SET_CURRENT", "VAR_SET_DEFAULT", "VAR_SET_MULTI"})


def check_fixed(kind: str, body: Node, walked: Sequence[Node], protection: Protection) -> None:
    """Raise NotPermitted (42501) for a statement that sets what is fixed; ``walked`` are the messages of its body."""
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
