"""DROP INDEX of a unique index on tags: the indexes that foreign keys use in its place are dropped first, or kept."""

import copy
from collections.abc import Iterator, Sequence

from phiproxy.errors import PathNeeded
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.foreign_keys import keys_behind
from phiproxy.sql.statements.ddl.physical_form import Definition
from phiproxy.sql.text.parse import Node, only, strings


def drop_index(a: Analysis, kind: str, body: Node) -> bool:
    """Bring DROP INDEX into physical form; return False where no foreign key uses an index in place of these.

    DROP INDEX members_mrn_key
    → unchanged
    """
    if kind != "DropStmt" or body.get("removeType") != "OBJECT_INDEX":
        return False
    behind = [key for node in body["objects"] for key in _behind(a, strings(only(node)[1]["items"]))]
    if not behind:
        return False
    if body.get("concurrent"):
        why = "a unique index that foreign keys may need is not dropped CONCURRENTLY"
        raise a.refuse(why, body, hint="Leave CONCURRENTLY out.")
    definition = Definition(a, kind, copy.deepcopy(body), "DROP INDEX")
    cascade = " CASCADE" if body.get("behavior") == "DROP_CASCADE" else ""
    definition.before += [f"DROP INDEX {key}{cascade}" for key in behind]
    definition.settle()
    return True


def _behind(a: Analysis, names: Sequence[str]) -> Iterator[str]:
    """Yield the indexes that foreign keys use in place of the index of this name."""
    *schema, name = names
    protected = a.context.protection.by_name  # that a table is refused matters to nobody who drops what is in it
    if not any(r.index(name) is not None and (r.schema, r.name) in protected for r in a.context.catalog.relations):
        return
    named = a.context.catalog.indexed(name)
    if not schema and a.context.path is None:
        raise PathNeeded(a.answer.start + 1)
    schemas = schema[-1:] or a.context.path or ()
    relation = next((one for schema_name in schemas for one in named if one[0].schema == schema_name), None)
    table = protected.get((relation[0].schema, relation[0].name)) if relation is not None else None
    if relation is not None and table is not None and relation[1].unique:
        for key in keys_behind(relation[0], table.columns, relation[1]):
            yield f"{quote_ident(relation[0].schema)}.{quote_ident(key)}"
