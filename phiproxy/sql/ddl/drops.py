"""DROP INDEX of a unique index over tags: what foreign keys were given for it goes first, or keeps it where one is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phiproxy.errors import PathNeeded
from phiproxy.policy.catalog import CatalogIndex, Relation
from phiproxy.policy.names import quote_ident
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.definition import Definition
from phiproxy.sql.ddl.foreign import keys_behind
from phiproxy.sql.parse import Node, only, strings


def drop_index(a: Analysis, kind: str, body: Node) -> bool:
    """Bring DROP INDEX into physical form; False for all else, and where no foreign key was given an index for one of these."""
    if kind != "DropStmt" or body.get("removeType") != "OBJECT_INDEX":
        return False
    behind = [key for node in body["objects"] for key in _behind(a, strings(only(node)[1]["items"]))]
    if not behind:
        return False
    if body.get("concurrent"):
        why = "a unique index that foreign keys may need is not dropped CONCURRENTLY"
        raise a.refuse(why, body, hint="Leave CONCURRENTLY out.")
    definition = Definition(a, kind, body, "DROP INDEX")
    cascade = " CASCADE" if body.get("behavior") == "DROP_CASCADE" else ""
    definition.before += [f"DROP INDEX {key}{cascade}" for key in behind]
    definition.settle()
    return True


def _behind(a: Analysis, names: Sequence[str]) -> Iterator[str]:
    """Yield the indexes that foreign keys were given for the index of this name, where it is over tags."""
    *schema, name = names
    protected = a.context.protection.by_name  # that a table is refused matters to nobody who drops what is in it
    if not any(r.index(name) is not None and (r.schema, r.name) in protected for r in a.context.catalog.relations):
        return
    named = a.context.catalog.indexed(name)
    if not schema and a.context.path is None:
        raise PathNeeded(a.meaning.start + 1)
    found = _first(named, schema[-1:] or a.context.path or ())
    table = protected.get((found[0].schema, found[0].name)) if found is not None else None
    if found is not None and table is not None and found[1].unique:
        for key in keys_behind(found[0], table.columns, found[1]):
            yield f"{quote_ident(found[0].schema)}.{quote_ident(key)}"


def _first(named: Sequence[tuple[Relation, CatalogIndex]], schemas: Sequence[str]) -> tuple[Relation, CatalogIndex] | None:
    """Return the index that a name means; an index is in the schema of its table."""
    return next((one for schema in schemas for one in named if one[0].schema == schema), None)
