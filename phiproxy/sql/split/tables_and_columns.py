"""The tables that a query reads: which RangeVars of its tree are tables or views, and which of their columns are needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.column_types import of_typmod
from phiproxy.policy.protection import DeclaredType
from phiproxy.policy.view_rests import ViewRest, client_columns, is_inner
from phiproxy.sql.context import Analysis
from phiproxy.sql.queries.computed_views import told_types, values_of
from phiproxy.sql.queries.views import columns_of_view
from phiproxy.sql.resolve.protected_values import Protected, Value
from phiproxy.sql.resolve.scope import SYSTEM_COLUMNS
from phiproxy.sql.result import RowType, SourceColumn
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.table_names import meant_relation, protected_table
from phiproxy.sql.text.parse import Node, messages, only, strings
from phiproxy.wire.oids import CATALOG_OIDS, NOT_CARRIED_OIDS, SYSTEM_COLUMN_OIDS

_SYSTEM_TYPES = {"ctid": "tid", "xmin": "xid", "xmax": "xid", "cmin": "cid", "cmax": "cid", "tableoid": "oid"}


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table as the client names it; ``name`` is the table's own, ``number`` its attnum."""

    name: str
    label: str
    number: int
    type: SourceColumn
    protected: bool = False


@dataclass(slots=True)
class Table:
    """One table or view of a query: its RangeVar, the RangeTableSample around it, and the columns that the rest may name.

    ``rest``: it is a view over expressions, and these columns are computed of its ``inputs``.
    """

    body: Node
    sample: Node | None
    relation: Relation
    level: int
    columns: list[TableColumn] = field(default_factory=list)
    protected: bool = False
    rest: ViewRest | None = None
    inputs: list[TableColumn] = field(default_factory=list)

    @property
    def fenced(self) -> bool:
        """Whether it is a security barrier, behind which rows are chosen in the rest: no condition may be asked of the others."""
        return self.rest is not None and self.relation.barrier and self.rest.rows != "each"

    @property
    def label(self) -> str:
        """The name by which its columns are qualified."""
        name: str = self.body.get("alias", {}).get("aliasname") or self.body["relname"]
        return name


@dataclass(slots=True)
class Mentioned:
    """The names in a statement.

    ``rows``: those of references without a dot, which may be whole rows. ``starred``: those before ``.*``. ``items`` are the ids of
    items of FROM, and of queries, all of whose columns are needed.
    """

    names: set[str] = field(default_factory=set)
    rows: set[str] = field(default_factory=set)
    starred: set[str] = field(default_factory=set)
    items: set[int] = field(default_factory=set)

    def all_of(self, label: str, *ids: int) -> bool:
        """Tell whether all columns of an item are needed."""
        return label in self.rows or label in self.starred or not self.items.isdisjoint(ids)


def mentioned(remaining: Iterable[Node]) -> Mentioned:
    """Return the names in messages of a query: which columns are needed is decided by name, so that names stay as ambiguous."""
    result = Mentioned()
    asked: set[int] = set()
    for message in remaining:
        if isinstance(message.get("fields"), list):
            names = strings(message["fields"])
            if names[-1] == "*":
                result.starred.update(names[-2:-1])
            else:
                result.rows.update(names if len(names) == 1 else ())
                result.names.update(names)
        if message.get("subLinkType") == "EXISTS_SUBLINK":
            asked.add(id(message["subselect"].get("SelectStmt")))
        if "larg" in message and "jointype" in message:
            if message.get("isNatural") or "alias" in message:
                result.items.update(map(id, _leaves([message["larg"], message["rarg"]])))
            result.names.update(strings(message.get("usingClause")))
        if message.get("fromClause") and id(message) not in asked and any(_is_star(node) for node in message.get("targetList", ())):
            result.items |= {id(message), *map(id, _leaves(message["fromClause"]))}
    return result


def _is_star(target: Node) -> bool:
    value = only(target)[1]["val"]
    return "ColumnRef" in value and strings(only(value)[1]["fields"]) == ["*"]


def _leaves(items: Iterable[Node]) -> Iterator[Node]:
    """Yield the bodies of the items of a FROM that are no joins, of a sample that of its table."""
    for kind, body in map(only, items):
        if kind == "JoinExpr":
            yield from _leaves([body["larg"], body["rarg"]])
        else:
            yield body["relation"]["RangeVar"] if kind == "RangeTableSample" else body


def tables(a: Analysis, body: Node) -> list[Table]:
    """Return the tables of a query in the order of its text; Impossible for one of which not all is known."""
    found: list[Table] = []
    levels = iter(range(1, 1 << 30))
    for node, sample, level in _in_query(body, frozenset(), levels):
        relation = meant_relation(a, node)
        if not relation.oid or relation.schema.startswith("pg_temp"):
            raise Impossible("a table that was made a moment ago")
        found.append(Table(node, sample, relation, level))
    for table in found:
        _set_columns(a, table)
    return found


def row_type(table: Table) -> RowType:
    """Return the type of the rows of a table or view; Impossible where it is not known here."""
    relation, columns = table.relation, tuple((c.name, c.type) for c in table.columns)
    if not relation.row_type or not columns:
        raise Impossible("a row of a type that is not known")
    _check_carried(one for _, one in columns)
    return RowType(relation.row_type, relation.schema, relation.name, columns)


def row_type_of(a: Analysis, relation: Relation) -> RowType:
    """Return the same of any table or view; Impossible."""
    table = Table({"relname": relation.name}, None, relation, 0)
    _set_columns(a, table)
    return row_type(table)


def protected_columns(a: Analysis, query: Node, ctes: Collection[str]) -> Iterator[tuple[int, int]]:
    """Yield the (table OID, attnum) of the protected columns of the tables of a query of WITH, and of its target if it is a write.

    ``ctes`` are the names of queries of WITH.
    """
    _, body = only(query)
    for message in messages(body):
        if "relname" in message and (message is body.get("relation") or "schemaname" in message or message["relname"] not in ctes):
            relation = meant_relation(a, message)
            table = Table(message, None, relation, 0)
            if relation.oid:
                _set_columns(a, table)
            yield from ((relation.oid, c.number) for c in table.columns if c.protected)


def written_rows(label: str, body: Node, columns: Iterable[TableColumn]) -> Table:
    """Return what a write in WITH returns as a table: ``body`` is the RangeVar that names it."""
    return Table(body, None, Relation(0, "", label, "v", ()), 0, list(columns))


def _range_vars(tree: Any, ctes: frozenset[str], level: int, levels: Iterator[int]) -> Iterator[tuple[Node, Node | None, int]]:
    """Yield the RangeVars that are no CTEs, each with its TABLESAMPLE, and the number of the query in whose FROM it stands."""
    if isinstance(tree, list):
        for item in tree:
            yield from _range_vars(item, ctes, level, levels)
        return
    for key, value in tree.items():
        if key == "SelectStmt" or (key in ("larg", "rarg") and "op" in tree):
            yield from _in_query(value, ctes, levels)
        elif key == "RangeVar":
            if "schemaname" in value or value["relname"] not in ctes:
                yield value, None, level
        elif key == "RangeTableSample":
            yield value["relation"]["RangeVar"], value, level
            yield from _range_vars([value.get("args", []), value.get("repeatable", {})], ctes, level, levels)
        elif key != "lockingClause" and isinstance(value, dict | list):
            yield from _range_vars(value, ctes, level, levels)


def _in_query(body: Node, ctes: frozenset[str], levels: Iterator[int]) -> Iterator[tuple[Node, Node | None, int]]:
    level = next(levels)
    clause = body.get("withClause")
    if clause is not None:
        own = [only(node)[1] for node in clause["ctes"]]
        if clause.get("recursive"):
            ctes |= {cte["ctename"] for cte in own}
        for cte in own:
            if "SelectStmt" in cte["ctequery"]:  # a write reads what the rest does not
                yield from _range_vars(cte["ctequery"], ctes, level, levels)
            ctes |= {cte["ctename"]}
    yield from _range_vars({k: v for k, v in body.items() if k != "withClause"}, ctes, level, levels)


def _set_columns(a: Analysis, table: Table) -> None:
    """Set the columns of a table that the client may see, under the names that its alias gives them, and a view's inputs."""
    relation = table.relation
    protected = protected_table(a, relation)
    view = columns_of_view(a, relation) if protected is None and relation.name in a.context.catalog.reaching else None
    values = view.values if view is not None else None
    if protected is None and values is None and relation.name in a.context.catalog.reaching:
        raise Impossible("it reaches protected columns in a way that is not understood")
    names = strings(table.body.get("alias", {}).get("colnames"))
    by_name = dict(zip((c.name for c in relation.columns), values, strict=True)) if values is not None else {}
    for column in client_columns(relation):
        if protected is not None and column.name.startswith("phi_tag_"):
            continue
        own = protected.columns.get(column.name) if protected is not None else None
        at = len(table.columns)
        label = names[at] if at < len(names) else column.name
        if own is not None:
            one = TableColumn(column.name, label, column.attnum, SourceColumn(own.type, own.type.typmod), protected=True)
        else:
            one = _column(a, column, label, by_name.get(column.name))
        table.columns.append(one)
    table.protected = protected is not None or values is not None
    if view is not None and view.rest is not None:
        table.rest = view.rest
        leading = next(n for n, c in enumerate(relation.columns) if is_inner(c.name))
        if len(names) > leading:
            raise Impossible("names for columns that the server has elsewhere")
        shown = {c.name: c.label for c in table.columns}
        found = values_of(relation, view.values, view.rest) or ()
        table.inputs = [_column(a, column, shown.get(column.name, column.name), value) for column, value in found]
        shows, told = zip(table.columns, view.rest.shown, strict=True), told_types(relation, view.rest)
        table.columns = [c if there else _computed(c, told.get(c.name)) for c, there in shows]


def _computed(column: TableColumn, told: DeclaredType | None) -> TableColumn:
    return replace(column, protected=True, type=SourceColumn(told, told.typmod) if told is not None else column.type)


def _column(a: Analysis, column: CatalogColumn, label: str, value: Value | None) -> TableColumn:
    if isinstance(value, Protected):
        type_ = SourceColumn(value.type, value.type.typmod)
    else:
        type_ = SourceColumn(type_of(a.context.catalog, column.type_oid, column.typmod), column.typmod, column.collation)
    return TableColumn(column.name, label, column.attnum, type_, isinstance(value, Protected))


def type_of(catalog: Catalog, oid: int, typmod: int) -> DeclaredType:
    """Return a type of the catalogue; of one that is not known to be carried its oid only, and no name."""
    declared = of_typmod(oid, typmod)
    if declared is not None:
        return declared
    row = catalog.signatures.row(oid) if catalog.signatures is not None else None
    known = row is not None and row.kind in "bder" and oid not in NOT_CARRIED_OIDS and oid not in CATALOG_OIDS
    return DeclaredType(row.name if row is not None and known else "", oid, typmod)


def is_catalog_type(oid: int) -> bool:
    """Tell whether values of a type mean something in one server's catalogue only: of regclass and its kin."""
    return oid in CATALOG_OIDS


def system_columns(table: Table, names: Mentioned) -> list[TableColumn]:
    """Return the system columns of a table that may be meant by these names; none of a view."""
    found = sorted(names.names & SYSTEM_COLUMNS - {c.label for c in table.columns}) if table.relation.kind != "v" else []
    types = ((name, _SYSTEM_TYPES[name]) for name in found)
    return [TableColumn(name, name, 0, SourceColumn(DeclaredType(type_, SYSTEM_COLUMN_OIDS[type_]))) for name, type_ in types]


def needed(table: Table, names: Mentioned) -> list[TableColumn]:
    """Return the columns that the rest must know of a table, system columns behind the others; of a view its inputs."""
    everything = names.all_of(table.label, id(table.body))
    columns = table.inputs if table.rest is not None else [c for c in table.columns if everything or c.label in names.names]
    system = system_columns(table, names)
    if system and everything:
        raise Impossible("a system column beside all columns")
    columns = columns + system
    _check_carried(column.type for column in columns)
    return columns


def _check_carried(columns: Iterable[SourceColumn]) -> None:
    for column in columns:
        if column.collation and not column.collation.startswith("pg_catalog."):
            raise Impossible("a collation of the database's own")
        if not column.type.name or not column.type.known:
            raise Impossible("a column of a type that cannot be carried")
