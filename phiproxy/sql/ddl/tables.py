"""CREATE TABLE: the protected columns of a policy's table in physical form, its unique constraints as tag indexes."""

from __future__ import annotations

from phiproxy.errors import PathNeeded
from phiproxy.policy.catalog import CatalogColumn, CatalogIndex, Relation
from phiproxy.policy.guards import GUARD_PREFIX, guard_name
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.policy.types import BYTEA_OID
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.columns import INLINE_STORAGE, is_bytea, storage_command, wanted, write
from phiproxy.sql.ddl.conditions import seal_check
from phiproxy.sql.ddl.definition import Definition
from phiproxy.sql.ddl.foreign import concerns, foreign_key
from phiproxy.sql.ddl.keys import Columns, constraint_columns, unique_index
from phiproxy.sql.ddl.mentions import mentioned
from phiproxy.sql.ddl.names import chosen
from phiproxy.sql.parse import Node, only, strings


def creation_schema(a: Analysis, relation: Node) -> str:
    """Return the schema in which a new relation is made; PathNeeded where the search path is not known."""
    if relation.get("relpersistence") == "t":
        return "pg_temp"
    if "schemaname" in relation:
        return str(relation["schemaname"])
    path = a.context.path
    if path is None:
        raise PathNeeded(a.position(relation))
    schema = next((s for s in path if s != "pg_catalog" and not s.startswith("pg_temp_")), None)
    if schema is None:
        raise a.refuse("no schema has been selected to create in", relation, hint="Qualify the table with its schema.")
    return schema


def create_table(a: Analysis, body: Node) -> bool:
    """Bring a CreateStmt into physical form; False where it makes or refers to nothing protected."""
    relation = body["relation"]
    schema, name = creation_schema(a, relation), relation["relname"]
    table = a.protected_at(schema, name)
    columns = table.columns if table is not None else {}
    _check_sources(a, body, columns)
    definition = Definition(a, "CreateStmt", body, "CREATE TABLE")
    if table is not None:
        definition.qualify(relation, schema)
    definition.qualify_others(relation, (schema, name))
    elements = body.get("tableElts", [])
    if not columns or _is_physical(elements, columns):
        for element in elements:
            check_references(a, only(element)[1], columns, definition)
    else:
        _convert(definition, elements, columns, (schema, name))
    if a.meaning.effects.reaches:
        definition.qualify(relation, schema)
    made = tuple(
        CatalogColumn(e["ColumnDef"]["colname"], i, BYTEA_OID if e["ColumnDef"]["colname"] in columns else 0, -1)
        for i, e in enumerate(elements, start=1)
        if "ColumnDef" in e
    )
    a.meaning.effects.relations = (Relation(-1, schema, name, "r", made),)
    definition.settle()
    return True


def _check_sources(a: Analysis, body: Node, columns: Columns) -> None:
    """Refuse what takes columns from, or gives them to, another relation."""
    relation = body["relation"]
    inherited = [only(parent)[1] for parent in body.get("inhRelations", ())]
    _check_child(a, body, inherited)
    for element in body.get("tableElts", ()):
        kind, inner = only(element)
        if kind == "TableLikeClause":
            _check_parent(a, inner["relation"], "LIKE")
    if columns and (inherited or "ofTypename" in body):
        raise a.refuse(
            "a protected table that is typed or a child is not in this version",
            relation,
            hint="A policy names the parent: its children are protected with it.",
        )
    check_partition_key(a, body, columns)


def check_partition_key(a: Analysis, body: Node, columns: Columns) -> None:
    """Refuse to divide a table by a protected column: equal values must not tell where they are."""
    for node in body.get("partspec", {}).get("partParams", ()):
        element = only(node)[1]
        if element.get("name") in columns or mentioned(element, columns) is not None:
            raise a.refuse("a table cannot be partitioned by a protected column", element, hint="Partition it by another column.")


def _check_child(a: Analysis, body: Node, parents: list[Node]) -> None:
    """Let a table be made as a partition or child of a protected one: the server gives it all that its parent has."""
    found = [a.target_relation(parent) for parent in parents]
    tables = [a.protected(relation) for relation in found]
    given = {name: column for table in tables if table is not None for name, column in table.columns.items()}
    for parent, relation, table in zip(parents, found, tables, strict=True):
        if table is None:
            _check_parent(a, parent, "INHERITS or PARTITION OF")
        own = table.columns if table is not None else {}
        other = next((c for n, c in given.items() if relation.column(n) and (n not in own or own[n].identity != c.identity)), None)
        if other is not None:
            raise a.refuse(f"{relation.qualified} has a column as {other.label} that holds other values", parent, hint="Rename it.")
    if not given:
        return
    relation = body["relation"]
    if relation.get("relpersistence") == "t":
        raise a.refuse("a temporary child of a protected table is not in this version", relation, hint="Make it permanent.")
    for element in body.get("tableElts", ()):
        kind, inner = only(element)
        if kind == "ColumnDef" and inner["colname"] in given:
            raise a.refuse(f"{given[inner['colname']].label} is as its parent has it", relation, hint="Leave it out.")
        check_references(a, inner, given)
    check_partition_key(a, body, given)
    a.meaning.effects.reaches = (relation["relname"],)


def _check_parent(a: Analysis, parent: Node, what: str) -> None:
    found = a.target_relation(parent)
    if a.protected(found) is not None or found.name in a.context.catalog.reaching:
        raise a.refuse(f"{what} would copy protected columns of {found.qualified}", parent, hint="Write the columns out.")


def _is_physical(elements: list[Node], columns: Columns) -> bool:
    """Tell whether a table is already in physical form (pg_dump's): bytea, with a constraint of the guard's name."""
    own = [e["ColumnDef"] for e in elements if "ColumnDef" in e and e["ColumnDef"]["colname"] in columns]
    named = {only(e)[1].get("conname") for e in elements}
    named |= {only(c)[1].get("conname") for column in own for c in column.get("constraints", ())}
    return bool(own) and all(is_bytea(c["typeName"]) and guard_name(c["colname"]) in named for c in own)


def _convert(definition: Definition, elements: list[Node], columns: Columns, place: tuple[str, str]) -> None:
    a, body = definition.a, definition.body
    spans = definition.items(definition.opening(definition.name_end(body["relation"])), "ASCII_41")
    dropped: set[int] = set()
    taken: set[str] = set()
    storages: list[str] = []
    keys: list[tuple[Node, list[str]]] = []
    references: list[tuple[Node, list[str]]] = []
    missing_not_null: set[str] = set()
    for i, element in enumerate(elements):
        kind, inner = only(element)
        if kind == "ColumnDef" and inner["colname"] in columns:
            column = columns[inner["colname"]]
            found = wanted(a, column, inner)
            found.not_null |= _in_primary_key(elements, column.name)
            elements[i] = write(definition, spans[i], column, inner, found)
            keys += [(key, [column.name]) for key in found.keys]
            references += [(constraint, [column.name]) for constraint in found.references]
            storages.append(storage_command(column))
        elif kind == "Constraint" and (names := _converted(a, inner, columns)):
            dropped.add(i)
            (references if inner["contype"] == "CONSTR_FOREIGN" else keys).append((inner, names))
            if inner["contype"] == "CONSTR_PRIMARY":
                missing_not_null |= {n for n in names if n not in columns}
        else:
            check_references(a, inner, columns, definition)
    for key, names in keys:
        name, statement = unique_index(a, columns, place, key, names, taken)
        taken.add(name)
        definition.after.append(statement)
    _add_foreign_keys(definition, columns, _being_made(place, [names for _, names in keys]), references)
    alters = [] if a.context.catalog.server_version >= INLINE_STORAGE else storages
    alters += [f"ALTER COLUMN {quote_ident(n)} SET NOT NULL" for n in sorted(missing_not_null)]
    full = ".".join(map(quote_ident, place))
    if alters:
        definition.after.insert(0, f"ALTER TABLE {full} {', '.join(alters)}")
    if dropped:
        definition.drop_items(spans, dropped)
        body["tableElts"] = [e for i, e in enumerate(elements) if i not in dropped]
    if body.get("if_not_exists"):
        literal = full.replace("'", "''")
        definition.once = f"pg_catalog.to_regclass('{literal}') IS NOT NULL"


def _converted(a: Analysis, constraint: Node, columns: Columns) -> list[str]:
    """Return the columns of a table's constraint that becomes something else, for they are protected; none where it stays."""
    if constraint["contype"] == "CONSTR_FOREIGN":
        names = strings(constraint["fk_attrs"])
        return names if concerns(a, constraint, names, columns) else []
    names = constraint_columns(constraint, None) if constraint["contype"] in ("CONSTR_UNIQUE", "CONSTR_PRIMARY") else []
    return names if any(n in columns for n in names) else []


def _being_made(place: tuple[str, str], keys: list[list[str]]) -> Relation:
    """Return a table that is not there yet, as foreign keys must know it: with its unique constraints."""
    indexes = (CatalogIndex("", unique=True, constraint=False, columns=tuple(names)) for names in keys)
    return Relation(0, *place, "r", (), indexes=tuple(indexes))


def _add_foreign_keys(definition: Definition, columns: Columns, own: Relation, references: list[tuple[Node, list[str]]]) -> None:
    taken: set[str] = set()
    for constraint, names in references:
        statements = foreign_key(definition, columns, own, constraint, names, taken)
        taken |= {constraint.get("conname") or chosen(own.name, names, "fkey", taken)}
        definition.after += [s for s in statements if s not in definition.after]


def _in_primary_key(elements: list[Node], column: str) -> bool:
    constraints = [e["Constraint"] for e in elements if "Constraint" in e]
    return any(c["contype"] == "CONSTR_PRIMARY" and column in strings(c.get("keys")) for c in constraints)


def check_references(a: Analysis, body: Node, columns: Columns, definition: Definition | None = None) -> list[ProtectedColumn]:
    """Refuse an unprotected column or a constraint that names a protected column, of this table or of another.

    Guards and generated tag columns are the physical form's own. A CHECK is brought into physical form in ``definition``, and the
    columns are returned whose values the proxy has to look at.
    """
    sealed: list[ProtectedColumn] = []
    if str(body.get("colname", "")).startswith("phi_tag_"):
        return sealed
    constraints = [only(c)[1] for c in body.get("constraints", ())] if "typeName" in body else [body]
    for constraint in constraints:
        if str(constraint.get("conname", "")).startswith(GUARD_PREFIX):
            continue
        if constraint.get("contype") == "CONSTR_FOREIGN":
            if concerns(a, constraint, strings(constraint.get("fk_attrs")), columns):
                text = "a foreign key between a protected column and an unprotected one cannot be"
                raise a.refuse(text, constraint, hint="Put both columns into one domain in the policy.")
            continue
        if constraint.get("contype") == "CONSTR_CHECK" and definition is not None:
            sealed += seal_check(definition, constraint, columns)
            continue
        elements = [only(m)[1]["items"][0] for m in constraint.get("exclusions", ())]
        named = [n for n in (only(e)[1].get("name") for e in elements) if n in columns]
        found = mentioned(constraint, columns)
        if found is not None or named:
            raise a.refuse(
                "the server would compute this constraint or column from a protected column",
                found or constraint,
                hint="Check it in the application.",
            )
    return sealed
