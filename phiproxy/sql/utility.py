"""Statements other than SELECT, INSERT, UPDATE and DELETE: which of them may name a protected table, and what they change.

Utility statements move no values unless listed in sql.md section 3, so one that names a protected table passes only when its kind
is known to leave the table's values alone. Every string anywhere in the tree counts as a name here: bodies of functions too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from phiproxy.errors import NotPermitted, StatementRefused
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.protection import Protection
from phiproxy.policy.reach import changes_session
from phiproxy.sql.meaning import Effects
from phiproxy.sql.parse import Node, Statement, messages, strings

# These carry no value of a column and define nothing that would (sql.md section 3, "unchanged").
_UNCHANGED = frozenset(
    {
        "AlterOwnerStmt", "AlterSeqStmt", "CheckPointStmt", "ClosePortalStmt", "ClusterStmt", "CommentStmt", "ConstraintsSetStmt",
        "CreateSeqStmt", "DeallocateStmt",
        "DiscardStmt", "DropStmt", "FetchStmt", "GrantRoleStmt", "GrantStmt", "ListenStmt", "LockStmt", "NotifyStmt",
        "RefreshMatViewStmt", "ReindexStmt", "TransactionStmt", "TruncateStmt", "UnlistenStmt", "VacuumStmt", "VariableSetStmt",
        "VariableShowStmt",
    }
)  # fmt: skip
_UNCHANGED_ALTER = frozenset(
    {
        "AT_ChangeOwner", "AT_SetRelOptions", "AT_ResetRelOptions", "AT_EnableTrig", "AT_DisableTrig", "AT_EnableTrigAll",
        "AT_DisableTrigAll", "AT_EnableTrigUser", "AT_DisableTrigUser", "AT_EnableAlwaysTrig", "AT_EnableReplicaTrig",
        "AT_ClusterOn", "AT_SetLogged", "AT_SetUnLogged", "AT_ValidateConstraint",
    }
)  # fmt: skip
_PATH_SETTINGS = frozenset({"search_path", "role", "session_authorization"})
_STYLES = frozenset({"datestyle", "intervalstyle", "timezone"})
# How the server reads texts.
_READING = frozenset({"client_encoding", "standard_conforming_strings"})
# These the server does not tell of: they are read with the path.
_UNREPORTED_STYLES = frozenset({"bytea_output", "extra_float_digits"})
_SCHEMA_CHANGES = ("Create", "Alter", "Drop", "Rename", "View", "Rule", "Index", "Define", "Import", "Composite", "Reassign")


def texts(tree: Any) -> Iterator[str]:
    """Yield every string below a tree."""
    for message in messages(tree):
        for value in message.values():
            if isinstance(value, str):
                yield value


def named(body: Node, protection: Protection, catalog: Catalog) -> str | None:
    """Return a protected name that a utility statement contains, whole or inside a body of code, or None."""
    names = {n.lower() for n in (*protection.table_names, *catalog.reaching)}
    for text in texts(body):
        lowered = text.lower()
        for name in names:
            if name in lowered and (name == lowered or len(lowered) > len(name)) and _as_word(name, lowered):
                return name
    return None


def _as_word(name: str, text: str) -> bool:
    """Tell whether ``name`` stands in ``text`` as a word of its own."""
    start = text.find(name)
    while start >= 0:
        before, after = text[start - 1 : start], text[start + len(name) : start + len(name) + 1]
        if not (before.isalnum() or (before in ("_", "$") and before)) and not (after.isalnum() or after == "_"):
            return True
        start = text.find(name, start + 1)
    return False


def named_in_text(body: Node, protection: Protection, catalog: Catalog) -> str | None:
    """Return a protected name that stands as a word in a string literal of a statement, or None."""
    literals = [m["sval"]["sval"].lower() for m in messages(body) if isinstance(m.get("sval"), dict) and m["sval"].get("sval")]
    for name in {n.lower() for n in (*protection.table_names, *catalog.reaching)}:
        if any(name in text and _as_word(name, text) for text in literals):
            return name
    return None


def defines(kind: str, body: Node, protection: Protection, catalog: Catalog) -> bool:
    """Return whether a statement is DDL that names something protected. Raises NotPermitted for the registry's schema."""
    if not kind.startswith(_SCHEMA_CHANGES):
        return False
    _check_registry(kind, body, protection)
    return named(body, protection, catalog) is not None


def _check_registry(kind: str, body: Node, protection: Protection) -> None:
    if any(text == protection.registry_schema for text in _relation_like(kind, body)):
        raise NotPermitted("the key registry is not for clients")


def check_utility(kind: str, body: Node, protection: Protection, catalog: Catalog) -> bool:
    """Return whether a utility statement names something protected; raise when it may not.

    Raises NotPermitted for the registry's schema, StatementRefused for a kind that is not known to leave values alone.
    """
    _check_registry(kind, body, protection)
    if kind == "RenameStmt" and body.get("renameType") == "OBJECT_SCHEMA":
        return _renames_protected(body["subname"], body["newname"], protection, catalog)
    name = named(body, protection, catalog)
    if name is None:
        return False
    if kind in _UNCHANGED or (kind == "AlterTableStmt" and _only_unchanged(body)):
        return True
    refusal = StatementRefused(
        f'a statement of this kind may not name "{name}", which is protected or reaches something protected',
        hint=next((hint for start, hint in _INSTEAD.items() if kind.startswith(start)), _OWNER),
    )
    refusal.name = name
    raise refusal


def _renames_protected(old: str, new: str, protection: Protection, catalog: Catalog) -> bool:
    """Tell whether a schema that is renamed holds protected tables; StatementRefused where those of the new name are others."""
    if not {old, new}.intersection(t.schema for t in protection.tables):
        return False
    for relation in catalog.relations:
        columns = [c.name for c in relation.columns]
        if relation.schema == old and not protection.may_move((old, relation.name), columns, (new, relation.name)):
            raise StatementRefused(
                f'schema "{old}" holds protected columns, and those of {new}.{relation.name} are not protected as the same',
                hint="Say `renamed_to:` for its tables in the policy, run `phiproxy keys init --planned`, and reload all proxies.",
            )
    return True


_OWNER = "Run it past the proxy as the tables' owner, then `phiproxy check`: it then works on what is stored, which is encrypted."
_CODE = "Code in the server cannot see the values. Send the statements that it would run from the application."
_INSTEAD = {
    "CreateFunction": _CODE,
    "Do": _CODE,
    "Call": _CODE,
    "CreateTrig": "A trigger cannot see the values. Let the application do this, or create it past the proxy.",
    "Rule": "Let the application send both statements.",
    "CreatePolicy": "Create it past the proxy, over unprotected columns: the values are not seen by the server.",
    "View": "Select from the protected table itself.",
    "CreateStats": "The server sees no values to count. Leave the protected columns out.",
}


def _relation_like(kind: str, body: Node) -> Iterator[str]:
    """Yield what may name a schema: everything except the texts of comments, notifications and passwords."""
    if kind in ("CommentStmt", "NotifyStmt", "CreateRoleStmt", "AlterRoleStmt", "GrantRoleStmt"):
        return
    if kind == "VariableSetStmt" and body.get("name") != "search_path":
        return
    for message in messages(body):
        for key, value in message.items():
            if isinstance(value, str) and key != "rolename":
                yield value


def _only_unchanged(body: Node) -> bool:
    return all(command.get("AlterTableCmd", {}).get("subtype") in _UNCHANGED_ALTER for command in body.get("cmds", [{}]))


def leaves_aborted(statement: Statement) -> bool:
    """Tell whether a statement runs in an aborted transaction, because it leaves it (postgres.c, IsTransactionExitStmt)."""
    return statement.kind == "TransactionStmt" and statement.body.get("kind") in _EXITS


_EXITS = {"TRANS_STMT_COMMIT", "TRANS_STMT_PREPARE", "TRANS_STMT_ROLLBACK", "TRANS_STMT_ROLLBACK_TO"}


_PATH_CHANGES = frozenset({"CreateSchemaStmt", "CreateExtensionStmt", "AlterExtensionStmt", "ReassignOwnedStmt", "DropOwnedStmt"})
_OF_PATH = frozenset({"OBJECT_SCHEMA", "OBJECT_EXTENSION"})


def _changes_path(kind: str, body: Node) -> bool:
    """Tell whether DDL may change the effective search path: a schema comes, goes or is renamed, as for a temporary table."""
    if kind in _PATH_CHANGES or _OF_PATH.intersection((body.get("removeType"), body.get("renameType"), body.get("objectType"))):
        return True
    return any(m.get("relpersistence") == "t" or m.get("schemaname") == "pg_temp" for m in messages(body))


def _constant_path(body: Node) -> tuple[str, ...] | None:
    """Return the schemas of a SET search_path that is all constants; None where it depends on the role or the settings."""
    constants = [node.get("A_Const", {}) for node in body.get("args", ())]
    names = [constant["sval"].get("sval", "") for constant in constants if "sval" in constant]
    if body.get("kind") != "VAR_SET_VALUE" or len(names) != len(constants) or "$user" in names:
        return None
    return tuple(name for name in names if name)


def _set_by_config(found: Effects, arguments: Sequence[Node]) -> None:
    """Note what set_config may change: where it is seen to be of one setting, only that."""
    setting = arguments[0].get("A_Const", {}).get("sval", {}).get("sval") if arguments else None
    name = None if setting is None else setting.lower()
    found.path_unknown |= name is None or name in _PATH_SETTINGS or name in _UNREPORTED_STYLES
    found.styles_changed |= name is None or name in _STYLES or name in _UNREPORTED_STYLES
    found.encoding |= name is None or name in _READING


def effects(  # noqa: C901, PLR0912 - one line per kind of statement
    kind: str, body: Node, walked: Sequence[Node], setters: frozenset[str] = frozenset()
) -> Effects:
    """Return what a statement changes in the session (sql.md section 2); ``walked`` are the messages of its body.

    ``setters`` are names of functions and relations that may change the path and styles (policy.catalog).
    """
    found = Effects()
    if kind == "VariableSetStmt":
        name = body.get("name", "").lower()
        resets_all = body.get("kind") == "VAR_RESET_ALL"
        found.path_unknown = name in _PATH_SETTINGS or name in _UNREPORTED_STYLES or resets_all
        found.styles_changed = name in _STYLES or name in _UNREPORTED_STYLES or resets_all
        found.path = _constant_path(body) if name == "search_path" else None
        found.encoding = name in _READING or resets_all
    elif kind == "DiscardStmt":
        found.path_unknown = found.styles_changed = True
        found.encoding = body.get("target", "DISCARD_ALL") == "DISCARD_ALL"
        found.deallocates_all = found.closes_all = body.get("target", "DISCARD_ALL") == "DISCARD_ALL"
    elif kind == "TransactionStmt":
        found.transaction = body.get("kind") in _EXITS
    elif kind == "PrepareStmt":
        found.prepares = body["name"]
    elif kind == "DeallocateStmt":
        found.deallocates = body.get("name")
        found.deallocates_all = found.deallocates is None
    elif kind == "ClosePortalStmt":
        found.closes = body.get("portalname")
        found.closes_all = found.closes is None
    elif kind == "ExecuteStmt":
        found.executes = body["name"]
    elif kind == "FetchStmt":
        found.fetches = body.get("portalname")
    elif kind in ("DoStmt", "CallStmt"):
        found.path_unknown = found.styles_changed = found.encoding = True
        found.catalog_changed = True
    elif kind.startswith(_SCHEMA_CHANGES) or "intoClause" in body:
        found.path_unknown = _changes_path(kind, body)
        found.catalog_changed = True
        found.created = tuple(m["relname"] for m in walked if "relname" in m)
        if "newname" in body:
            found.created += (body["newname"],)
        if kind == "CreateFunctionStmt":
            found.created += (strings(body["funcname"])[-1],)
            code = " ".join(texts(body))
            found.code = changes_session(code) or any(name.lower() in code.lower() for name in setters)
    for message in walked:
        if "ExecuteStmt" in message:  # EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE
            found.executes = message["ExecuteStmt"]["name"]
        function = strings(message["funcname"])[-1] if "funcname" in message else ""
        if function == "set_config":
            _set_by_config(found, message.get("args", ()))
        if message.get("relname") == "pg_settings" or function in setters or message.get("relname") in setters:
            found.path_unknown = found.styles_changed = found.encoding = found.code = True
    return found
