"""Settings that no statement may change during a session: those that decide its tenant (policy ``tenant``), and array_nulls.

Those that a function changes inside itself are not seen, and do no harm: the tenant was read from the startup message. RESET and
DISCARD restore what that message said, so they pass.
"""

from collections.abc import Sequence

from phiproxy.effects import Effects
from phiproxy.errors import NotPermitted, StatementRefused
from phiproxy.policy.protection import Protection
from phiproxy.sql.statements.utility import set_by_config
from phiproxy.sql.text.parse import Node, only, strings

_SETS = frozenset({"VAR_SET_VALUE", "VAR_SET_CURRENT", "VAR_SET_DEFAULT", "VAR_SET_MULTI"})


def check_fixed(kind: str, body: Node, walked: Sequence[Node], protection: Protection) -> None:
    """Raise NotPermitted (42501) or StatementRefused for a statement that changes such a setting.

    SET array_nulls TO off
    → refused 0A000
    """
    calls = [m for m in walked if "funcname" in m and strings(m["funcname"])[-1] == "set_config"]
    if (kind == "VariableSetStmt" and _turns_nulls_off(body)) or any(_turns_nulls_off_by(call) for call in calls):
        why = "array_nulls decides how arrays are read, and must stay on for a database with a policy"
        raise StatementRefused(why, hint="Leave it on, and quote the word in an array where no NULL is meant.")
    for call in calls if kind in _STORING else ():
        set_by = Effects()
        set_by_config(set_by, call.get("args", ()))
        if set_by.path_unknown or set_by.styles_changed or set_by.encoding:
            why = "what is stored here would change the session of whoever uses it, unseen"
            raise StatementRefused(why, hint="Call set_config in a function, and that here.")
    fixed = protection.fixed
    if not fixed:
        return
    if kind == "VariableSetStmt" and body.get("name", "").lower() in fixed and body.get("kind", "VAR_SET_VALUE") in _SETS:
        raise _not_permitted(body["name"])
    for call in calls:
        named = _first_literal(call)
        if named is None or named.lower() in fixed:
            raise _not_permitted(named or "a setting whose name is not a constant")
    for message in walked:
        if "relation" in message and message["relation"].get("relname") == "pg_settings" and kind == "UpdateStmt":
            raise _not_permitted("pg_settings")


_STORING = frozenset(
    {
        "AlterDomainStmt", "AlterPolicyStmt", "AlterTableStmt", "CreateDomainStmt", "CreatePolicyStmt", "CreateStmt",
        "CreateTrigStmt", "RuleStmt", "ViewStmt",
    }
)  # fmt: skip
"""What stores expressions: that these call set_config is in no body of a function, where it would be read."""


def _turns_nulls_off_by(call: Node) -> bool:
    """Tell whether a call of set_config does."""
    arguments = [_literal(argument) for argument in call.get("args", ())]
    named, value = (*arguments, None, None)[:2]
    return named is not None and named.lower() == "array_nulls" and (value is None or value.lower() not in _ON)


_ON = ("on", "true", "yes")


def _turns_nulls_off(body: Node) -> bool:
    """Tell whether NULL in an array would be read as a string from now on."""
    if body.get("name", "").lower() != "array_nulls" or body.get("kind", "VAR_SET_VALUE") != "VAR_SET_VALUE":
        return False
    values = [only(node)[1].get("sval", {}).get("sval", "").lower() for node in body.get("args", ())]
    return len(values) != 1 or values[0] not in _ON


def _first_literal(call: Node) -> str | None:
    arguments = call.get("args", ())
    return _literal(arguments[0]) if arguments else None


def _literal(node: Node) -> str | None:
    argument, body = only(node)
    while argument == "TypeCast":
        argument, body = only(body["arg"])
    value: str | None = body["sval"].get("sval", "") if argument == "A_Const" and "sval" in body else None
    return value


def _not_permitted(name: str) -> NotPermitted:
    return NotPermitted(
        f'"{name}" decides the tenant of this session and may not be changed in it', hint="Connect anew as the other tenant."
    )
