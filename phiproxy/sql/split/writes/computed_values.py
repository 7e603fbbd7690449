"""Computed values that depend on no row: the engine computes them once, and the write is the client's with parameters for them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.column_types import by_oid
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.pg_errors.names_and_signatures import Level, resolve
from phiproxy.sql.result import Rest, Split, SplitWrite
from phiproxy.sql.split.blocks import column_references
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.same_answers import AT_EACH_CALL, VOLATILE
from phiproxy.sql.split.statement import NO_CALLS, Calls
from phiproxy.sql.split.writes.assigned_values import Given, Written
from phiproxy.sql.split.writes.clear_values import clear_outputs
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.composed_select import read_of
from phiproxy.sql.split.writes.composition import Parts, Stored, composition
from phiproxy.sql.split.writes.described import described
from phiproxy.sql.split.writes.drawn import calls_in, is_changing, is_drawn, name_of
from phiproxy.sql.split.writes.drawn_order import ASKED_FIRST, Default, check_drawn, place_of
from phiproxy.sql.split.writes.parts_seen_together import Part, answered, check_whatever_is_given
from phiproxy.sql.text.parse import messages, strings
from phiproxy.sql.text.token_spans import OPEN, Spans


class AskedValue(NamedTuple):
    """A value that is computed, or drawn: how it is asked for, of which type it is given, where it stands, and its column."""

    key: object
    asked: Sequence[str | Span]
    stored: Stored
    column: str
    span: Span | None
    """None for a default of a column that the client leaves out."""
    default: bool = False
    """Whether it is a default of the column."""


def computed_values(
    a: Analysis,
    spans: Spans,
    write: Written,
    refusal: StatementRefused | ValueRefused,
    split_again: Callable[[Analysis, Composed, SplitWrite], tuple[list[Part], list[Rest]]] | None = None,
) -> Split:
    """Split an INSERT … VALUES, or an UPDATE to values that are the same for every row; Impossible for any other.

    What ON CONFLICT sets to something of a row (``SET ssn = excluded.ssn``) stays as it is; ``split_again``: all that it sets does.

    INSERT INTO patients (ssn, city) VALUES (initcap($1), $2)
    → rest: SELECT q.q1 FROM (SELECT initcap($1)) AS q (q1)
    → write: INSERT INTO patients (ssn, city) VALUES ($1, $2)

    INSERT INTO members (mrn) VALUES ($1) ON CONFLICT (mrn) DO UPDATE SET email = gen_random_uuid()::text
    → source: SELECT gen_random_uuid()
    → write: INSERT INTO members (mrn) VALUES ($2) ON CONFLICT (mrn) DO UPDATE SET email = $1

    INSERT INTO members (mrn) VALUES ($1)
      ON CONFLICT (mrn) DO UPDATE SET email = (SELECT lower(full_name) FROM patients WHERE id = 1)
    → source: SELECT patients.full_name FROM patients WHERE id = 1
    → write: INSERT INTO members (mrn) VALUES ($2) ON CONFLICT (mrn) DO UPDATE SET email = $1
    """
    computed, again = [given for given in write.values if given.computed], split_again is not None
    of_conflict = [one for one in write.conflict if one.computed]
    of_conflict = [one for one in of_conflict if (reads_no_row(a, spans, write, one) if one.of_row else not again)]
    behind = again and any(is_drawn(one.node) for one in write.conflict)
    if any(given.picks[1] for given in (*computed, *of_conflict)):
        raise Impossible("a query that gives several values")
    if not (computed or of_conflict or behind) or (write.kind == "UpdateStmt" and any(given.of_row for given in computed)):
        raise Impossible("nothing is computed that is the same for every row")
    if write.kind == "UpdateStmt" and any(is_changing(given.node) for given in computed):
        raise Impossible("a value that each row has its own of")
    if any(is_changing(given.node) for given in of_conflict):
        _check_one_conflict(write, of_conflict)
    values = asked_values(a, write, computed, of_conflict, behind=behind)
    if not values:
        raise Impossible("nothing of the proposed row is computed, or drawn")
    if len({value.key for value in values}) < len(values):
        try:
            return _split(a, spans, write, values, refusal, split_again, together=True)
        except Impossible:  # one that each row has its own of, as of gen_random_uuid()
            pass
    values = [value._replace(key=n) for n, value in enumerate(values)]
    return _split(a, spans, write, values, refusal, split_again, together=False)


def asked_values(
    a: Analysis, write: Written, computed: Sequence[Given], of_conflict: Sequence[Given], *, behind: bool = False
) -> list[AskedValue]:
    """Return what is asked for of these values, in its order: where something is drawn, all of VALUES that is; Impossible.

    ``behind``: what DO UPDATE sets is drawn, behind all of VALUES.
    """
    drawing = behind or any(is_drawn(given.node) for given in computed)
    if drawing:
        computed = [given for given in write.values if given.computed or is_drawn(given.node)]
    _check_volatile(a, [*computed, *of_conflict])
    defaults = check_drawn(a, write, computed, behind=behind)
    values = [_asked_value(a, write, given) for given in (*computed, *of_conflict)]
    values += [_default(a, write, default) for default in defaults]
    if drawing and len(write.clauses.rows) == 1:
        values.sort(key=lambda value: place_of(write.target.relation, value.column))
    else:
        values.sort(key=lambda value: value.span or (len(a.text), 0))
    return values


def reads_no_row(a: Analysis, spans: Spans, write: Written, given: Given) -> bool:
    """Tell whether an expression has its columns in subqueries of its own, so that it is the same for every row.

    A name without a dot is a column of a query inside before it is one of EXCLUDED; but a row of one comes behind all columns.
    """
    if given.picks[1]:
        return False
    select = Composed(a.text, spans)
    if write.clauses.before is not None:
        select.add(write.clauses.before, " ")
    try:
        whole, _ = read_of(a, select.add("SELECT ", *given.as_select))
    except (Impossible, StatementRefused):
        return False
    for names, seen in column_references(whole.verdict, {"SelectStmt": whole.body}, Level()):
        if names != ["*"] and resolve(seen, names) is None:
            return False
    return True


def _check_one_conflict(write: Written, given: Sequence[Given]) -> None:
    """Go on where one row at most is set to these values, and nobody can tell that they were made in vain; RefusedWithHint.

    Others are asked for with the rows in conflict (``conflicts``).
    """
    if len(write.clauses.rows) != 1 or any(is_drawn(one.node) for one in given):
        raise RefusedWithHint("a value that each row in conflict has its own of, or that none has", ASKED_FIRST)


def _check_volatile(a: Analysis, computed: Sequence[Given]) -> None:
    """Go on where no volatile function is called but those of which is known what their results depend on; RefusedWithHint.

    INSERT INTO patients (mrn) VALUES ('M' || pg_sleep(1)::text)
    → refused 0A000
    """
    signatures = a.context.catalog.signatures
    names = {name_of(call) for given in computed for call in calls_in(given.node)} - AT_EACH_CALL
    if signatures is not None and any(f.volatile == "v" for name in names for f in signatures.functions(name)):
        raise RefusedWithHint("a volatile function in a value that is computed beside the server", ASKED_FIRST)


def _asked_value(a: Analysis, write: Written, given: Given) -> AskedValue:
    type_ = write.target.type(a.context.catalog, given.column)
    if not given.computed and by_oid(type_.oid) is None:
        raise Impossible("a value of a type of the database's own")
    return AskedValue(_key(a, given), given.as_select, Stored(type_, computed=given.computed), given.column, given.span)


def _default(a: Analysis, write: Written, default: Default) -> AskedValue:
    name, word = default.column.name, default.word
    stored = Stored(write.target.type(a.context.catalog, name), computed=False)
    span = word.span if word is not None else None
    return AskedValue((name, span), [default.expression], stored, name, span, default=True)


def _key(a: Analysis, given: Given) -> object:
    """Return what the value of a default is told from others by; of any other value where it stands."""
    spans = a.context.default_spans
    i = bisect_right(spans, (given.span[0], len(a.text)))
    is_default = i > 0 and given.span[1] <= spans[i - 1][1]
    return (given.column, a.text[slice(*given.span)]) if is_default else given.span


def _split(
    a: Analysis,
    spans: Spans,
    write: Written,
    values: Sequence[AskedValue],
    refusal: StatementRefused | ValueRefused,
    split_again: Callable[[Analysis, Composed, SplitWrite], tuple[list[Part], list[Rest]]] | None,
    *,
    together: bool,
) -> Split:
    """``together``: the default of a column is computed once for all rows."""
    select, changed = Composed(a.text, spans), Composed(a.text, spans)
    if write.clauses.before is not None:
        select.add(write.clauses.before, " ")
    select.add("SELECT ")
    numbers = dict[object, int]()
    stored = list[Stored]()
    for value in values:
        if value.key not in numbers:
            numbers[value.key] = len(numbers) + 1
            select.add(", " if len(numbers) > 1 else "", *value.asked)
            stored.append(value.stored)
    at = a.statement.start
    for (start, end), before, number in sorted(edits(write, spans, values, numbers)):
        changed.add((at, start), before + (changed.parameter(-number) if number else ""))
        at = end
    changed.add((at, a.statement.end))
    if split_again is None:
        types = [0 if n > 0 else stored[-n - 1].type.oid for n in changed.parameters]
        check_whatever_is_given(answered(a, changed.text, changed.parameters, types))
    clear = [n for n, one in enumerate(stored) if not one.computed]
    called = AT_EACH_CALL if draws(write) or any(value.default for value in values) else VOLATILE
    return composition(
        a,
        Parts(
            select,
            stored,
            changed,
            described(a.text, spans, write),
            [write.target],
            returns=write.clauses.returning is not None,
            waiting=write.waiting,
            calls=NO_CALLS if together or write.kind != "InsertStmt" else Calls(once=called),
            in_vain=_may_fail_in_vain(write, values),
            clear=clear_outputs(a, select, clear) if clear else (),
            split_again=partial(split_again, a, changed) if split_again is not None else None,
        ),
        refusal,
    )


def _may_fail_in_vain(write: Written, values: Sequence[AskedValue]) -> bool:
    """Tell whether a query, or a setting, is asked for that PostgreSQL evaluates for a row in conflict only, and that may fail."""
    spans = {value.span for value in values}
    asked = messages([one.node for one in write.conflict if one.span in spans])
    return any("SubLink" in message or strings(message.get("funcname"))[-1:] == ["current_setting"] for message in asked)


def draws(write: Written) -> bool:
    """Tell whether something that is drawn is computed with in VALUES or SET."""
    return any(is_drawn(given.node) for given in write.values if given.computed)


def edits(
    write: Written, spans: Spans, values: Sequence[AskedValue], numbers: dict[object, int]
) -> Iterator[tuple[Span, str, int]]:
    """Yield what is put where in the client's text: something, and the parameter of a number, if there is one.

    INSERT INTO patients (mrn) VALUES ('M' || nextval('numbers'))
    → write: INSERT INTO patients (mrn, id) VALUES ($1, $2)
    """
    yield from ((value.span, "", numbers[value.key]) for value in values if value.span is not None)
    left = [value for value in values if value.span is None]
    identities = [c.name for c in write.target.relation.columns if c.drawn is not None and c.drawn.identity == "a"]
    always = any(value.default and value.column in identities for value in values)
    if not left and not always:
        return
    into = write.clauses.into
    if into is None or "cols" not in write.body or spans.name(spans.at(into[0])) != OPEN:
        raise Impossible("an INSERT without a list of columns")
    closing = spans.partner(spans.at(into[0]))
    end = spans.tokens[closing].end
    if always and end != into[1]:
        raise Impossible("an INSERT that overrides values")
    named = "".join(f", {quote_ident(value.column, always=True)}" for value in left)
    yield (end - 1, end), f"{named}){' OVERRIDING SYSTEM VALUE' if always else ''}", 0
    row_end = write.clauses.rows[0][-1][1]
    for value in left:
        yield (row_end, row_end), ", ", numbers[value.key]
