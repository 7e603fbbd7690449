"""One text to its meanings: three answers, never a fourth (sql.md section 1).

``analyse`` returns a Meaning per statement, or raises: a refusal, or the need of a fresh catalogue or search path.
"""

from __future__ import annotations

from collections.abc import Iterator

from phiproxy.errors import StatementRefused, UndefinedColumn, UndefinedObject, UndefinedTable
from phiproxy.policy.catalog import Relation
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql import from_items, functions, merge, named, predicates, write  # noqa: F401 - they fill the tables of rules
from phiproxy.sql.analysis import Analysis, Context
from phiproxy.sql.copy import copy_query, copy_table
from phiproxy.sql.ddl import derived
from phiproxy.sql.ddl.define import define
from phiproxy.sql.ddl.drops import drop_index
from phiproxy.sql.ddl.filled import select_into
from phiproxy.sql.ddl.types import check_types
from phiproxy.sql.declared import note_declared
from phiproxy.sql.finish import finish
from phiproxy.sql.fixed import check_fixed
from phiproxy.sql.given_types import type_of
from phiproxy.sql.meaning import Meaning, Reveal
from phiproxy.sql.ofcode import check_call
from phiproxy.sql.owntypes import find_types
from phiproxy.sql.parse import Node, Statement, messages, only, strings
from phiproxy.sql.rules import query
from phiproxy.sql.scope import SHOWN, ListColumn, Output, Protected, Scope
from phiproxy.sql.sinks import Named
from phiproxy.sql.type_resolution import TEXT, Type
from phiproxy.sql.utility import check_utility, defines, effects, named_in_text
from phiproxy.sql.utility import named as named_in_tree
from phiproxy.types.names import sql_name

_DML = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def analyse(statement: Statement, text: bytes, context: Context) -> Meaning:
    """Analyse one statement of ``text`` (the whole client text) in a context.

    Raises StatementRefused and its kin with a position in ``text``, or PathNeeded. The statement's tree is edited in
    place to what the server will see.
    """
    kind, body = statement.kind, statement.body
    walked = list(messages(body))
    meaning = Meaning("other", statement.start, statement.end, statement.room)
    meaning.effects = effects(kind, body, walked, context.catalog.setters)
    meaning.numbers = frozenset(m["ParamRef"].get("number", 0) for m in walked if "ParamRef" in m)
    a = Analysis(text, context, meaning)
    a.walks[id(body)] = walked
    check_fixed(kind, body, walked, context.protection)
    note_declared(walked, context.catalog, context.declared)
    if context.path is not None or kind == "ExecuteStmt" or named_in_tree(body, context.protection, context.catalog) is not None:
        find_types(a, walked)  # else the path need not be known: what a type is matters beside protected columns only
    if kind == "SelectStmt" and "intoClause" in body and _select_into(a, body):
        pass
    elif kind in _DML:
        meaning.kind = "select" if kind == "SelectStmt" else "write"
        _analyse_query(a, kind, body)
    elif kind == "ExplainStmt" and only(body["query"])[0] in _DML:
        meaning.kind = "explain"
        _analyse_query(a, *only(body["query"]))
        meaning.outputs = None
        meaning.generic = _asks_for_generic_plan(body)
    elif kind == "CopyStmt":
        _analyse_copy(a, body)
    elif kind == "DeclareCursorStmt":
        if meaning.effects.path_unknown:
            raise a.refuse(
                "a cursor that may change the search path does so whenever rows are fetched from it",
                only(body["query"])[1],
                hint="Send its query by itself.",
            )
        _analyse_query(a, *only(body["query"]))
        if meaning.bound:
            raise a.refuse(
                "a cursor over SQL that is given as text would run it whenever rows are fetched from it",
                only(body["query"])[1],
                hint="Send its query by itself.",
            )
        named.declare(a, body)
    elif not _analyse_named(a, kind, body):
        _analyse_utility(a, kind, body)
    return meaning


def _analyse_named(a: Analysis, kind: str, body: Node) -> bool:
    """Analyse what refers to statements and cursors by name; False for any other statement."""
    inner, inner_body, outer = kind, body, []
    while inner in ("ExplainStmt", "CreateTableAsStmt"):
        outer.append(inner)
        inner, inner_body = only(inner_body["query"])
    if kind == "PrepareStmt":
        named.prepare(a, body)
    elif inner == "ExecuteStmt":
        _touching(a, inner_body)
        named.execute(a, inner_body, into="CreateTableAsStmt" in outer)
        if outer:
            a.meaning.outputs = None
        return "CreateTableAsStmt" not in outer
    elif kind == "FetchStmt":
        named.fetch(a, body)
    else:
        return False
    return True


def _analyse_copy(a: Analysis, body: Node) -> None:
    a.meaning.takes_parameters = False
    if "query" not in body:
        copy_table(a, body)
        return
    kind, query_body = only(body["query"])
    if kind not in _DML:
        raise a.refuse("COPY of this kind of query is not understood", query_body, hint="Copy a SELECT.")
    _analyse_query(a, kind, query_body)
    if a.meaning.touches:
        copy_query(a, body)


def _analyse_utility(a: Analysis, kind: str, body: Node) -> None:
    protection, catalog = a.context.protection, a.context.catalog
    source = derived.source_query(kind, body)
    _check_targets(a, body)
    if source is not None and (_touching(a, source) or derived.fills(a, kind, body)):
        derived.check_place(a, kind, body)
        derived.settle(a, kind, body, _analyse_query(a, "SelectStmt", source))
        return
    if source is not None and derived.shadows(a, kind, body):
        _pass_query(a, source)
        return
    of_types = check_types(a, kind, body)
    if drop_index(a, kind, body):
        return
    if not (defines(kind, body, protection, catalog) and define(a, kind, body)):
        a.meaning.effects.names_protected = check_utility(kind, body, protection, catalog) or of_types


def _select_into(a: Analysis, body: Node) -> bool:
    """Analyse SELECT … INTO as the CREATE TABLE AS that it is; False where neither its query nor its table is protected."""
    source = {key: value for key, value in body.items() if key != "intoClause"}
    a.walks[id(source)] = list(messages(source))
    table: Node = {"into": body["intoClause"], "objtype": "OBJECT_TABLE"}
    if not (_touching(a, source) or derived.fills(a, derived.TABLE, table)):
        if not derived.shadows(a, derived.TABLE, table):
            return False
        _pass_query(a, source)
        return True
    made = select_into(a, source, body["intoClause"])
    derived.check_place(a, derived.TABLE, made)
    derived.settle(a, derived.TABLE, made, _analyse_query(a, "SelectStmt", source))
    a.meaning.tree = a.meaning.tree or {derived.TABLE: made}
    return True


def _analyse_query(a: Analysis, kind: str, body: Node) -> list[Output]:
    """Analyse a query and finish the meaning; return its outputs, where it may touch something protected."""
    if not _touching(a, body):
        _pass_query(a, body)
        return []
    outputs = query(a, kind, body, Scope(()))
    returns = kind == "SelectStmt" or "returningClause" in body
    for _, value in outputs:
        if isinstance(value, ListColumn):
            value.users.append(SHOWN)
    a.meaning.plain_select = kind == "SelectStmt" and not _writes(a, body)
    # What the casts say of given values: they are taken away where the values become protected.
    given = [type_of(value) if isinstance(value, ListColumn) else None for _, value in outputs]
    finish(a)
    a.meaning.outputs = tuple(map(_reveal, outputs, given)) if returns else ()
    return outputs


def _pass_query(a: Analysis, body: Node) -> None:
    """Let a query be sent that touches nothing protected, its names being what they were taken for."""
    _check_targets(a, body)
    _check_names(a, body)
    _qualify(a, body)
    finish(a)


def _reveal(output: Output, given: Type) -> Reveal | None:
    _, value = output
    if isinstance(value, ListColumn) and value.became is not None:
        return Reveal(value.became, _given_type(value.became, given or TEXT), cast=True)
    return Reveal(value.column, value.type, value.cast, value.origin, value.planned) if isinstance(value, Protected) else None


def _given_type(became: ProtectedColumn, shown: DeclaredType) -> DeclaredType:
    """Return the type as which given values are shown that became protected."""
    own = became.type.underlying
    if shown.oid == own.oid or (shown.is_text and own.is_text):
        return shown
    what = "a literal" if shown.is_text else "a given value"
    raise StatementRefused(
        f"{what} is shown here as {sql_name(shown)}, and meets {became.label} elsewhere",
        hint=f"Cast it to {sql_name(became.type)}.",
    )


def _asks_for_generic_plan(explain: Node) -> bool:
    """Tell whether EXPLAIN is to plan without values (manual, EXPLAIN, GENERIC_PLAN). Older servers say that they know no such."""
    given = {o["DefElem"]["defname"]: o["DefElem"].get("arg") for o in explain.get("options", ())}
    if "generic_plan" not in given:
        return False
    said = only(given["generic_plan"])[1] if given["generic_plan"] else {"sval": "true"}
    return said.get("ival") == 1 or said.get("sval", "").lower() in ("true", "on")


def _writes(a: Analysis, body: Node) -> bool:
    return any(k in m for m in a.walk(body) for k in ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"))


def _cte_names(a: Analysis, body: Node) -> set[str]:
    return {m["ctename"] for m in a.walk(body) if "ctename" in m}


def _relations(a: Analysis, body: Node) -> list[Node]:
    """Return the RangeVars of a query, without those of FOR UPDATE OF, which name aliases."""
    locked = {id(only(rel)[1]) for m in a.walk(body) for rel in m.get("lockedRels", ())}
    return [m for m in a.walk(body) if "relname" in m and id(m) not in locked]


def _touching(a: Analysis, body: Node) -> bool:
    """Tell whether a query may touch something protected: by a relation, a function or a row type."""
    for message in a.walk(body):
        if "funcname" in message:
            _check_function(a, message, body)
        if str(message.get("kind", "")).startswith("AEXPR"):
            # An operator of the user's own may run a function that reaches something protected.
            a.check_reaching(strings(message.get("name"))[-1], message)
        named = message.get("typeName") or message.get("TypeName")
        if named is not None and not isinstance(named, Named):
            _check_type(a, named, prefix="arg" in message and message.get("location", -1) < 0)
    ctes = _cte_names(a, body)
    return any(_may_be_protected(a, relation, ctes) for relation in _relations(a, body))


def _check_function(a: Analysis, call: Node, body: Node) -> None:
    """Refuse a function that reaches something protected, or that may run a text as SQL and is given one that names it."""
    name = strings(call["funcname"])[-1]
    check_call(a, call)
    if name in a.context.catalog.dynamic or name in a.context.created:  # what a new function does is not known yet
        mentioned = named_in_text(body, a.context.protection, a.context.catalog)
        if mentioned is not None:
            raise a.refuse(
                f'"{name}" may run text as SQL, and a literal of this statement names "{mentioned}"',
                call,
                hint="Send that SQL as a statement of its own.",
            )


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
    """Refuse a type that is the row type of something protected, or that only looks like a type (``prefix``: before a literal)."""
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
        a.relation(relation)
    if name in a.context.catalog.reaching:
        return True
    if name not in protection.table_names:
        return False
    if schema is not None:
        return (schema, name) in protection.by_name
    return name in ctes or a.protected(a.target_relation(relation)) is not None


def _check_targets(a: Analysis, body: Node) -> None:
    """Answer an INSERT into a table that is not there: the server would log its values, whatever they were meant for."""
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
    """Answer a mistyped table or column before its literals reach the server's log (sql.md section 1)."""
    protection = a.context.protection
    names = {n.lower() for n in protection.column_names}
    tables = {n.lower() for n in protection.table_names}
    relations = _relations(a, body)
    references = [m for m in a.walk(body) if "fields" in m and names.intersection(n.lower() for n in strings(m["fields"])[-1:])]
    assigned = [(relation, node) for relation, node in _assigned(a, body) if node["name"].lower() in names]
    if not references and not assigned and not any(r["relname"].lower() in tables for r in relations):
        return
    ctes = _cte_names(a, body)
    found = {id(r): a.target_relation(r) for r in relations if r["relname"] not in ctes or "schemaname" in r}
    for relation, node in assigned:
        target = found.get(id(relation))
        if target is not None and target.oid and target.column(node["name"]) is None:
            raise UndefinedColumn(f'column "{node["name"]}" of relation "{target.name}" does not exist', position=a.position(node))
    if references:
        _check_references(a, body, references, list(found.values()))


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
    known = {c.name for r in relations for c in r.columns}
    labels = {r.name for r in relations}
    for message in a.walk(body):
        if "functions" in message or "colexpr" in message or "rowexpr" in message or "pathspec" in message:
            return  # a function's columns are not known; only a table's can be protected
        known |= {message[key] for key in ("aliasname", "name", "ctename", "colname") if isinstance(message.get(key), str)}
        known |= {n for key in ("colnames", "aliascolnames") for n in strings(message.get(key))}
        labels |= {message[key] for key in ("aliasname", "relname") if key in message}
    if any(not r.oid for r in relations):
        return
    for reference in references:
        *qualifier, name = strings(reference["fields"])
        if qualifier and qualifier[-1] not in labels | {"excluded", "old", "new"}:
            raise UndefinedTable(f'missing FROM-clause entry for table "{qualifier[-1]}"', position=a.position(reference))
        if name not in known | labels:
            raise UndefinedColumn(f'column "{name}" does not exist', position=a.position(reference))


def _qualify(a: Analysis, body: Node) -> None:
    """Let an unqualified relation with a protected table's name be exactly the one that was analysed."""
    ctes = _cte_names(a, body)
    for relation in _relations(a, body):
        if relation["relname"] in a.context.protection.table_names and relation["relname"] not in ctes:
            a.relation(relation, target=True)
