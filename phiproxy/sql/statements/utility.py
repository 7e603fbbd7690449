"""Utility statements: which of them may name a protected table, and what they change in the session.

Utility statements that move values are listed in spec/sql 3.7. Any other that names a protected table passes only if its kind
leaves values alone. Every string in the tree counts as a name here, function bodies too.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from phiproxy.effects import Effects
from phiproxy.errors import NotPermitted, StatementRefused
from phiproxy.policy.catalog import ANY_DDL, ANYTHING, Catalog
from phiproxy.policy.dependencies import changes_session
from phiproxy.policy.protection import Protection
from phiproxy.sql.text.parse import Node, Statement, messages, only, strings

# These carry no value of a column and define nothing that would (spec/sql 3.7).
_UNCHANGED = frozenset(
    {
        "AlterOwnerStmt", "AlterSeqStmt", "CheckPointStmt", "ClosePortalStmt", "ClusterStmt", "CommentStmt", "ConstraintsSetStmt",
        "CreateSeqStmt", "DeallocateStmt",
        "DiscardStmt", "DropStmt", "FetchStmt", "GrantRoleStmt", "GrantStmt", "ListenStmt", "LockStmt", "NotifyStmt",
        "RefreshMatViewStmt", "ReindexStmt", "TransactionStmt", "TruncateStmt", "UnlistenStmt", "VacuumStmt", "VariableSetStmt",
        "VariableShowStmt",
    }
)  # fmt: skip
UNCHANGED_ALTER = frozenset(
    {
        "AT_ChangeOwner", "AT_SetRelOptions", "AT_ResetRelOptions", "AT_EnableTrig", "AT_DisableTrig", "AT_EnableTrigAll",
        "AT_DisableTrigAll", "AT_EnableTrigUser", "AT_DisableTrigUser", "AT_EnableAlwaysTrig", "AT_EnableReplicaTrig",
        "AT_ClusterOn", "AT_SetLogged", "AT_SetUnLogged", "AT_ValidateConstraint",
    }
)  # fmt: skip
# What is asked of the server with the search path (``session.substitutes_and_questions``).
_PATH_SETTINGS = frozenset(
    {"search_path", "role", "session_authorization", "phiproxy.end_user", "phiproxy.reason", "phiproxy.purpose"}
)
_STYLES = frozenset({"datestyle", "intervalstyle", "timezone"})
# How the server reads texts.
_READING = frozenset({"client_encoding", "standard_conforming_strings"})
# These the server does not tell of: they are read with the path.
_UNREPORTED_STYLES = frozenset({"bytea_output", "extra_float_digits"})
_SCHEMA_CHANGES = ("Create", "Alter", "Drop", "Rename", "View", "Rule", "Index", "Define", "Import", "Composite", "Reassign")


def texts(tree: Any) -> Iterator[str]:
    """Yield every string below a tree."""
    return (value for message in messages(tree) for value in message.values() if isinstance(value, str))


def named(body: Node, protection: Protection, catalog: Catalog) -> str | None:
    """Return a protected name that a utility statement contains, also inside a function body, or None."""
    names = {n.lower() for n in (*protection.table_names, *catalog.reaching)}
    for text in texts(body):
        lowered = text.lower()
        for name in names:
            if name in lowered and (name == lowered or len(lowered) > len(name)) and _as_word(name, lowered):
                return name
    return None


def _as_word(name: str, text: str) -> bool:
    start = text.find(name)
    while start >= 0:
        before, after = text[start - 1 : start], text[start + len(name) : start + len(name) + 1]
        if not (before.isalnum() or (before in ("_", "$") and before)) and not (after.isalnum() or after == "_"):
            return True
        start = text.find(name, start + 1)
    return False


def named_in_text(body: Node, protection: Protection, catalog: Catalog) -> str | None:
    """Return a protected name that occurs as a word in a string literal of a statement, or None."""
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
    """Refuse a statement that names the registry's schema; the texts of comments, notifications and passwords name none."""
    if kind in ("CommentStmt", "NotifyStmt", "CreateRoleStmt", "AlterRoleStmt", "GrantRoleStmt"):
        return
    if kind == "VariableSetStmt" and body.get("name") != "search_path":
        return
    if any(m[key] == protection.registry_schema for m in messages(body) for key in m if key != "rolename"):
        raise NotPermitted("the key registry is not for clients")


def check_utility(kind: str, body: Node, protection: Protection, catalog: Catalog) -> bool:
    """Tell whether a statement names what is protected; NotPermitted for the registry, StatementRefused if it may move values.

    TRUNCATE patients
    → unchanged

    CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(ssn) FROM patients'
    → refused 0A000
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


_TELLING = frozenset(
    {
        "AlterPolicyStmt", "AlterTableStmt", "CreatePolicyStmt", "CreateStatsStmt", "CreateStmt", "CreateTrigStmt", "IndexStmt",
        "RenameStmt", "RuleStmt",
    }
)  # fmt: skip


def check_masked(kind: str, body: Node, protection: Protection, catalog: Catalog) -> None:
    """Refuse DDL over a column that the role does not see: whether a constraint or index can be made tells of its values.

    A partition or materialized view has the values too.

    ALTER TABLE patients ADD CHECK (ssn < '5')
    → refused 0A000
    """
    if not protection.masked or kind not in _TELLING:
        return
    words = set(texts(body))
    has_values = not words.isdisjoint(catalog.reaching)
    for column in protection.masked:
        if column.name in words and (column.table in words or has_values):
            column.refuse_masked()


def _renames_protected(old: str, new: str, protection: Protection, catalog: Catalog) -> bool:
    """Tell whether a renamed schema holds protected tables; refuse a new name whose protected tables are others."""
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


def _only_unchanged(body: Node) -> bool:
    return all(command.get("AlterTableCmd", {}).get("subtype") in UNCHANGED_ALTER for command in body.get("cmds", [{}]))


def leaves_aborted(statement: Statement) -> bool:
    """Tell whether a statement ends an aborted transaction, and so runs in it (postgres.c, IsTransactionExitStmt)."""
    return statement.kind == "TransactionStmt" and statement.body.get("kind") in _EXITS


_EXITS = {"TRANS_STMT_COMMIT", "TRANS_STMT_PREPARE", "TRANS_STMT_ROLLBACK", "TRANS_STMT_ROLLBACK_TO"}


_PATH_CHANGES = frozenset({"CreateSchemaStmt", "CreateExtensionStmt", "AlterExtensionStmt", "ReassignOwnedStmt", "DropOwnedStmt"})
_OF_PATH = frozenset({"OBJECT_SCHEMA", "OBJECT_EXTENSION"})


def _changes_path(kind: str, body: Node) -> bool:
    """Tell whether DDL may change the effective search path, by creating, dropping or renaming a schema or a temporary table."""
    temporary = (m.get("relpersistence") == "t" or m.get("schemaname") == "pg_temp" for m in messages(body))
    return _changes_schemas(kind, body) or any(temporary)


def _changes_schemas(kind: str, body: Node) -> bool:
    """Tell whether that is a schema, which others have on their path too."""
    return kind in _PATH_CHANGES or bool(
        _OF_PATH.intersection((body.get("removeType"), body.get("renameType"), body.get("objectType")))
    )


def _moves(kind: str, body: Node) -> bool:
    """Tell whether what is read of protected tables may be another thing behind DDL that names none of them."""
    if body.get("removeType") == "OBJECT_SCHEMA":
        return body.get("behavior") == "DROP_CASCADE"
    return _changes_schemas(kind, body) and kind not in ("CreateSchemaStmt", "ReassignOwnedStmt")


_OF_ROLES = frozenset({"AlterRoleStmt", "DropRoleStmt", "GrantRoleStmt"})
_MEMBERS = frozenset({"addroleto", "adminmembers", "rolemembers"})


def _changes_rights(kind: str, body: Node) -> bool:
    """Tell whether others may use other schemas of their path behind a statement, or have another name, which is ``"$user"``."""
    if kind == "CreateRoleStmt":
        return any(only(option)[1].get("defname") in _MEMBERS for option in body.get("options", ()))
    of_schema = kind == "GrantStmt" and body.get("objtype") == "OBJECT_SCHEMA"
    return of_schema or kind in _OF_ROLES or body.get("renameType") == "OBJECT_ROLE"


def _constant_path(body: Node) -> tuple[str, ...] | None:
    """Return the schemas of a SET search_path of constants; None where it depends on the role or on settings."""
    constants = [node.get("A_Const", {}) for node in body.get("args", ())]
    names = [constant["sval"].get("sval", "") for constant in constants if "sval" in constant]
    if body.get("kind") != "VAR_SET_VALUE" or len(names) != len(constants) or "$user" in names:
        return None
    return tuple(name for name in names if name)


def set_by_config(result: Effects, arguments: Sequence[Node]) -> None:
    """Note what a call of set_config may change: one setting if its name is a constant, else any."""
    setting = arguments[0].get("A_Const", {}).get("sval", {}).get("sval") if arguments else None
    name = None if setting is None else setting.lower()
    result.path_unknown |= name is None or name in _PATH_SETTINGS or name in _UNREPORTED_STYLES
    result.styles_changed |= name is None or name in _STYLES or name in _UNREPORTED_STYLES
    result.encoding |= name is None or name in _READING


def effects(  # noqa: C901, PLR0912, PLR0915 - one line per kind of statement
    kind: str, body: Node, walked: Sequence[Node], setters: frozenset[str] = frozenset()
) -> Effects:
    """Return what a statement changes in the session (spec/sql 2.1); ``walked`` are the messages of its body.

    ``setters`` are the functions and relations that may change the path and styles (policy.catalog).
    """
    result = Effects()
    if kind == "VariableSetStmt":
        name = body.get("name", "").lower()
        resets_all = body.get("kind") == "VAR_RESET_ALL"
        result.path_unknown = name in _PATH_SETTINGS or name in _UNREPORTED_STYLES or resets_all
        result.styles_changed = name in _STYLES or name in _UNREPORTED_STYLES or resets_all
        result.path = _constant_path(body) if name == "search_path" else None
        result.encoding = name in _READING or resets_all
    elif kind == "DiscardStmt":
        result.path_unknown = result.styles_changed = True
        result.encoding = body.get("target", "DISCARD_ALL") == "DISCARD_ALL"
        result.deallocates_all = result.closes_all = body.get("target", "DISCARD_ALL") == "DISCARD_ALL"
    elif kind == "TransactionStmt":
        result.transaction = body.get("kind") in _EXITS
    elif kind == "PrepareStmt":
        result.prepares = body["name"]
    elif kind == "DeallocateStmt":
        result.deallocates = body.get("name")
        result.deallocates_all = result.deallocates is None
    elif kind == "ClosePortalStmt":
        result.closes = body.get("portalname")
        result.closes_all = result.closes is None
    elif kind == "ExecuteStmt":
        result.executes = body["name"]
    elif kind == "FetchStmt":
        result.fetches, result.skips = body.get("portalname"), bool(body.get("ismove"))
    elif kind in ("DoStmt", "CallStmt"):
        result.path_unknown = result.styles_changed = result.encoding = True
        result.catalog_changed = True
    elif _changes_rights(kind, body):
        result.path_unknown = result.catalog_changed = result.schemas = True
    elif kind.startswith(_SCHEMA_CHANGES) or "intoClause" in body:
        result.path_unknown = _changes_path(kind, body)
        result.catalog_changed = True
        result.created = tuple(m["relname"] for m in walked if "relname" in m)
        result.schemas = result.path_unknown and _changes_schemas(kind, body)
        result.moves = _moves(kind, body)
        result.cascades = kind == "DropStmt" and body.get("behavior") == "DROP_CASCADE"
        if "newname" in body:
            result.created += (body["newname"],)
        used = (value for m in walked for value in m.values() if value.__class__ is str)
        if not _drops(kind, body) and any(value in setters or value == "set_config" for value in used):
            # What is made of such code, or is that under another name, does what it does; an aggregate may be of set_config itself.
            result.code = True
            result.created += tuple(strings(body.get("defnames"))[-1:])
        if kind == "CreateFunctionStmt":
            result.created += (strings(body["funcname"])[-1],)
            code = " ".join(texts(_code_of(body)))
            result.code |= changes_session(code) or any(name.lower() in code.lower() for name in setters)
            result.code |= _runs_text(body, code)
    if setters and (
        (ANYTHING in setters and kind not in _OF_SESSION)
        or (ANY_DDL in setters and kind not in _NO_DDL)
        or kind == "ConstraintsSetStmt"  # triggers are fired that were deferred
        or any(name in setters for m in walked for name in _called(m))
    ):
        result.path_unknown = result.styles_changed = result.encoding = True
    for message in walked:
        if _ACTS.isdisjoint(message):
            continue
        if "ExecuteStmt" in message:  # EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE
            result.executes = message["ExecuteStmt"]["name"]
        function = strings(message["funcname"])[-1] if "funcname" in message else ""
        if function == "set_config":
            set_by_config(result, message.get("args", ()))
        if message.get("relname") == "pg_settings" or (setters and (function in setters or message.get("relname") in setters)):
            result.path_unknown = result.styles_changed = result.encoding = result.code = True
    return result


_OF_SESSION = frozenset(
    {
        "ClosePortalStmt", "DeallocateStmt", "DiscardStmt", "ListenStmt", "NotifyStmt", "PrepareStmt", "TransactionStmt",
        "UnlistenStmt", "VariableSetStmt", "VariableShowStmt",
    }
)  # fmt: skip
_NO_DDL = _OF_SESSION | {
    "CheckPointStmt", "ClusterStmt", "ConstraintsSetStmt", "CopyStmt", "DeclareCursorStmt", "DeleteStmt", "ExecuteStmt",
    "ExplainStmt", "FetchStmt", "InsertStmt", "LoadStmt", "LockStmt", "MergeStmt", "SelectStmt", "TruncateStmt", "UpdateStmt",
    "VacuumStmt",
}  # fmt: skip


def _drops(kind: str, body: Node) -> bool:
    """Tell whether something is dropped by its name: what is called in its place has that name, and is known by it.

    DROP FUNCTION public.shows_all → no look at the catalogue, for which all sessions would wait
    """
    return kind == "DropStmt" and body["removeType"] not in _OF_PATH


def _called(message: Node) -> Sequence[str]:
    """Return the types, operators and attributes that a message names: an operator, a cast or ``log.f`` may run code too."""
    fields = message.get("fields")
    named = message.get("names") or message.get("indirection") or (fields if fields.__class__ is list and len(fields) > 1 else ())
    if not named and message.get("name").__class__ is list:
        named = message["name"]
    return strings(named)[-1:] if named.__class__ is list and all("String" in one for one in named) else ()


def _code_of(body: Node) -> list[Any]:
    """Return what of a CREATE FUNCTION runs: its body and the defaults of its parameters, but not what it is SET to meanwhile."""
    options = [only(one)[1] for one in body.get("options", ())]
    defaults = [only(one)[1].get("defexpr") for one in body.get("parameters", ())]
    return [body.get("sql_body"), *defaults, *(one.get("arg") for one in options if one.get("defname") == "as")]


_EXECUTE = re.compile(r"\bexecute\b", re.IGNORECASE)
_RUN_NO_TEXT = ("sql", "c", "internal")


def _runs_text(body: Node, code: str) -> bool:
    """Tell whether a function may run what it is given or puts together, as the catalogue's ``dynamic`` ones may."""
    options = (only(one)[1] for one in body.get("options", ()))
    language = next((one["arg"]["String"]["sval"] for one in options if one.get("defname") == "language"), "sql")
    return language not in _RUN_NO_TEXT and (language != "plpgsql" or _EXECUTE.search(code) is not None)


_ACTS = frozenset({"ExecuteStmt", "funcname", "relname"})


def may_show_hidden(kind: str, body: Node) -> bool:
    """Tell whether a statement may read or write a column that it does not name: by ``*``, a whole row, NATURAL, or without a list.

    ``SELECT p FROM patients p`` and ``COPY patients FROM STDIN`` do; ``SELECT p.id FROM patients p`` does not.
    """
    walked = list(messages(body))
    relations = {name for m in walked if "relname" in m for name in (m["relname"], m.get("alias", {}).get("aliasname"))}
    if kind == "CopyStmt" and "relation" in body and "attlist" not in body:
        return True
    return any(
        "A_Star" in m or m.get("isNatural") or (len(m.get("fields", ())) == 1 and strings(m["fields"])[0] in relations)
        for m in walked
    )
