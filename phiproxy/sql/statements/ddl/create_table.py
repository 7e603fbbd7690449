"""CREATE TABLE of a table of the policy: protected columns in physical form, unique constraints as indexes on tags."""

from phiproxy.errors import PathNeeded
from phiproxy.policy.catalog import CatalogColumn, CatalogIndex, Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.plaintext_guards import GUARD_PREFIX, guard_name
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.check_constraints import seal_check
from phiproxy.sql.statements.ddl.column_definitions import INLINE_STORAGE, is_bytea, storage_command, wanted, write
from phiproxy.sql.statements.ddl.foreign_keys import concerns, foreign_key
from phiproxy.sql.statements.ddl.physical_form import Definition
from phiproxy.sql.statements.ddl.unique_keys import Columns, chosen, unique_index
from phiproxy.sql.table_names import protected_table, protected_table_at, target_relation
from phiproxy.sql.text.parse import Node, only, reference_to, strings


def creation_schema(a: Analysis, relation: Node) -> str:
    """Return the schema in which a relation is created; PathNeeded where the search path is not known."""
    if relation.get("relpersistence") == "t":
        return "pg_temp"
    if "schemaname" in relation:
        return str(relation["schemaname"])
    path = a.context.path
    if path is None:
        raise PathNeeded(a.position(relation))
    if path[:1] == ("pg_temp_",):
        return "pg_temp"
    schema = next((s for s in path if s != "pg_catalog" and not s.startswith("pg_temp_")), None)
    if schema is None:
        raise a.refuse("no schema has been selected to create in", relation, hint="Qualify the table with its schema.")
    return schema


def create_table(a: Analysis, body: Node) -> bool:
    """Bring CREATE TABLE into physical form; return False where it creates and refers to nothing protected.

    CREATE TABLE visits (id int, mrn varchar(12) UNIQUE, diagnosis text)
    → CREATE TABLE public.visits (id int, mrn bytea <guard mrn>, diagnosis bytea <guard diagnosis>); ALTER TABLE
      public.visits ALTER COLUMN mrn SET STORAGE EXTERNAL, …; CREATE UNIQUE INDEX visits_mrn_key ON public.visits ((tag(mrn)))

    CREATE TABLE visits (mrn varchar(12), diagnosis text) PARTITION BY LIST (mrn)
    → refused 0A000
    """
    relation = body["relation"]
    schema, name = creation_schema(a, relation), relation["relname"]
    table = protected_table_at(a, schema, name)
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
    if a.answer.effects.reaches:
        definition.qualify(relation, schema)
    table_columns = tuple(
        CatalogColumn(e["ColumnDef"]["colname"], i, _oid(columns.get(e["ColumnDef"]["colname"])), -1)
        for i, e in enumerate(elements, start=1)
        if "ColumnDef" in e
    )
    a.answer.effects.relations = (Relation(-1, schema, name, "r", table_columns),)
    definition.settle()
    return True


def _check_sources(a: Analysis, body: Node, columns: Columns) -> None:
    """Refuse LIKE and INHERITS between a protected table and another one."""
    relation = body["relation"]
    inherited = [only(parent)[1] for parent in body.get("inhRelations", ())]
    _check_child(a, body, inherited)
    for element in body.get("tableElts", ()):
        kind, inner = only(element)
        if kind == "TableLikeClause":
            _check_parent(a, inner["relation"], "LIKE")
    if columns and (inherited or "ofTypename" in body):
        why = "a protected table that is typed or a child is not in this version"
        raise a.refuse(why, relation, hint="A policy names the parent: its children are protected with it.")
    check_partition_key(a, body, columns)


def check_partition_key(a: Analysis, body: Node, columns: Columns) -> None:
    """Refuse a protected partition key, since the partition would tell which values are equal."""
    for node in body.get("partspec", {}).get("partParams", ()):
        element = only(node)[1]
        if element.get("name") in columns or reference_to(element, columns) is not None:
            raise a.refuse("a table cannot be partitioned by a protected column", element, hint="Partition it by another column.")


def _check_child(a: Analysis, body: Node, parents: list[Node]) -> None:
    """Check a partition or child of a protected table: the server gives it all that its parent has."""
    relations = [target_relation(a, parent) for parent in parents]
    tables = [protected_table(a, relation) for relation in relations]
    given = {name: column for table in tables if table is not None for name, column in table.columns.items()}
    for parent, relation, table in zip(parents, relations, tables, strict=True):
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
    a.answer.effects.reaches = (relation["relname"],)


def _check_parent(a: Analysis, parent: Node, what: str) -> None:
    relation = target_relation(a, parent)
    if protected_table(a, relation) is not None or relation.name in a.context.catalog.reaching:
        raise a.refuse(f"{what} would copy protected columns of {relation.qualified}", parent, hint="Write the columns out.")


def _is_physical(elements: list[Node], columns: Columns) -> bool:
    """Tell whether a table is in physical form already, as pg_dump writes it: bytea columns with guards."""
    own = [e["ColumnDef"] for e in elements if "ColumnDef" in e and e["ColumnDef"]["colname"] in columns]
    named = {only(e)[1].get("conname") for e in elements}
    named |= {only(c)[1].get("conname") for column in own for c in column.get("constraints", ())}
    return bool(own) and all(
        (is_bytea(c["typeName"]) or columns[c["colname"]].document is not None) and guard_name(c["colname"]) in named for c in own
    )


def _oid(column: ProtectedColumn | None) -> int:
    return 0 if column is None else column.stored_oid


def _convert(definition: Definition, elements: list[Node], columns: Columns, qualified: tuple[str, str]) -> None:
    a, body = definition.a, definition.body
    spans = definition.items(definition.opening(definition.name_end(body["relation"])), "ASCII_41")
    dropped: set[int] = set()
    taken: set[str] = set()
    storages: list[str] = []
    keys: list[tuple[Node, list[str]]] = []
    references: list[tuple[Node, list[str]]] = []
    missing_not_null: set[str] = set()
    constraints = [e["Constraint"] for e in elements if "Constraint" in e]
    primary = {name for c in constraints if c["contype"] == "CONSTR_PRIMARY" for name in strings(c.get("keys"))}
    for i, element in enumerate(elements):
        kind, inner = only(element)
        if kind == "ColumnDef" and inner["colname"] in columns:
            column = columns[inner["colname"]]
            asked = wanted(a, column, inner)
            asked.not_null |= column.name in primary
            elements[i] = write(definition, spans[i], column, inner, asked)
            keys += [(key, [column.name]) for key in asked.keys]
            references += [(constraint, [column.name]) for constraint in asked.references]
            storages.append(storage_command(column))
        elif kind == "Constraint" and (names := _converted(a, inner, columns)):
            dropped.add(i)
            (references if inner["contype"] == "CONSTR_FOREIGN" else keys).append((inner, names))
            if inner["contype"] == "CONSTR_PRIMARY":
                missing_not_null |= {n for n in names if n not in columns}
        else:
            check_references(a, inner, columns, definition)
    for key, names in keys:
        name, statement = unique_index(a, columns, qualified, key, names, taken)
        taken.add(name)
        definition.after.append(statement)
    # The table that is being created, with its unique constraints: foreign keys may refer to it.
    indexes = tuple(CatalogIndex("", unique=True, constraint=False, columns=tuple(names)) for _, names in keys)
    _add_foreign_keys(definition, columns, Relation(0, *qualified, "r", (), indexes=indexes), references)
    alters = [] if a.context.catalog.server_version >= INLINE_STORAGE else storages
    alters += [f"ALTER COLUMN {quote_ident(n)} SET NOT NULL" for n in sorted(missing_not_null)]
    full = ".".join(map(quote_ident, qualified))
    if alters:
        definition.after.insert(0, f"ALTER TABLE {full} {', '.join(alters)}")
    if dropped:
        definition.drop_items(spans, dropped)
        body["tableElts"] = [e for i, e in enumerate(elements) if i not in dropped]
    if body.get("if_not_exists"):
        literal = full.replace("'", "''")
        definition.once = f"pg_catalog.to_regclass('{literal}') IS NOT NULL"


def _converted(a: Analysis, constraint: Node, columns: Columns) -> list[str]:
    """Return the columns of a table constraint that is converted, since they are protected; none where it stays."""
    if constraint["contype"] == "CONSTR_FOREIGN":
        names = strings(constraint["fk_attrs"])
        return names if concerns(a, constraint, names, columns) else []
    names = strings(constraint.get("keys")) if constraint["contype"] in ("CONSTR_UNIQUE", "CONSTR_PRIMARY") else []
    return names if any(n in columns for n in names) else []


def _add_foreign_keys(definition: Definition, columns: Columns, own: Relation, references: list[tuple[Node, list[str]]]) -> None:
    taken: set[str] = set()
    for constraint, names in references:
        statements = foreign_key(definition, columns, own, constraint, names, taken)
        taken |= {constraint.get("conname") or chosen(own.name, names, "fkey", taken)}
        definition.after += [s for s in statements if s not in definition.after]


def check_references(a: Analysis, body: Node, columns: Columns, definition: Definition | None = None) -> list[ProtectedColumn]:
    """Refuse an unprotected column or a constraint that refers to a protected column.

    Guards and generated columns of the physical form may. A CHECK is brought into physical form in ``definition``; the columns
    whose values the proxy has to check are returned.

        CREATE TABLE visits (mrn varchar(12), diagnosis text, n int GENERATED ALWAYS AS (length(mrn)) STORED)
        → refused 0A000
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
        reference = reference_to(constraint, columns)
        if reference is not None or named:
            why = "the server would compute this constraint or column from a protected column"
            raise a.refuse(why, reference or constraint, hint="Check it in the application.")
    return sealed
