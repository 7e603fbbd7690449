"""ALTER VIEW of views over something protected: names, schemas, owners and options are the server's, and change nothing here."""

from __future__ import annotations

from phiproxy.policy.catalog import Relation
from phiproxy.policy.view_rests import is_computed, is_inner
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.physical_form import Definition
from phiproxy.sql.table_names import meant_relation
from phiproxy.sql.text.parse import Node, only

_COMMANDS = frozenset({"AT_ChangeOwner", "AT_ResetRelOptions", "AT_SetRelOptions"})


def alter_view(a: Analysis, kind: str, body: Node) -> bool:
    """Send ALTER VIEW as it is, of a view that reaches something protected; return False for what is not understood here.

    ALTER VIEW springfield RENAME TO shelbyville
    → ALTER VIEW public.springfield RENAME TO shelbyville

    ALTER VIEW springfield RENAME TO patients
    → refused 0A000

    ALTER VIEW springfield ALTER social SET DEFAULT 'x'
    → refused 0A000
    """
    if any(only(command)[1].get("subtype") not in _COMMANDS for command in body.get("cmds", ())):
        return False
    relation = meant_relation(a, body["relation"])
    if relation.kind != "v" or relation.name not in a.context.catalog.reaching:
        return False
    _check_names(a, body, relation)
    definition = Definition(a, kind, body, "ALTER VIEW")
    definition.qualify(body["relation"], relation.schema)
    definition.settle()
    if body.get("renameType") == "OBJECT_VIEW":
        a.answer.effects.reaches = (body["newname"],)
    return True


def _check_names(a: Analysis, body: Node, relation: Relation) -> None:
    name = body["newname"] if body.get("renameType") == "OBJECT_VIEW" else relation.name
    to = body.get("newschema", relation.schema), name
    if to in a.context.protection.by_name:
        why = f"{'.'.join(to)} is a protected table of the policy"
        raise a.refuse(why, body["relation"], hint="Give the view another name.")
    if is_computed(relation) and body.get("renameType") == "OBJECT_COLUMN":
        inner = next((n for n in (body["subname"], body["newname"]) if is_inner(n)), None)
        if inner is not None:
            raise a.refuse(f'"{inner}" is a name of a column that only the proxy reads', body["relation"], hint="Choose another.")
