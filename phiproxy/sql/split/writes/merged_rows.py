"""MERGE that needs the plaintext: the engine decides what becomes of which row, and a MERGE over its decisions does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.column_types import by_oid
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.resolve.scope import SYSTEM_COLUMNS
from phiproxy.sql.result import Split, Waiting
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.tables_and_columns import mentioned
from phiproxy.sql.split.writes.assigned_values import ALIAS, COLUMN, Given, Written, reads_others
from phiproxy.sql.split.writes.clauses import Clauses
from phiproxy.sql.split.writes.clear_values import clear_values
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.composed_select import read_of
from phiproxy.sql.split.writes.composition import Parts, Stored, composition_or_apart, given_rows, given_value
from phiproxy.sql.split.writes.described_merge import described_merge, shows_all
from phiproxy.sql.split.writes.drawn import is_changing, is_drawn
from phiproxy.sql.split.writes.drawn_merge import drawn_merge
from phiproxy.sql.split.writes.drawn_order import ASKED_FIRST, Default, check_drawn_of_merge
from phiproxy.sql.split.writes.later_values import Column, Later, check_reached, is_later, later
from phiproxy.sql.split.writes.merge_clauses import Merge, When, merge_of
from phiproxy.sql.split.writes.merge_source import matching
from phiproxy.sql.split.writes.returned_beside import Beside, kept_beside, returned_beside
from phiproxy.sql.split.writes.row_keys import RowKey, row_keys, sets_key, table_of
from phiproxy.sql.split.writes.split_again import split_again
from phiproxy.sql.split.writes.targets import BY_COMMAND, target_of
from phiproxy.sql.text.parse import Node, messages, strings
from phiproxy.sql.text.token_spans import Spans
from phiproxy.sql.values.operands import as_operand
from phiproxy.types.declared import DeclaredType

_BOOLEAN = DeclaredType.builtin("bool")
_KEY, _THERE = "phi_key_", "phi_there"
"""What tells a row of the target, and what is NULL where no row of the source is there."""
_MATCHED, _NO_TARGET, _NO_SOURCE = (
    "MERGE_WHEN_MATCHED", "MERGE_WHEN_NOT_MATCHED_BY_TARGET", "MERGE_WHEN_NOT_MATCHED_BY_SOURCE",
)  # fmt: skip
_INTO_VIEWS = _BY_SOURCE = 170000
_WORDS = {_MATCHED: "MATCHED", _NO_TARGET: "NOT MATCHED", _NO_SOURCE: "MATCHED"}
"""In the write, all rows of the target that are given are matched by the given rows."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A MERGE as it is split: ``kept`` are its clauses that do something, ``carried`` the values that the rest gives for each."""

    a: Analysis
    spans: Spans
    merge: Merge
    keys: Sequence[RowKey]
    kept: Sequence[When]
    carried: Sequence[Sequence[Given]]
    beside: Sequence[Beside] = ()
    """What RETURNING shows of the source."""
    later: Sequence[Sequence[Later]] = ()
    """For each clause the values that are computed behind what is drawn."""
    defaults: Sequence[Sequence[Default]] = ()
    """For each clause the defaults that are drawn before these."""

    @property
    def label(self) -> str:
        """The name of the target, quoted."""
        return quote_ident(self.merge.target.label, always=True)

    @property
    def kinds(self) -> frozenset[str]:
        """The match kinds of its clauses."""
        return frozenset(one.kind for one in self.merge.whens)

    @property
    def filter(self) -> Span | None:
        """The condition without which nothing is done: then the source needs no other rows, where the server can tell."""
        (one, *others) = self.merge.whens
        return None if others or one.kind == _NO_SOURCE else one.condition

    @property
    def values(self) -> list[tuple[When, Given]]:
        """What is carried, in the order of its columns."""
        return [(when, value) for when, values in zip(self.kept, self.carried, strict=True) for value in values]

    @property
    def columns(self) -> list[tuple[Later, Column]]:
        """What is given for the values that are computed later, in the order of its columns."""
        return [(one, column) for values in self.later for one in values for column in one.columns]

    @property
    def draws(self) -> bool:
        """Whether something that is drawn, or that each row has its own of, is computed with."""
        return any(is_changing(one.value.node) and one.value.protected for values in self.later for one in values)


def merged_rows(a: Analysis, spans: Spans, refusal: StatementRefused | ValueRefused, waiting: Waiting | None = None) -> Split:
    """Split a MERGE; Impossible where that is not possible. ``waiting`` are values for which no index answers.

    MERGE INTO members m USING visits v ON v.mrn = m.mrn
      WHEN MATCHED AND v.diagnosis ILIKE 'flu%' THEN UPDATE SET email = upper(m.email)
    → source: SELECT … FROM (SELECT true AS c1, v.mrn AS c2, v.diagnosis AS c3, v.ctid AS c4, v.tableoid AS c5 FROM visits v) AS t1
      FULL JOIN (SELECT true AS c6, m.mrn AS c7, m.email AS c8, m.ctid AS c9, m.tableoid AS c10 FROM members m
      WHERE EXISTS (SELECT true FROM visits v WHERE v.mrn = m.mrn) FOR NO KEY UPDATE OF m) AS t2 ON false
    → write: MERGE INTO members m USING ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]),
      pg_catalog.unnest($3::bool[]), pg_catalog.unnest($4::text[])) AS phi_write (phi_1, phi_2, phi_3, phi_4)
      ON m.ctid = phi_write.phi_1::tid AND m.tableoid = phi_write.phi_2::oid
      WHEN MATCHED AND phi_write.phi_3 THEN UPDATE SET email = phi_write.phi_4
    """
    merged = _merged(a, spans)
    target, catalog = merged.merge.target, a.context.catalog
    beside = check_reached(a, merged.merge, [one.value for values in merged.later for one in values])
    values = [Stored(target.type(catalog, one.column), computed=one.protected) for _, one in merged.values]
    if any(not one.computed and by_oid(one.type.oid) is None for one in values):
        raise Impossible("a value of a type of the database's own")
    told = [Stored(key.type, computed=False) for key in merged.keys]
    stored = [*told, *[Stored(_BOOLEAN, computed=False)] * len(merged.kept), *values]
    select = _select(merged)
    if merged.beside or merged.columns:
        whole, outputs = read_of(a, select)
        carried, columns = kept_beside(whole, outputs[len(stored) :]), merged.columns
        own = zip(carried, columns, strict=False)  # there is one kind of them only
        carried = [replace(one, kept=False, computed=later.value.protected) for one, (later, _) in own] or carried
        stored += carried
    clear = [one.node for _, one in merged.values if not one.protected]
    clear += [column.node for later, column in merged.columns if not later.value.protected]
    sealed = [one.node for when in merged.kept for one in when.values if one.protected]
    chosen = " OR ".join(f"q.q{n}" for n in range(len(told) + 1, len(told) + 1 + len(merged.kept)))
    changed = _write(merged, stored)
    parts = Parts(
        select,
        stored,
        changed,
        described_merge(a, spans, merged.merge),
        [target],
        many=True,
        returns=merged.merge.returning is not None,
        waiting=waiting,
        chosen=chosen,
        clear=clear_values(a, select, clear, _conditions(merged.merge), sealed),
        split_again=partial(split_again, drawn_merge, refusal, a, changed) if merged.draws else None,
    )
    return replace(composition_or_apart(a, parts, refusal), beside_drawn=beside)


def _merged(a: Analysis, spans: Spans) -> Merged:
    body = a.statement.body
    target = target_of(a, body["relation"])
    if target.relation.kind not in "rpv" or b"phi_" in a.text:
        raise Impossible("rows that are not told apart, or a name that is taken")
    if target.relation.kind == "v" and a.context.catalog.server_version < _INTO_VIEWS:
        raise Impossible("no MERGE into views in this version")
    table = table_of(a, target.relation)
    if table.row_security and table.policies_by_command:
        raise RefusedWithHint("rows that may be seen, and not be locked", BY_COMMAND)
    merge = merge_of(a.statement, spans, target)
    unconditional: set[str] = set()
    for when in merge.whens:
        if when.kind in unconditional:
            raise Impossible("a clause that is never reached, as PostgreSQL says")
        unconditional |= {when.kind} if when.condition is None else set()
    if a.context.catalog.server_version < _BY_SOURCE and any(one.kind == _NO_SOURCE for one in merge.whens):
        raise Impossible("no WHEN NOT MATCHED BY SOURCE in this version")
    kept = [one for one in merge.whens if one.command != "CMD_NOTHING"]
    if not kept or calls_volatile(a, [body["sourceRelation"], body["joinCondition"], body.get("withClause", {})]):
        raise Impossible("nothing is done, or something may answer otherwise when it is asked again")
    if is_changing(_conditions(merge)):
        raise RefusedWithHint("a moment, or a number, that decides", ASKED_FIRST)
    given = [one for when in kept for one in when.values]
    drawing = any(one.computed and is_changing(one.node) for one in given) and any(is_drawn(one.node) for one in given)
    defaults = check_drawn_of_merge(a, merge, kept) if drawing else [()] * len(kept)
    late = [[one for one in when.values if is_later(one, drawing=drawing)] for when in kept]
    values = [
        [one for one in when.values if not (any(one is other for other in others) or _stays(merge, one))]
        for when, others in zip(kept, late, strict=True)
    ]
    later_values = [[later(spans, merge, when, one) for one in others] for when, others in zip(kept, late, strict=True)]
    beside = _beside(a, spans, merge)
    if beside and any(later_values):
        raise RefusedWithHint("what RETURNING shows of the source, beside something that is drawn", ASKED_FIRST)
    return Merged(a, spans, merge, row_keys(a, target), kept, values, beside, later_values, defaults)


def _beside(a: Analysis, spans: Spans, merge: Merge) -> list[Beside]:
    """Return what RETURNING shows of the source, in whose place the write has the engine's decisions; Impossible.

    MERGE INTO members m USING visits v ON v.mrn = m.mrn WHEN MATCHED THEN UPDATE SET email = upper(m.email) RETURNING v.room
    → write: MERGE INTO members m USING ROWS FROM (…) WITH ORDINALITY AS phi_write (phi_1, phi_2, phi_3, phi_4, phi_kept) ON …
      WHEN MATCHED AND phi_write.phi_3 THEN UPDATE SET email = phi_write.phi_4 RETURNING (CAST($5 AS text[]))[phi_write.phi_kept]
    """
    shown = merge.body.get("returningClause")
    if shown is None or not (shows_all(merge.body) or reads_others(merge.target, [shown])):
        return []
    if any(strings(m["fields"])[-1:] in [[name] for name in SYSTEM_COLUMNS] for m in messages(shown) if "fields" in m):
        raise Impossible("a system column in RETURNING")
    clauses = Clauses(merge.before, merge.relation, merge.source, returning=merge.returning)
    return returned_beside(a, spans, Written("MergeStmt", merge.body, clauses, merge.target), kept=True)


def _stays(merge: Merge, given: Given) -> bool:
    """Tell whether a value stands in the write as the client has written it: it needs nothing but the row of the target."""
    if given.computed:
        return False
    if "SetToDefault" in given.node or as_operand(given.node) is not None:
        return True
    for message in messages(given.node):
        names = strings(message["fields"]) if isinstance(message.get("fields"), list) else None
        if "SubLink" in message or (names is not None and (len(names) != 2 or names[0] != merge.target.label)):
            return False
    return True


def calls_volatile(a: Analysis, trees: Sequence[Node]) -> bool:
    """Tell whether something in these may give another value each time, or locks rows."""
    signatures = a.context.catalog.signatures
    for message in bodies(trees, ()):
        if "funcname" in message:
            functions = signatures.functions(strings(message["funcname"])[-1]) if signatures is not None else ()
            if not functions or any(one.volatile == "v" for one in functions):
                return True
        if "lockingClause" in message or "method" in message:
            return True
    return False


def _select(merged: Merged) -> Composed:
    """Return what is decided for each pair of rows: which clause is taken, and what it stores."""
    merge, label, select = merged.merge, merged.label, Composed(merged.a.text, merged.spans)
    if merge.before is not None:
        select.add(merge.before, " ")
    select.add(f"SELECT {', '.join(f'{label}.{_KEY}{n}' for n in range(1, len(merged.keys) + 1))}")
    for when in merged.kept:
        select.add(", ")
        _chosen(select, merged, when)
    for when, value in merged.values:
        select.add(", CASE WHEN ")
        _chosen(select, merged, when)
        select.add(" THEN (", *value.as_select, ") END")
    for column in (column for one in merged.beside for column in one.columns):
        select.add(", ", column)
    for _, one in merged.columns:
        select.add(", ", one.span)
    select.add(" FROM ")
    _locked(select, merged)
    kinds = merged.kinds
    join = {(False, False): "JOIN", (True, False): "RIGHT JOIN", (False, True): "LEFT JOIN", (True, True): "FULL JOIN"}
    select.add(f" {join[_NO_TARGET in kinds, _NO_SOURCE in kinds]} ")
    if _NO_SOURCE in kinds:
        select.add("(", merge.source, f" CROSS JOIN (SELECT true) AS {_THERE} ({_THERE}))")
    else:
        select.add(merge.source)
    select.add(" ON (", merge.condition, ")")
    if merged.filter is not None:
        select.add(" WHERE ", merged.filter)
    return select


def _chosen(select: Composed, merged: Merged, chosen: When) -> None:
    """Add whether a clause is taken: the first of those for what is matched, or is not, whose condition is true."""
    there = f"{merged.label}.{_KEY}1 IS NOT NULL"
    if _NO_SOURCE in merged.kinds:
        there += f" AND {_THERE}.{_THERE}"
    tests = {_MATCHED: there, _NO_TARGET: f"{merged.label}.{_KEY}1 IS NULL", _NO_SOURCE: f"{_THERE}.{_THERE} IS NULL"}
    select.add(f"CASE WHEN {tests[chosen.kind]} THEN CASE")
    for when in merged.merge.whens:
        if when.kind == chosen.kind:
            asked = when.condition if merged.filter is None else None
            select.add(" WHEN ", *(("(", asked, ")") if asked is not None else ("true",)))
            select.add(f" THEN {'true' if when is chosen else 'false'}")
    select.add(" ELSE false END ELSE false END")


def _locked(select: Composed, merged: Merged) -> None:
    """Add the rows of the target, locked: those that the source matches, or all."""
    merge, label = merged.merge, merged.label
    values = [*(value.node for _, value in merged.values), *(column.node for _, column in merged.columns)]
    names = mentioned(bodies([*_conditions(merge), *values], ()))
    if merge.target.label in names.rows or merge.target.label in names.starred:
        raise Impossible("a whole row of the target")
    columns = [quote_ident(c.name, always=True) for c in merge.target.relation.columns if c.name in names.names]
    listed = [f"{key.given} AS {_KEY}{n}" for n, key in enumerate(merged.keys, start=1)]
    listed += [f"{label}.{name}" for name in columns]
    select.add(f"(SELECT {', '.join(listed)} FROM ", merge.relation)
    if _NO_SOURCE not in merged.kinds:
        select.add(" WHERE EXISTS (SELECT true FROM ", *matching(merged.spans, merge), " WHERE ", merge.condition, ")")
    select.add(f"{_lock(merged)}) AS {label}")


def _lock(merged: Merged) -> str:
    """Return how the rows of the target are locked; nothing where none of them is changed."""
    changes = [when for when in merged.kept if when.kind != _NO_TARGET]
    if not changes:
        return ""
    columns = {value.column for when in changes for value in when.values}
    strong = any(when.command == "CMD_DELETE" for when in changes) or sets_key(merged.a, merged.merge.target, columns)
    return f" FOR {'UPDATE' if strong else 'NO KEY UPDATE'} OF {merged.label}"


def _conditions(merge: Merge) -> list[Node]:
    return [merge.body["joinCondition"], *(one.node["condition"] for one in merge.whens if "condition" in one.node)]


def _write(merged: Merged, stored: Sequence[Stored]) -> Composed:
    merge, changed, first = merged.merge, Composed(merged.a.text, merged.spans), len(merged.keys) + 1
    changed.add("MERGE INTO ", merge.relation, f" USING {given_rows(changed, stored)}")
    same = (f"{key.column} = {ALIAS}.{COLUMN}{n}{key.cast}" for n, key in enumerate(merged.keys, start=1))
    changed.add(f" ON {' AND '.join(same)}")
    number = len(merged.keys) + len(merged.kept)
    given = number + len(merged.values)
    clauses = zip(merged.kept, merged.carried, merged.later, merged.defaults, strict=True)
    for position, (when, carried, late, defaults) in enumerate(clauses, start=first):
        changed.add(f" WHEN {_WORDS[when.kind]} AND {ALIAS}.{COLUMN}{position} THEN ")
        values: list[tuple[str | tuple[int, int], ...]] = []
        for value in when.values:
            again = next((one for one in late if one.value is value), None)
            drawn = next((one.expression for one in defaults if one.word is value), None)
            if again is not None:
                values.append(tuple(_with_columns(again, given)))
                given += len(again.columns)
            elif drawn is not None:
                values.append((drawn,))
            elif any(one is value for one in carried):
                number += 1
                values.append((given_value(stored, number),))
            else:
                values.append(value.as_select)
        _action(changed, when, values, [one for one in defaults if one.word is None], always=any(
            one.column.drawn is not None and one.column.drawn.identity == "a" for one in defaults
        ))
    if merge.returning is not None:
        number, at = number + 1, merge.returning[0]
        changed.add(" RETURNING ")
        for one in merged.beside:
            changed.add((at, one.span[0]), one.written(changed, stored, number))
            number, at = number + len(one.columns), one.span[1]
        changed.add((at, merge.returning[1]))
    return changed


def _with_columns(later: Later, number: int) -> Iterator[str | Span]:
    """Yield a value as the client has written it, with the columns that are given for it, behind this number."""
    if not later.columns:
        yield from later.value.as_select
        return
    at, end = later.value.span
    for position, column in enumerate(later.columns, start=number + 1):
        yield from ((at, column.span[0]), f"{ALIAS}.{COLUMN}{position}")
        at = column.span[1]
    yield at, end


def _action(
    changed: Composed, when: When, values: list[tuple[str | Span, ...]], defaults: Sequence[Default], *, always: bool
) -> None:
    """``defaults`` are given behind the values, ``always``: of a column that is GENERATED ALWAYS too."""
    if when.command == "CMD_DELETE":
        changed.add("DELETE")
    elif when.command == "CMD_UPDATE":
        changed.add("UPDATE SET ")
        for position, (given, value) in enumerate(zip(when.values, values, strict=True)):
            changed.add(", " if position else "", f"{quote_ident(given.column, always=True)} = ", *value)
    elif "values" not in when.node:
        changed.add("INSERT DEFAULT VALUES")
    else:
        names = [*(one.column for one in when.values), *(one.column.name for one in defaults)]
        into: list[str | Span] = [when.into, " "] if when.into is not None else []
        if defaults or always:
            listed = ", ".join(quote_ident(name, always=True) for name in names)
            into = [f"({listed}) ", "OVERRIDING SYSTEM VALUE " if always else ""]
        changed.add("INSERT ", *into, "VALUES (")
        for position, value in enumerate([*values, *((one.expression,) for one in defaults)]):
            changed.add(", " if position else "", *value)
        changed.add(")")
