"""CREATE VIEW over expressions of protected columns: the server's view is the source, in which the rest stands sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import NamedTuple

from phiproxy.errors import InvalidTableDefinition, StatementRefused
from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.policy.view_rests import SEALED, SEALED_PATH, Told, ViewRest, client_columns, digest_of, is_inner, sealed_in
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.passes import analyse, check_settings, note_effects
from phiproxy.sql.pg_errors.names_and_signatures import Output, first
from phiproxy.sql.pg_errors.verdict import types
from phiproxy.sql.queries.computed_views import names_inner, told_types
from phiproxy.sql.queries.views import columns_of_view, view_columns
from phiproxy.sql.resolve.protected_values import Protected
from phiproxy.sql.result import Answered, Occurrence, Refused, Reveal
from phiproxy.sql.rewrite.apply_edits import Rendered
from phiproxy.sql.rewrite.order_of_rewrites import outside
from phiproxy.sql.rewrite.references_and_markers import marker
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.division import Division, divide
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.rest_text import rest_text
from phiproxy.sql.split.sources import Written, together
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.split.tables_and_columns import tables
from phiproxy.sql.split.view_columns import columns_and_inputs, computed_type, in_server_order
from phiproxy.sql.split.view_constants import check_constants
from phiproxy.sql.statements.ddl.create_table import creation_schema
from phiproxy.sql.statements.ddl.replaced_view import BYTEA, check_type
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import Node, Statement, location, only, parse, strings
from phiproxy.sql.text.token_spans import OPEN, Spans, dotted
from phiproxy.sql.values.uses import Define
from phiproxy.sql.writes.assignment import columns_of
from phiproxy.wire.oids import BUILTIN_TYPES, BYTEA_OID

_PLACEHOLDER = b"'\\x70686976696577'::pg_catalog.bytea"


class _Inner(NamedTuple):
    """The query of a view: its analysis, and its beginning in the text."""

    a: Analysis
    body: Node


def is_over_expressions(statement: Statement, text: bytes, context: Context, outputs: Sequence[Reveal | None]) -> bool:
    """Tell whether CREATE VIEW, of these ``outputs``, must make a view over expressions for what it replaces.

    That is one, or it shows a protected column where something else will be, and the server's column stays one of envelopes.
    """
    if statement.kind != "ViewStmt" or not statement.body.get("replace"):
        return False
    a = Analysis(text, context, statement, RULES)
    replaced = context.catalog.find(creation_schema(a, statement.body["view"]), statement.body["view"]["relname"])
    if replaced is None or replaced.kind != "v" or replaced.column(SEALED) is not None:
        return replaced is not None and replaced.kind == "v"
    protected = columns_of(a, replaced)
    shown = zip_longest(replaced.columns, outputs)
    return any(column is not None and column.name in protected and reveal is None for column, reveal in shown)


def define_view(statement: Statement, text: bytes, context: Context) -> Answered | None:
    """Return what becomes of CREATE VIEW over what only an engine computes; None where it is not understood.

    StatementRefused where it is, and cannot be. Of ``CREATE VIEW initials AS SELECT id, left(full_name, 1) AS initial FROM
    patients`` it is ``CREATE VIEW initials (id, initial, phi_view_0, phi_view_1) AS SELECT s.c1, CASE WHEN
    current_setting('phiproxy.computes') = '' THEN NULL::text END, sealed('…'), s.c2 FROM (SELECT patients.id,
    patients.full_name FROM patients) AS s (c1, c2)``.
    """
    try:
        return _define(statement, text, context)
    except (Impossible, RecursionError):
        return None


def _define(statement: Statement, text: bytes, context: Context) -> Answered:
    a = Analysis(text, context, statement, RULES)
    body = statement.body
    if names_inner(body, context):
        raise Impossible("a column of a view that only the proxy reads")
    _check_kind(a, body)
    schema = creation_schema(a, body["view"])
    if schema == "pg_temp":
        raise a.refuse("a temporary view over expressions of protected columns is not in this version", body["view"],
                       hint="Create it in a schema, or compute where the tables are read.")  # fmt: skip
    # The statement by itself, with blanks for what is before it: positions stay as they are.
    own = b" " * len(text[: statement.start].decode()) + text[statement.start : statement.end]
    inner_text = _with_stars_listed(a, own, body)
    inner = _inner_query(inner_text, context)
    read = tables(inner.a, inner.body)
    verdict, outputs = types(inner.a, inner.body)
    if outputs is None:
        raise Impossible("outputs of which it is not known how many there are")
    whole = Whole(inner.a, inner.body, read, verdict, Spans(inner.a.tokens()), stored=True)
    division = divide(whole)
    check_constants(whole, frozenset(division.gone))
    rest = rest_text(whole, division)
    written = Written(inner_text, whole.spans.tokens)
    if division.distinct:
        together(written, division.distinct)
    if written.numbers or rest.parameters:
        raise Impossible("a view has no parameters")
    source = written.result()
    read_protected = _reveals(source, context) if source else None
    reveals = read_protected or (None,) * len(division.columns())
    rows = division.rows(whole)
    read_rests = (sealed_in(context.catalog.views.get(table.relation.oid, "")) for table in read)
    over = tuple(dict.fromkeys(digest_of(sealed) for sealed in read_rests if sealed is not None))
    shown = [_column_of(whole, division, output) if rows != "other" else None for output in outputs]
    names = _names(body, outputs)
    replaced = context.catalog.find(schema, body["view"]["relname"]) if body.get("replace") else None
    if replaced is not None and len(outputs) < len(client_columns(replaced)):
        raise InvalidTableDefinition("cannot drop columns from view", hint="Drop the view, and create it again.")
    shown = [None if _computed_before(n, number, reveals, replaced) else number for n, number in enumerate(shown)]
    told = _replaced_types(whole, replaced, list(zip(names, outputs, shown, strict=True))) if replaced is not None else []
    if read_protected is None:
        raise _reads_nothing_protected(a, list(zip(names, outputs, strict=True)), replaced)
    inputs, columns = columns_and_inputs(inner.a, division, reveals, outputs, names, shown, {one.place for one in told})
    definition = ViewRest(
        tuple(part.decode("utf-8") for part in rest.parts),
        (),
        tuple(number is not None for number in shown),
        rows,
        tuple(sorted(whole.orders())),
        over,
        tuple(told),
    )
    hidden = {n: one for n, one in enumerate(inputs) if n not in shown}
    listed, placed = in_server_order(inner.a, columns, hidden, replaced)
    definition = replace(
        definition, inputs=tuple(replace(one, place=shown.index(n) if n in shown else placed[n]) for n, one in enumerate(inputs))
    )
    answer = _answer(a, _view_text(a, listed, source, len(inputs)), definition, _sealed_under(a, reveals, replaced))
    query = _inner_query(own, context).a.statement
    answer.computed = b" " * len(own[: query.start].decode()) + own[query.start :]
    return answer


def _reads_nothing_protected(a: Analysis, columns: list[tuple[str, Output]], replaced: Relation | None) -> StatementRefused:
    """Return why a view cannot be replaced by one that depends on no protected table: it is by these that views are known.

    Impossible where nothing is replaced.
    """
    if replaced is None:
        raise Impossible("a source without something protected")
    for before, (name, output) in zip(client_columns(replaced), columns, strict=False):
        if name != before.name:
            why, hint = f'cannot change name of view column "{before.name}" to "{name}"', "ALTER VIEW … RENAME COLUMN … does."
            return InvalidTableDefinition(why, hint=hint, position=a.at(first(output.node)))
    why = f'view "{replaced.name}" shows what is protected or computed of it, and would depend on no protected table any more'
    return a.refuse(why, a.statement.body["view"], hint="Drop the view, and create it again.")


def _check_kind(a: Analysis, body: Node) -> None:
    if body.get("withCheckOption", "NO_CHECK_OPTION") != "NO_CHECK_OPTION":
        why = "WITH CHECK OPTION of a view that computes over protected columns, and so is not written through, is not checked"
        raise a.refuse(why, body["view"], hint="Leave it out, and write to the table itself.")


def _inner_query(text: bytes, context: Context) -> _Inner:
    (statement,) = parse(text)
    kind, body = only(statement.body["query"])
    if kind != "SelectStmt" or "intoClause" in body:
        raise Impossible("a view of something else than a query")
    a = Analysis(text, context, statement, RULES)
    tokens = [t for t in a.tokens() if statement.start <= t.start < statement.end]
    start = tokens[_behind_as(Spans(tokens), statement.body)].start
    return _Inner(
        Analysis(text, a.context, Statement("SelectStmt", body, start, statement.end, (start, statement.end)), RULES), body
    )


def _behind_as(spans: Spans, body: Node) -> int:
    """Return the index of the first token of the query of CREATE VIEW."""
    i = _behind_name(spans, body)
    while spans.name(i) != "AS":
        i = spans.partner(i) + 1 if spans.name(i) == OPEN else i + 1
    return i + 1


def _behind_name(spans: Spans, body: Node) -> int:
    at = spans.at(location(body["view"]))
    _, end = dotted(spans.tokens, at)
    return next(i for i in range(at, len(spans.tokens)) if spans.tokens[i].end == end) + 1


def _with_stars_listed(a: Analysis, text: bytes, body: Node) -> bytes:
    """Return the text with the columns of ``*`` and ``t.*`` of the outermost query, as PostgreSQL stores them."""
    inner = _inner_query(text, a.context)
    targets = [only(node)[1] for node in inner.body.get("targetList", ())]
    stars = [t["val"]["ColumnRef"] for t in targets if "ColumnRef" in t["val"] and "A_Star" in t["val"]["ColumnRef"]["fields"][-1]]
    if not stars:
        return text
    verdict, _ = types(inner.a, inner.body)
    level = verdict.levels[id(inner.body)]
    spans = Spans(inner.a.tokens())
    for star in sorted(stars, key=location, reverse=True):
        *qualifier, _ = strings(star["fields"])
        if len(qualifier) > 1 or level.merged or any(source.opaque for source in level.sources):
            raise Impossible("columns that are not told apart")
        owners = [source for source in level.sources if not qualifier or source.alias == qualifier[0]]
        names = [f"{quote_ident(s.alias, always=True)}.{quote_ident(c.name, always=True)}" for s in owners for c in s.columns]
        first = spans.at(location(star))
        last = first + 2 * len(qualifier)
        text = text[: spans.tokens[first].start] + ", ".join(names).encode() + text[spans.tokens[last].end :]
    return text


def _reveals(source: bytes, context: Context) -> tuple[Reveal | None, ...] | None:
    """Return which columns of the source are protected, of which a role that sees masks can make no view.

    None where it reads nothing protected.
    """
    (statement,) = parse(source)
    outcome = analyse(statement, source, replace(context, inside=None))
    if not isinstance(outcome, Answered):
        raise Impossible("a source that the server does not answer")
    if not outcome.touches:
        return None
    if outcome.outputs is None:
        raise Impossible("a source of which it is not known what is protected")
    for reveal in outcome.outputs:
        if reveal is not None:
            reveal.column.refuse_masked()
    return outcome.outputs


def _sealed_under(a: Analysis, reveals: tuple[Reveal | None, ...], replaced: Relation | None) -> ProtectedColumn:
    """Return what the rest is sealed as: under the keys of the first protected column, and never as a value of it.

    A view that reads nothing protected any more has that of the view that it replaces.
    """
    columns = [reveal.column for reveal in reveals if reveal is not None]
    if not columns and replaced is not None:
        values = view_columns(a, replaced) or ()
        columns = [value.column for value in values if isinstance(value, Protected)]
    column = next((c for c in columns if c.base is None and c.part is None), None)
    if column is None:
        raise Impossible("a source without a column of a table's")
    if any(c.tenant for c in columns):
        raise a.refuse(f"a view over expressions of {column.label} would be sealed for one tenant only", a.statement.body["view"],
                       hint="Compute where the table is read.")  # fmt: skip
    return sealed_as(column)


def sealed_as(column: ProtectedColumn) -> ProtectedColumn:
    """Return as what the rest of a view is sealed under the keys of a column."""
    return replace(column.bare, slots=(), document=None, path=SEALED_PATH)


def _names(body: Node, outputs: list[Output]) -> list[str]:
    given = strings(body.get("aliases"))
    if len(given) > len(outputs):
        raise Impossible("more names than columns")
    names = [*given, *((output.name or "?column?") for output in outputs[len(given) :])]
    if any(map(is_inner, names)):
        raise Impossible("a column that is called as an inner one")
    return names


def _column_of(whole: Whole, division: Division, output: Output) -> int | None:
    """Return the number of the source's column that an output shows as it is."""
    level = whole.verdict.levels[id(whole.body)]
    known = [(s.alias, c) for s in level.sources for c in s.columns if c is output.column]
    (source,) = division.distinct
    for alias, column in known:
        for number, own in enumerate(source.columns):
            if (own.label, own.name) == (alias, column.name):
                return number
    return None


def _computed_before(place: int, number: int | None, reveals: tuple[Reveal | None, ...], replaced: Relation | None) -> bool:
    """Tell whether a column that would be there as it is replaces one that is computed: PostgreSQL lets no view change a type."""
    before = client_columns(replaced) if replaced is not None else ()
    if number is None or place >= len(before):
        return False
    was_sealed, is_sealed = before[place].type_oid == BYTEA_OID, reveals[number] is not None
    return was_sealed != is_sealed


def _replaced_types(whole: Whole, replaced: Relation, columns: list[tuple[str, Output, int | None]]) -> list[Told]:
    """Return the types of what is computed where it was shown as it is: the server's column stays of the type of what is sealed.

    Where the server has a type of its own, it says itself that no view may change the type of a column.
    """
    a, told = whole.a, []
    protected, view = columns_of(a, replaced), columns_of_view(a, replaced)
    before_told = told_types(replaced, view.rest) if view is not None else {}
    for place, (before, (name, output, number)) in enumerate(zip(client_columns(replaced), columns, strict=False)):
        was = protected[before.name].type if before.name in protected else before_told.get(before.name)
        if name != before.name or (was is None and before.type_oid != BYTEA_OID):
            continue
        now = computed_type(a, output, name)
        check_type(name, was or BYTEA, now)
        if number is None and was is not None:
            if was.family not in BUILTIN_TYPES or whole.collation_of_computed(was.oid) is None:
                raise StatementRefused(
                    f'column "{before.name}" of the view is a protected column as it is, and it cannot be computed from now on',
                    hint="Drop the view, and create it again.",
                    position=a.at(first(output.node)),
                )
            told.append(Told(place, was.family, was.typmod))
    return told


def _view_text(a: Analysis, listed: list[tuple[str, str]], source: bytes, count: int) -> bytes:
    """Return CREATE VIEW in the client's terms, with a mark for what is to be sealed."""
    body = a.statement.body
    spans = Spans([t for t in a.tokens() if a.statement.start <= t.start < a.statement.end])
    named, query = _behind_name(spans, body), _behind_as(spans, body)
    options = spans.partner(named) + 1 if body.get("aliases") else named
    head = b" ".join(a.text[t.start : t.end] for t in spans.tokens[: spans.at(location(body["view"]))])
    name = a.text[location(body["view"]) : spans.tokens[named - 1].end]
    said = b" ".join(a.text[t.start : t.end] for t in spans.tokens[options : query - 1])
    if head.upper().split()[-2:-1] == [b"RECURSIVE"]:
        raise Impossible("a recursive view")
    columns = ", ".join(quote_ident(column, always=True) for column, _ in listed).encode()
    values = b", ".join(sql.encode() if sql else _PLACEHOLDER for _, sql in listed)
    numbered = ", ".join(f"c{n}" for n in range(1, count + 1)).encode()
    return b"%s %s (%s) %s AS SELECT %s FROM (%s) AS s (%s)" % (head, name, columns, said, values, source, numbered)


def _answer(outer: Analysis, view: bytes, definition: ViewRest, column: ProtectedColumn) -> Answered:
    """Return the answer: the whole statement is replaced by the server's, with the sealed rest in it."""
    (statement,) = parse(view)
    outcome = analyse(statement, view, replace(outer.context, inside=None))
    if isinstance(outcome, Refused):
        outcome.error.position = outer.position(outer.statement.body["view"])  # its own is one in the view's text
        raise outcome.error
    if not isinstance(outcome, Answered) or any(not o.null for o in outcome.occurrences) or view.count(_PLACEHOLDER) != 1:
        raise Impossible("a value of a protected column in the source")
    rendered = Rendered(view, outcome.edits, outcome.occurrences).fill(lambda _i, o: marker(o))
    lead, trail = rendered.split(_PLACEHOLDER)
    note_effects(outer)
    check_settings(outer)
    answer, start, end = outer.answer, outer.statement.start, outer.statement.end
    sealed = Occurrence(start, end, Define(column, outer.new_row()), literal=definition.written(), lead=lead, trail=trail)
    answer.edits, answer.occurrences = list(outside(outer.blanks(), [], [sealed])), [sealed]
    answer.kind, answer.touches, answer.definition, answer.cacheable = "other", True, True, False
    answer.effects.reaches = (outer.statement.body["view"]["relname"],)
    (whole,) = parse(lead + marker(sealed) + trail)
    answer.tree = EditedTree({whole.kind: whole.body})
    return answer
