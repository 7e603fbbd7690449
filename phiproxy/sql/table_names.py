"""Relations that a statement names: what they are to the server, whether they are protected, and what they are in FROM."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from phiproxy.errors import NotPermitted, PathNeeded, StatementRefused, TooManyAliases, UndefinedTable
from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.physical_columns import generated_tags, visible_columns
from phiproxy.policy.protection import OF_STATISTICS, ProtectedTable
from phiproxy.policy.subject_columns import subject_kind
from phiproxy.sql.context import Analysis
from phiproxy.sql.resolve.protected_values import About, Clear, Protected, Value, about_instead, about_whom, list_groups
from phiproxy.sql.resolve.scope import Source, SourceColumn
from phiproxy.sql.resolve.table_columns import TableColumns
from phiproxy.sql.text.parse import Node, only


def relation_of(a: Analysis, body: Node) -> Source | Relation:
    """Return the CTE or relation that a RangeVar of FROM means; CTEs hide unqualified names. Errors as ``meant_relation``."""
    levels = reversed(a.ctes) if body.get("schemaname") is None else ()
    cte = next((level[body["relname"]] for level in levels if body["relname"] in level), None)
    return qualified_relation(a, body) if cte is None else cte


def qualified_relation(a: Analysis, body: Node) -> Relation:
    """Return the relation that a RangeVar means, and let that be what the server takes; errors as ``meant_relation``."""
    meant = meant_relation(a, body)
    if "schemaname" not in body and _is_protected_name(a, body["relname"]):
        a.qualify(body, meant.schema)
    return meant


def meant_relation(a: Analysis, body: Node) -> Relation:
    """Return what a RangeVar that is no CTE means (manual 5.10). UndefinedTable; NotPermitted (registry); PathNeeded (no path)."""
    name, schema = body["relname"], body.get("schemaname")
    if body.get("catalogname") not in (None, a.context.database):
        raise a.refuse("cross-database references are not implemented", body, hint="Leave the database out of the name.")
    if schema == a.context.protection.registry_schema:
        raise NotPermitted("the key registry is not for clients", position=a.position(body))
    relation = _lookup(a, name, schema, body)
    if relation.schema == a.context.protection.registry_schema:
        raise NotPermitted("the key registry is not for clients", position=a.position(body))
    return relation


def _is_protected_name(a: Analysis, name: str) -> bool:
    return name in a.context.protection.table_names or name in a.context.catalog.reaching


def _lookup(a: Analysis, name: str, schema: str | None, body: Node) -> Relation:
    context, key = a.context, (schema, name)
    relation = a.relations.get(key)
    if relation is not None:
        return relation
    if schema is None or schema == "pg_temp":
        if context.path is None:
            raise PathNeeded(a.position(body))
        relation = _on_path(a, name, own_only=schema is not None)
    else:
        relation = context.catalog.find(schema, name)
    if relation is not None:
        a.relations[key] = relation
        return relation
    if name in context.created and not _is_protected_name(a, name):
        return Relation(0, schema or "", name, "r", ())
    shown = name if schema is None else f"{schema}.{name}"
    raise UndefinedTable(f'relation "{shown}" does not exist', position=a.position(body))


def _on_path(a: Analysis, name: str, *, own_only: bool) -> Relation | None:
    """Return what a name means on the search path, or among the session's own temporary tables only.

    The catalogue may still have a temporary table of a session that is gone, or not yet this session's: of those with a
    protected name only the session says which there are. They are known by name only, as ``pg_temp``'s, none of their columns
    being protected.
    """
    context = a.context
    for schema in context.path or ():
        temporary = schema.startswith("pg_temp_")
        if own_only and not temporary:
            continue
        if temporary and name in context.protection.table_names:
            if name in context.temporary:
                return Relation(0, "pg_temp", name, "r", ())
            continue
        relation = context.catalog.find(schema, name)
        if relation is not None:
            return relation
    return None


def will_mean(a: Analysis, body: Node, new_relation: tuple[str, str]) -> bool:
    """Tell whether a RangeVar means the relation, of this schema and name, that the statement is about to make."""
    schema, name = new_relation
    if body["relname"] != name or "schemaname" in body:
        return (body.get("schemaname"), body["relname"]) == new_relation
    path = a.context.path or ()
    before = path[: path.index(schema)] if schema in path else path
    return schema in path and not any(a.context.catalog.find(earlier, name) is not None for earlier in before)


def protected_table(a: Analysis, relation: Relation) -> ProtectedTable | None:
    """Return the protection of a relation, or None; StatementRefused for one that is refused as a whole."""
    return protected_table_at(a, relation.schema, relation.name)


def protected_table_at(a: Analysis, schema: str, name: str) -> ProtectedTable | None:
    """Return the protection of what has this name, as ``protected`` does."""
    table = a.context.protection.by_name.get((schema, name))
    if table is not None and table.refused is not None:
        refusal = StatementRefused(table.refused.why, hint=table.refused.hint)
        refusal.name = name
        raise refusal
    return table


def takes_protected_names(a: Analysis, schema: str, name: str, columns: Iterable[str | None]) -> bool:
    """Tell whether a new table has a protected one's name and columns (None: unknown), and is not in clear by the policy."""
    protection = a.context.protection
    if (schema, name) in protection.by_name or (schema, name) in protection.boundary.clear:
        return False
    taken = {column for table in protection.tables if table.name == name for column in table.columns}
    return bool(taken) and any(column is None or column in taken for column in columns)


def target_relation(a: Analysis, body: Node) -> Relation:
    """Return the relation that a RangeVar means when it is no CTE; records nothing."""
    return _lookup(a, body["relname"], body.get("schemaname"), body)


def from_source(a: Analysis, body: Node) -> Source:
    """Return a RangeVar of a FROM clause as a source, under its alias and alias column names."""
    meant = relation_of(a, body)
    if isinstance(meant, Source):
        for group in list_groups(c.value for c in meant.columns):
            group.references += 1
        columns = _about_others(a, meant) if any(meant is earlier for earlier in a.referenced) else meant.columns
        a.referenced.append(meant)
        named = body.get("alias", {})
        label = named.get("aliasname") or body["relname"]
        return rename(Source(label, columns, None, meant.opaque, system=False), named)
    return table_source(a, meant, body)


def _about_others(a: Analysis, source: Source) -> Sequence[SourceColumn]:
    """Return the columns of a CTE to which something else refers too: one row of it is not about whom the other's is."""
    own: dict[About, About] = {}
    for column in source.columns:
        for about in about_whom(column.value):
            own.setdefault(about, replace(about, body={}))
    a.about += own.values()

    def value(value: Value) -> Value:
        return about_instead(value, tuple(own[about] for about in about_whom(value))) if about_whom(value) else value

    return tuple(replace(column, value=value(column.value)) for column in source.columns)


def target_source(a: Analysis, body: Node) -> tuple[Relation, Source]:
    """Return the relation that INSERT, UPDATE or DELETE names, never a CTE, and its source."""
    relation = qualified_relation(a, body)
    return relation, table_source(a, relation, body)


def table_source(a: Analysis, relation: Relation, body: Node) -> Source:
    """Return a relation as a source, under the alias of its RangeVar."""
    named = body.get("alias", {})
    label = named.get("aliasname") or body["relname"]
    table = protected_table(a, relation)
    if table is None:
        check_reaching(a, relation.name, body)
    else:
        a.answer.touches = True
        _check_known(a, table, body)
    about = _about(a, table, relation, body)
    stored = sorted(relation.columns, key=lambda column: column.attnum)
    seen = stored if a.physical else visible_columns(relation)
    if (count := len(named.get("colnames", ()))) and any(c is not s for c, s in zip(seen[:count], stored, strict=False)):
        why = f'the server has the columns of "{relation.name}" in another order, so names for them would be those of others'
        raise a.refuse(why, body, hint="Leave out the list of columns behind the alias, and use AS where they are selected.")
    columns = TableColumns(seen, lambda c: SourceColumn(c.name, _value(table, relation, c, about)))
    schema = None if named.get("aliasname") else relation.schema
    # A relation made by this session moments ago is known by name only: its columns are opaque, none of them protected.
    hidden = len(columns) < len(relation.columns) or relation.reordered
    return rename(Source(label, columns, schema, opaque=not relation.oid, hidden=hidden), named)


def _check_known(a: Analysis, table: ProtectedTable, body: Node) -> None:
    """Refuse a table with a column whose type is not in the catalogue: how its values are read is not known."""
    unknown = next((c for c in table.columns.values() if not c.type.known), None)
    if unknown is not None:
        why = f"type {unknown.type.name}, which {unknown.label} has, is not there or can no longer be protected"
        raise a.refuse(why, body, hint="Run `phiproxy check`.")


def _about(a: Analysis, table: ProtectedTable | None, relation: Relation, body: Node) -> About | None:
    """Note that a relation of the statement has a subject, and return that."""
    if table is None or table.subject is None:
        return None
    protected, column = table.columns.get(table.subject), relation.column(table.subject)
    oid = protected.type.oid if protected is not None else column.type_oid if column is not None else 0
    columns = tuple(column.name for column in visible_columns(relation))
    about = About(f"{table.schema}.{table.name}.{table.subject}", table.subject, subject_kind(oid), columns, body)
    a.about.append(about)
    return about


def _value(table: ProtectedTable | None, relation: Relation, column: CatalogColumn, about: About | None) -> Value:
    protected = table.columns.get(column.name) if table is not None else None
    whom = (about,) if about is not None and about.name == column.name else ()
    if protected is None:
        return Clear((column.type_oid, column.typmod), about=whom)
    # Of a table that the same text makes only the server knows the OID.
    origin = (relation.oid, column.attnum) if relation.oid > 0 else None
    return Protected(protected, protected.type, origin=origin, tags=generated_tags(relation, protected), about=whom)


def check_reaching(a: Analysis, name: str, body: Node) -> None:
    """Refuse a relation or function name through which something protected is reached."""
    how = a.context.catalog.reaching.get(name)
    if how is not None and name in a.context.catalog.statistics and a.context.protection.masked:
        raise StatementRefused(f'"{name}": {OF_STATISTICS.why}', hint=OF_STATISTICS.hint, position=a.position(body))
    if how is not None:
        why = f'"{name}" reaches protected columns ({how})'
        raise StatementRefused(why, hint="Use the protected table itself.", position=a.position(body))


def rename(source: Source, alias: Node) -> Source:
    """Apply an alias's column list (manual 7.2.1.2): the first n columns get new names."""
    names = [only(n)[1].get("sval", "") for n in alias.get("colnames", ())]
    if not names:
        return source
    if len(names) > len(source.columns) and not source.opaque:
        there, given = len(source.columns), len(names)
        raise TooManyAliases(
            f'table "{source.alias}" has {there} columns available but {given} columns specified', hint="Give fewer."
        )
    values = [replace(c.value, tags=()) if isinstance(c.value, Protected) else c.value for c in source.columns]
    renamed = tuple(SourceColumn(name, value) for name, value in zip(names, values, strict=False))
    return replace(source, columns=(*renamed, *source.columns[len(names) :]))
