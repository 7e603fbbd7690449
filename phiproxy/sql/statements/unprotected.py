"""Queries that touch nothing protected: how they are told from others, and what is checked in them.

They are sent as they are; names must mean what they were taken for, and a mistyped one must not bring literals into the log.
"""

from collections.abc import Iterator

from phiproxy.errors import UndefinedColumn, UndefinedObject, UndefinedTable
from phiproxy.policy.catalog import Relation
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.sql_text_functions import check_call
from phiproxy.sql.statements.utility import named_in_text
from phiproxy.sql.table_names import check_reaching, protected_table, qualified_relation, relation_of, target_relation
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.operands import Named


def check_unprotected(a: Analysis, body: Node) -> None:
    """Check the names of a query that touches nothing protected.

    UPDATE log SET ssn = 'x'
    → refused 42703
    """
    check_targets(a, body)
    _check_names(a, body)
    _qualify(a, body)


def _cte_names(a: Analysis, body: Node) -> set[str]:
    return {m["ctename"] for m in a.walk(body) if "ctename" in m} if "ctename" in a.keys else set()


def _relations(a: Analysis, body: Node) -> list[Node]:
    """Return the RangeVars of a query, without those of FOR UPDATE OF, which name aliases."""
    lists = [m["lockedRels"] for m in a.walk(body) if "lockedRels" in m] if "lockedRels" in a.keys else ()
    locked = {id(only(rel)[1]) for rels in lists for rel in rels}
    return [m for m in a.walk(body) if "relname" in m and id(m) not in locked]


def touching(a: Analysis, body: Node) -> bool:
    """Tell whether a query may touch something protected, by a relation, a function or a row type.

    SELECT id FROM log WHERE msg = 'x'
    → unchanged

    SELECT read_ssn(1)
    → refused 0A000

    SELECT id FROM log WHERE ssn 'x' = msg
    → refused 42704
    """
    for message in a.walk(body) if not _CHECKED.isdisjoint(a.keys) else ():
        if _CHECKED.isdisjoint(message):
            continue
        if "funcname" in message:
            _check_function(a, message, body)
        if "kind" in message and str(message["kind"]).startswith("AEXPR"):
            # An operator of the user's own may run a function that reaches something protected.
            check_reaching(a, strings(message.get("name"))[-1], message)
        if "typeName" in message or "TypeName" in message:
            named = message.get("typeName") or message["TypeName"]
            if not isinstance(named, Named):
                _check_type(a, named, prefix="arg" in message and message.get("location", -1) < 0)
    ctes = _cte_names(a, body)
    return any(_may_be_protected(a, relation, ctes) for relation in _relations(a, body))


_CHECKED = frozenset({"funcname", "kind", "typeName", "TypeName"})


def _check_function(a: Analysis, call: Node, body: Node) -> None:
    """Refuse a function that depends on something protected, or that may run SQL and is given a literal that names it."""
    name = strings(call["funcname"])[-1]
    check_call(a, call)
    if name in a.context.catalog.dynamic or name in a.context.created:  # what a new function does is not known yet
        mentioned = named_in_text(body, a.context.protection, a.context.catalog)
        if mentioned is not None:
            why = f'"{name}" may run text as SQL, and a literal of this statement names "{mentioned}"'
            raise a.refuse(why, call, hint="Send that SQL as a statement of its own.")


# The server's own types: those whose literals are written with the type before them, and others.
_BEFORE_LITERALS = frozenset(
    {
        "bit", "bool", "box", "bpchar", "bytea", "cidr", "circle", "date", "float4", "float8", "inet", "int2", "int4", "int8",
        "interval", "json", "jsonb", "jsonpath", "line", "lseg", "macaddr", "money", "numeric", "path", "point", "polygon",
        "text", "time", "timestamp", "timestamptz", "timetz", "tsquery", "tsvector", "uuid", "varbit", "varchar", "xml",
    }
)  # fmt: skip
_OTHER_TYPES = frozenset({"char", "name", "oid", "regclass", "regproc", "regrole", "regtype", "tid", "xid", "cid"})


def _check_type(a: Analysis, type_name: Node, *, prefix: bool) -> None:
    """Refuse the row type of a protected table, and a column's name before a literal (``prefix``), which parses as a type."""
    protection = a.context.protection
    name = strings(type_name["names"])[-1]
    if name in _BEFORE_LITERALS or (name in _OTHER_TYPES and not prefix):
        return
    if name in protection.column_names:
        # ``WHERE ssn 'x'``, the operator forgotten, is a literal of type ssn to the grammar.
        hint = f'If "{name}" is the column here, write the operator behind it: {name} = …'
        if name in _OTHER_TYPES:
            raise a.refuse(f'"{name}" before a literal may be the type, or the protected column', type_name, hint=hint)
        raise a.refuse(f'type "{name}" does not exist', type_name, hint=hint, error=UndefinedObject)
    if name in protection.table_names or name in a.context.catalog.reaching:
        raise a.refuse(f'the row type "{name}" would hold protected columns', type_name, hint="Use the columns.")


def _may_be_protected(a: Analysis, relation: Node, ctes: set[str]) -> bool:
    protection = a.context.protection
    name, schema = relation["relname"], relation.get("schemaname")
    if schema == protection.registry_schema:
        relation_of(a, relation)
    if name in a.context.catalog.reaching:
        return True
    if name not in protection.table_names:
        return False
    if schema is not None:
        return (schema, name) in protection.by_name
    return name in ctes or protected_table(a, target_relation(a, relation)) is not None


def check_targets(a: Analysis, body: Node) -> None:
    """Answer an INSERT into a table that does not exist, since the server would log its values.

    INSERT INTO patient (ssn) VALUES ('x')
    → refused 42P01
    """
    catalog, created = a.context.catalog, a.context.created
    for message in a.walk(body):
        if "relation" not in message or not ("override" in message or "mergeWhenClauses" in message):
            continue
        relation = message["relation"]
        name, schema = relation["relname"], relation.get("schemaname")
        if name in catalog.relation_names or name in created:
            continue
        # Whatever the path may be: of this name there is a relation, or there is none.
        if not (catalog.named(name) if schema in (None, "pg_temp") else catalog.find(schema, name)):
            shown = name if schema is None else f"{schema}.{name}"
            raise UndefinedTable(f'relation "{shown}" does not exist', position=a.position(relation))


def _check_names(a: Analysis, body: Node) -> None:
    """Answer a mistyped table or column before its literals reach the server's log (spec/sql 1.3)."""
    protection = a.context.protection
    names = {n.lower() for n in protection.column_names}
    tables = {n.lower() for n in protection.table_names}
    relations = _relations(a, body)
    references = [m for m in a.walk(body) if "fields" in m and names.intersection(n.lower() for n in strings(m["fields"])[-1:])]
    assigned = [(relation, node) for relation, node in _assigned(a, body) if node["name"].lower() in names]
    if not references and not assigned and not any(r["relname"].lower() in tables for r in relations):
        return
    ctes = _cte_names(a, body)
    by_id = {id(r): target_relation(a, r) for r in relations if r["relname"] not in ctes or "schemaname" in r}
    for relation, node in assigned:
        target = by_id.get(id(relation))
        if target is not None and target.oid and target.column(node["name"]) is None:
            raise UndefinedColumn(f'column "{node["name"]}" of relation "{target.name}" does not exist', position=a.position(node))
    if references:
        _check_references(a, body, references, list(by_id.values()))


def _assigned(a: Analysis, body: Node) -> Iterator[tuple[Node, Node]]:
    """Yield (target RangeVar, ResTarget) for each column that an INSERT, UPDATE or MERGE at any depth names."""
    for message in a.walk(body):
        relation = message.get("relation")
        if not isinstance(relation, dict) or "relname" not in relation:
            continue
        holders = [message, message.get("onConflictClause", {})]
        holders += [only(clause)[1] for clause in message.get("mergeWhenClauses", ())]
        for holder in holders:
            for node in (*holder.get("cols", ()), *holder.get("targetList", ())):
                if "name" in only(node)[1]:
                    yield relation, only(node)[1]


def _check_references(a: Analysis, body: Node, references: list[Node], relations: list[Relation]) -> None:
    """Refuse a reference to a protected column's name that nothing in the statement could own."""
    owned = {c.name for r in relations for c in r.columns}
    labels = {r.name for r in relations}
    for message in a.walk(body):
        if "functions" in message or "colexpr" in message or "rowexpr" in message or "pathspec" in message:
            return  # a function's columns are not known; only a table's can be protected
        owned |= {message[key] for key in ("aliasname", "name", "ctename", "colname") if isinstance(message.get(key), str)}
        owned |= {n for key in ("colnames", "aliascolnames") for n in strings(message.get(key))}
        labels |= {message[key] for key in ("aliasname", "relname") if key in message}
    if any(not r.oid for r in relations):
        return
    for reference in references:
        *qualifier, name = strings(reference["fields"])
        if qualifier and qualifier[-1] not in labels | {"excluded", "old", "new"}:
            raise UndefinedTable(f'missing FROM-clause entry for table "{qualifier[-1]}"', position=a.position(reference))
        if name not in owned | labels:
            raise UndefinedColumn(f'column "{name}" does not exist', position=a.position(reference))


def _qualify(a: Analysis, body: Node) -> None:
    """Write the schema of an unqualified relation that has the name of a protected table."""
    ctes = _cte_names(a, body)
    for relation in _relations(a, body):
        if relation["relname"] in a.context.protection.table_names and relation["relname"] not in ctes:
            qualified_relation(a, relation)
