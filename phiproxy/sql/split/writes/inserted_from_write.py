"""INSERT of what an UPDATE or DELETE in its WITH returns, where what is stored must be computed: rows that are moved, or noted.

The rows are locked and read as for any such write, and what is inserted is computed of them with what the write sets. It stands in
the write beside what tells the rows, so the rows that are inserted are those that the write returns, and all is one statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.assigned_values import ALIAS, COLUMN, Given, Written, output_span, written
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.composition import Parts, Stored, composition, given_value
from phiproxy.sql.split.writes.described import described_around
from phiproxy.sql.split.writes.drawn_order import fires_for_rows
from phiproxy.sql.split.writes.inner_write import InnerWrite, all_writes, inner_writes
from phiproxy.sql.split.writes.row_keys import base_of, table_of
from phiproxy.sql.split.writes.targets import Target
from phiproxy.sql.split.writes.updated_and_deleted_rows import add_chosen, add_write, clear_of, stored_of, values_of_rows
from phiproxy.sql.text.parse import Node, messages, only, strings
from phiproxy.sql.text.token_spans import Spans
from phiproxy.sql.values.operands import as_operand

_CHOSEN = "phi_chosen"
_QUERY = frozenset({"targetList", "fromClause", "limitOption", "op"})
_OF_COLUMN = ' COLLATE pg_catalog."default"'
"""The collation that a protected column has, whatever what is set to it had."""
_NOT_BY_ROW = ("over", "agg_filter", "agg_order", "agg_star", "agg_distinct")


class _Output(NamedTuple):
    """A value that is inserted: the column that it is for, and where it stands; several for ``*``, of which each has a name."""

    column: str
    span: Span
    node: Node | None
    name: str = ""


def inserted_from_write(a: Analysis, spans: Spans, refusal: StatementRefused | ValueRefused) -> Split:
    """Split an INSERT of what a write in WITH returns, of which some is computed for protected columns; Impossible for any other.

    WITH x AS (DELETE FROM visits WHERE room = $1 RETURNING patient_id, diagnosis)
      INSERT INTO patients (id, notes) SELECT patient_id, diagnosis FROM x
    → source: SELECT visits.diagnosis, visits.ctid, visits.tableoid FROM visits WHERE room = $1 FOR UPDATE OF visits
    → write: WITH x AS (DELETE FROM visits USING ROWS FROM (…) AS phi_write (phi_1, phi_2, phi_3) WHERE …
      RETURNING patient_id, diagnosis, phi_write.phi_3 AS phi_3 ) INSERT INTO patients (id, notes) SELECT patient_id, x.phi_3 FROM x
    """
    body = a.statement.body
    if a.statement.kind != "InsertStmt" or ALIAS.encode() in a.text or _CHOSEN.encode() in a.text:
        raise Impossible("no INSERT, or a name that is taken")
    ctes = body["withClause"]["ctes"] if "withClause" in body else ()
    label = _label(body, ctes)
    (inner,) = inner_writes(a, spans)
    outer, target = written(a, spans), inner.write.target
    _check_rows(inner, outer)
    returned = dict(_returned(inner))
    outputs = _outputs(a, spans, body, outer.target, label, returned)
    computed = [one for one in outputs if _is_computed(one, outer.target, target, label, returned)]
    if not computed or _is_of_all(a, outputs):
        raise Impossible("nothing is computed that is inserted, or of all rows together")
    asked = {name for one in computed for name in _asked(a, one, label)}
    if any(not _is_known(inner, returned.get(name, "")) for name in asked):
        raise Impossible("what the write returns, and the row does not have")
    given_to = values_of_rows(inner.a, inner.write)
    stored = [*stored_of(a, inner.write, given_to), *(Stored(outer.target.type(a.context.catalog, c.column)) for c in computed)]
    needed = {name: column for name, column in returned.items() if name in asked}
    select = _select(Composed(a.text, spans), inner, given_to, label, needed, computed)
    count = len(stored) - len(computed)
    added = {id(one): f"{COLUMN}{n}" for n, one in enumerate(computed, start=count + 1)}
    changed = Composed(a.text, spans).add((a.statement.start, inner.span[0]))
    add_write(inner.a, changed, inner.spans, inner.write, stored, given_to, one_of=range(1, len(stored) + 1))
    changed.add(*(f", {given_value(stored, n)} AS {name}" for n, name in enumerate(added.values(), start=count + 1)), " ")
    at, quoted = inner.span[1], quote_ident(label, always=True)
    for position, one in enumerate(outputs):
        stays = id(one) not in added
        if stays and not one.name:
            continue
        first = not position or outputs[position - 1].span != one.span
        text = f"{quoted}.{quote_ident(one.name, always=True)}" if stays else f"{quoted}.{added[id(one)]}"
        changed.add(*([(at, one.span[0])] if first else [", "]), text)
        at = one.span[1]
    changed.add((at, a.statement.end))
    parts = Parts(
        select,
        stored,
        changed,
        described_around(a, spans, all_writes(a, spans)),
        [target, outer.target],
        many=True,
        returns="returningClause" in body,
        clear=clear_of(a, select, [*[None] * (count - len(given_to)), *given_to, *[None] * len(computed)]),
    )
    return composition(a, parts, refusal)


def _check_rows(inner: InnerWrite, outer: Written) -> None:
    """Go on where each row that is chosen is returned as it is known before; Impossible."""
    target = inner.write.target
    if outer.clauses.source is None or inner.write.clauses.others is not None:
        raise Impossible("rows of something else than one table")
    if target.leaves or outer.target.leaves:
        raise Impossible("documents with something in clear")
    behind = [table_of(inner.a, one.relation) for one in (target, outer.target)]
    if fires_for_rows(inner.a, inner.write) or any(one.statement_triggers for one in behind):
        raise Impossible("rows that a trigger may drop or change")


def _label(body: Node, ctes: Sequence[Node]) -> str:
    """Return the name of the rows of the write, which is all that is read; Impossible where it is not."""
    query = body.get("selectStmt", {}).get("SelectStmt", {})
    if len(ctes) != 1 or not query.keys() <= _QUERY or query.get("op", "SETOP_NONE") != "SETOP_NONE":
        raise Impossible("not the rows of one write, one for one")
    cte, items = only(ctes[0])[1], query.get("fromClause", ())
    item = items[0].get("RangeVar", {}) if len(items) == 1 else {}
    if item.get("relname") != cte["ctename"] or "schemaname" in item or "aliascolnames" in cte:
        raise Impossible("not the rows of the write alone")
    alias = item.get("alias", {})
    if "colnames" in alias:
        raise Impossible("columns of other names")
    name: str = alias.get("aliasname") or cte["ctename"]
    return name


def _returned(inner: InnerWrite) -> Iterator[tuple[str, str]]:
    """Yield the names of what the write returns, with the column of its target that each is; "" where it is none of them."""
    clause, target = inner.write.body.get("returningClause", {}), inner.write.target
    if not clause or "options" in clause:
        raise Impossible("it returns nothing, or rows as they were before")
    own, names = [c.name for c in visible_columns(target.relation)], set[str]()
    for result in (only(node)[1] for node in clause["exprs"]):
        fields = _fields(result["val"])
        known = len(fields) == 1 or fields[:-1] == [target.label]
        if known and fields[-1:] == ["*"]:
            shown = [(name, name) for name in own]
        else:
            column = fields[-1] if known and fields[-1] in own else ""
            shown = [(result.get("name") or column, column)]
        for name, column in shown:
            if not name or name in names:
                raise Impossible("columns whose names are not known")
            names.add(name)
            yield name, column


def _outputs(
    a: Analysis, spans: Spans, body: Node, into: Target, label: str, returned: dict[str, str]
) -> list[_Output]:
    """Return what is inserted, in its order; Impossible."""
    listed = [only(node)[1]["name"] for node in body.get("cols", ())]
    found = list[_Output]()
    for result in (only(node)[1] for node in body["selectStmt"]["SelectStmt"]["targetList"]):
        fields = _fields(result["val"])
        span = output_span(spans, result)
        if fields[-1:] == ["*"]:
            if fields[:-1] not in ([], [label]):
                raise Impossible("a row of something else")
            found += [_Output("", span, None, name) for name in returned]
        else:
            found.append(_Output("", span, result["val"]))
    names = listed[: len(found)] or into.names(len(found))
    if len(names) != len(found):
        raise Impossible("more values than columns")
    return [one._replace(column=name) for one, name in zip(found, names, strict=True)]


def _is_computed(one: _Output, into: Target, target: Target, label: str, returned: dict[str, str]) -> bool:
    """Tell whether a value for a protected column is something else than a given one, or a column whose values it may have."""
    if one.column not in into.protected:
        return False
    name = one.name or (_name(one.node, label) if one.node is not None else "")
    own, of_target = into.protected[one.column], target.protected.get(returned.get(name, ""))
    if of_target is not None and of_target.identity == own.identity and of_target.type == own.type:
        return False
    return one.node is None or as_operand(one.node) is None


def _fields(node: Node) -> list[str]:
    """Return the names that a column reference is made of; none of any other node."""
    return strings(node["ColumnRef"]["fields"]) if "ColumnRef" in node else []


def _name(node: Node, label: str) -> str:
    fields = _fields(node)
    return fields[-1] if len(fields) == 1 or fields[:-1] == [label] else ""


def _asked(a: Analysis, one: _Output, label: str) -> Iterator[str]:
    """Yield the columns that a value is made of; Impossible where it is not made of one row alone."""
    signatures = a.context.catalog.signatures
    if one.node is None:
        yield one.name
        return
    for message in messages(one.node):
        if "ColumnRef" in message:
            yield _name(message, label)
        if "SubLink" in message or any(key in message for key in _NOT_BY_ROW):
            raise Impossible("a query, or something of several rows")
        if "funcname" in message:
            functions = signatures.functions(strings(message["funcname"])[-1]) if signatures is not None else ()
            if not functions or any(f.kind != "f" or f.rows or f.volatile == "v" for f in functions):
                raise Impossible("something of several rows, or volatile")


def _is_of_all(a: Analysis, outputs: Sequence[_Output]) -> bool:
    """Tell whether an aggregate makes one row of all, ``SELECT count(*), upper($1) FROM x``: nothing is inserted for each then."""
    signatures = a.context.catalog.signatures
    calls = (strings(m["funcname"])[-1] for one in outputs for m in messages(one.node or {}) if "funcname" in m and "over" not in m)
    return signatures is None or any(f.kind == "a" for name in calls for f in signatures.functions(name))


def _select(
    select: Composed,
    inner: InnerWrite,
    given_to: list[Given],
    label: str,
    known: dict[str, str],
    computed: Sequence[_Output],
) -> Composed:
    """Add the SELECT that chooses and locks the rows, and computes what is set, and what is inserted of ``known`` columns."""
    write, target, catalog = inner.write, inner.write.target, inner.a.context.catalog
    told = len(stored_of(inner.a, write, given_to))
    columns = list(dict.fromkeys(known.values()))
    owner, quoted = quote_ident(target.label, always=True), quote_ident(label, always=True)
    numbers = {column: f"{COLUMN}{n}" for n, column in enumerate(columns, start=told + 1)}
    keys = [f"{COLUMN}{n}" for n in range(1, told + 1)]
    sets = {given.column: given for given in write.values}
    values = {id(given): key for given, key in zip(given_to, keys[told - len(given_to) :], strict=True)}
    select.add(f"SELECT {', '.join(f'{quoted}.{key}' for key in keys)}")
    for one in computed:
        select.add(", ", one.span if one.node is not None else f"{quoted}.{quote_ident(one.name, always=True)}")
    select.add(f" FROM (SELECT {', '.join(keys)}")
    for column in known.values():
        given = sets.get(column)
        if given is None:
            select.add(f", {numbers[column]}")
        else:
            value, type_ = (values[id(given)],) if id(given) in values else given.as_select, target.type(catalog, column)
            select.add(", CAST(", *value, f" AS {type_.name}){_OF_COLUMN if type_.is_text else ''}")
    select.add(" FROM (")
    add_chosen(inner.a, select, write, given_to, behind=[f"{owner}.{quote_ident(column, always=True)}" for column in columns])
    names = [*keys, *(quote_ident(name, always=True) for name in known)]
    select.add(f") AS {_CHOSEN} ({', '.join([*keys, *numbers.values()])})) AS {quoted} ({', '.join(names)})")
    return select


def _is_known(inner: InnerWrite, name: str) -> bool:
    """Tell whether it is known what a column has when it is returned: what it had, or what is set is that.

    What is set to a column with a length is cut or filled, what is set to one of a domain checked, and it has the collation of
    the column then, whatever it had before. The server computes what is set to an unprotected one, or by default, and what a view
    shows that is no column of its table.
    """
    write, target = inner.write, inner.write.target
    behind, names = _stored_columns(inner)
    column = behind.column(names.get(name, ""))
    if column is None or (column.generated and write.kind == "UpdateStmt"):
        return False
    given, own = next((one for one in write.values if names.get(one.column) == column.name), None), target.protected.get(name)
    if given is None:
        return True
    if own is None or given.column != name or given.keys or given.picks[1] or "SetToDefault" in given.node:
        return False
    plain = own.type == own.type.underlying.unlimited and not own.type.schema
    return plain and own.type.element is None and own.type.family != "bpchar"


def _stored_columns(inner: InnerWrite) -> tuple[Relation, Mapping[str, str]]:
    """Return the table that is written to, and what the columns of the target are of it; Impossible."""
    relation = inner.write.target.relation
    return base_of(inner.a, relation) if relation.kind == "v" else (relation, {c.name: c.name for c in relation.columns})
