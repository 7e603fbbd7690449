"""That what is drawn in a write is drawn in PostgreSQL's order, though the source draws it before the write is run.

PostgreSQL computes all columns of one row of VALUES, and of SET, in the order of the table, defaults among them; several rows of
VALUES, and those of a query, in the order in which they are listed, and the other defaults behind each row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from phiproxy.policy.catalog import CatalogColumn, Drawn, Relation
from phiproxy.sql.context import Analysis
from phiproxy.sql.split.impossible import RefusedWithHint
from phiproxy.sql.split.same_answers import AT_EACH_CALL, DRAWN, VOLATILE
from phiproxy.sql.split.writes.assigned_values import Given, Written
from phiproxy.sql.split.writes.constant_at_last import may_fail_when_planned
from phiproxy.sql.split.writes.derived_columns import virtual_columns, with_derived
from phiproxy.sql.split.writes.drawn import calls_in, is_called_where_reached, is_drawn, name_of
from phiproxy.sql.split.writes.merge_clauses import Merge, When
from phiproxy.sql.split.writes.parts_seen_together import names_sequences, sequence_name
from phiproxy.sql.split.writes.row_keys import table_of
from phiproxy.sql.text.parse import Node, location, messages, strings

ASKED_FIRST = "Ask for it first, as SELECT nextval('…'), in the same transaction, and give what it answers as a parameter."
_OVERRIDES = ("OVERRIDING_USER_VALUE", "OVERRIDING_SYSTEM_VALUE")


class Default(NamedTuple):
    """A default that is drawn by the source, and given to the write: of a column that is left out, or for the word DEFAULT."""

    column: CatalogColumn
    word: Given | None

    @property
    def expression(self) -> str:
        """How it is asked for."""
        assert self.column.drawn is not None
        return "pg_catalog.nextval('" + self.column.drawn.sequence.replace("'", "''") + "')"


def place_of(relation: Relation, name: str) -> int:
    """Return the place of a column in its table, as clients see it."""
    return next(n for n, column in enumerate(relation.columns) if column.name == name)


def check_drawn(a: Analysis, write: Written, taken: Sequence[Given], *, behind: bool = False) -> list[Default]:
    """Return the defaults that the source must draw together with the values that are ``taken`` to it; Impossible.

    ``behind``: what DO UPDATE sets is drawn, too, behind all of them.

    INSERT INTO patients (mrn) VALUES ('M' || nextval('numbers'))
    → source: SELECT pg_catalog.nextval('public.patients_id_seq'), nextval('numbers')
    → write: INSERT INTO patients (mrn, id) VALUES ($1, $2)
    """
    drawing = [given for given in taken if is_drawn(given.node)]
    signatures, relation = a.context.catalog.signatures, write.target.relation
    if signatures is None or not (drawing or behind):
        return []
    several = write.kind != "InsertStmt" or len(write.clauses.rows) != 1
    if relation.kind not in "rp":
        raise RefusedWithHint("defaults of a view that may be drawn in another order", ASKED_FIRST)
    if relation.statement_triggers:
        raise RefusedWithHint("a trigger before the statement may draw first", ASKED_FIRST)
    if several and fires_for_rows(a, write):
        raise RefusedWithHint("a trigger for each row may look at what was drawn", ASKED_FIRST)
    nodes = [with_derived(a, write, given.node) for given in drawing]
    if not names_sequences(a) or not all(is_called_where_reached(node, signatures) for node in nodes):
        raise RefusedWithHint("something that is not drawn for each row", ASKED_FIRST)
    check_planned(a, [given.node for given in taken])
    _check_others(a, write, drawing, several=several)
    if write.kind == "UpdateStmt":
        places = [place_of(relation, given.column) for given in drawing]
        words = (given for given in write.values if "SetToDefault" in given.node)
        if places != sorted(places) or any(_draws(relation.column(given.column)) is not None for given in words):
            raise RefusedWithHint("values that are drawn in another order than that of the columns", ASKED_FIRST)
        return []
    return _defaults(a, write, drawing, several=several, behind=behind)


def check_planned(a: Analysis, nodes: Sequence[Node]) -> None:
    """Go on where nothing in a write that draws may fail before PostgreSQL draws, when it plans it for its values; RefusedWithHint.

    INSERT INTO patients (mrn) VALUES (left($1, 3)::int || 'x' || nextval('numbers'))
    → refused 0A000
    """
    if may_fail_when_planned(nodes, a.context.catalog.signatures, a.context.declared):
        hint = "Compute it first, as SELECT …, and give the result as a parameter. What is made of parameters alone may fail before"
        raise RefusedWithHint("what is made of given values, and may fail before anything is drawn", f"{hint} a number is drawn.")


def check_drawn_of_conflict(a: Analysis, write: Written, keys: Collection[str]) -> bool:
    """Tell whether what DO UPDATE sets is drawn; RefusedWithHint where PostgreSQL may draw in another order than source and write.

    PostgreSQL draws it behind all of the proposed row, for a row that is there. ``keys`` are the columns of the unique index: of
    several proposed rows one that sets them might take away the conflict of the next.

    INSERT INTO patients (id, notes) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET notes = EXCLUDED.notes || nextval('numbers')
    → source: SELECT phi_locked.phi_row, phi_locked.notes, …, nextval('numbers') FROM (SELECT … FROM (VALUES (1::int4,
      CAST(1 AS int4))) AS phi_rows (phi_row, id), patients WHERE … FOR NO KEY UPDATE OF patients) AS phi_locked
    """
    signatures, relation = a.context.catalog.signatures, write.target.relation
    drawing = [one for one in write.conflict if is_drawn(one.node)]
    if signatures is None or not drawing:
        return False
    if write.clauses.updated_where is not None:
        raise RefusedWithHint("values that are drawn for some rows in conflict", ASKED_FIRST)
    if relation.kind not in "rp" or relation.statement_triggers or any(one.diverted for one in _with_partitions(a, relation)):
        raise RefusedWithHint("what may draw before it", ASKED_FIRST)
    several = len(write.clauses.rows) != 1
    if several and (fires_for_rows(a, write) or any(one.column in keys for one in write.conflict)):
        raise RefusedWithHint("a row before may decide what is drawn, or whether a row is in conflict", ASKED_FIRST)
    if not names_sequences(a) or not all(one.computed and is_called_where_reached(one.node, signatures) for one in drawing):
        raise RefusedWithHint("something that is not drawn for each row in conflict", ASKED_FIRST)
    check_planned(a, [one.node for one in write.conflict])
    if any(strings(m["fields"])[-1] in virtual_columns(relation) for one in drawing for m in messages(one.node) if "fields" in m):
        raise RefusedWithHint("a virtual column beside something that is drawn", ASKED_FIRST)
    places = [place_of(relation, one.column) for one in drawing]
    words = [one.column for one in write.conflict if "SetToDefault" in one.node]
    if places != sorted(places) or any(_draws(relation.column(name)) is not None for name in words):
        raise RefusedWithHint("values that are drawn in another order than that of the columns", ASKED_FIRST)
    _check_others(a, write, drawing, several=several)
    return True


def check_drawn_of_merge(a: Analysis, merge: Merge, whens: Sequence[When]) -> list[list[Default]]:
    """Return for each of these clauses the defaults that the source must draw together with its values; RefusedWithHint.

    PostgreSQL computes all columns of a row in the order of the table, defaults among them, and then stores it.
    """
    signatures, relation = a.context.catalog.signatures, merge.target.relation
    if relation.kind not in "rp" or relation.statement_triggers or relation.reordered:
        raise RefusedWithHint("what may draw before it, or in another order", ASKED_FIRST)
    if any(one.diverted or one.row_triggers for one in _with_partitions(a, relation)):
        raise RefusedWithHint("a trigger for each row may look at what was drawn", ASKED_FIRST)
    taken = {location(call) for when in whens for one in when.values for call in calls_in(one.node)}
    for call in calls_in(merge.body):
        name = name_of(call)
        if name in DRAWN and location(call) not in taken:
            raise RefusedWithHint("something that is drawn elsewhere in the statement", ASKED_FIRST)
        if name not in AT_EACH_CALL and (signatures is None or any(f.volatile == "v" for f in signatures.functions(name))):
            raise RefusedWithHint("a volatile function beside something that is drawn", ASKED_FIRST)
    return [_defaults_of(relation, when) for when in whens]


def _defaults_of(relation: Relation, when: When) -> list[Default]:
    given = {one.column: one for one in when.values}
    words = {name: one for name, one in given.items() if "SetToDefault" in one.node}
    drawn = [column for column in relation.columns if _draws(column) is not None]
    if when.command == "CMD_INSERT":
        drawn = [column for column in drawn if column.name in words or column.name not in given]
        if drawn and ("values" not in when.node or when.node.get("override") in _OVERRIDES):
            raise RefusedWithHint("values that a default takes the place of", ASKED_FIRST)
        return [_taken(column, words.get(column.name)) for column in drawn]
    if any(column.name in words for column in drawn):
        raise RefusedWithHint("a default that is drawn", ASKED_FIRST)
    return []


def draws_before_conflict(write: Written) -> bool:
    """Tell whether a proposed row of an INSERT is drawn in part: a value of VALUES, or a default."""
    words = {one.column for one in write.values if "SetToDefault" in one.node}
    left_out = {column.name for column in write.target.relation.columns} - {one.column for one in write.values}
    defaults = (column for column in write.target.relation.columns if column.name in words | left_out)
    return any(is_drawn(one.node) for one in write.values) or any(_draws(column) is not None for column in defaults)


def fires_for_rows(a: Analysis, write: Written) -> bool:
    """Tell whether triggers BEFORE … FOR EACH ROW are fired by a write; of an INSERT those BEFORE INSERT are, which divert rows.

    Of a view those of the table behind it; Impossible where that is not known.
    """
    relations = list(_with_partitions(a, table_of(a, write.target.relation)))
    updates = write.kind != "InsertStmt" or bool(write.conflict)
    return any(one.diverted or (updates and one.row_triggers) for one in relations)


def may_default(a: Analysis, write: Written) -> list[CatalogColumn]:
    """Return the columns whose defaults a write may store, and that depend on the calls before."""
    if write.kind != "InsertStmt" and not any("SetToDefault" in one.node for one in write.values):
        return []
    relations = _with_partitions(a, write.target.relation)
    return [column for one in relations for column in one.columns if _draws(column) is not None]


def _check_others(a: Analysis, write: Written, drawing: Sequence[Given], *, several: bool) -> None:
    """Go on where nothing else is drawn in the statement, nor any volatile function called that may draw; RefusedWithHint."""
    signatures = a.context.catalog.signatures
    assert signatures is not None
    behind = [] if several else [write.body.get("returningClause"), write.body.get("onConflictClause")]
    known = {location(call) for tree in (*(given.node for given in drawing), *behind) if tree for call in calls_in(tree)}
    for call in calls_in(write.body):
        name = name_of(call)
        if name in DRAWN and location(call) not in known:
            raise RefusedWithHint("something that is drawn elsewhere in the statement", ASKED_FIRST)
        if name not in AT_EACH_CALL and any(f.volatile == "v" for f in signatures.functions(name)):
            raise RefusedWithHint("a volatile function beside something that is drawn", ASKED_FIRST)


def _defaults(a: Analysis, write: Written, drawing: Sequence[Given], *, several: bool, behind: bool) -> list[Default]:
    relation = write.target.relation
    words = [one for one in write.values if "SetToDefault" in one.node]
    if write.body.get("override") == "OVERRIDING_USER_VALUE" or (several and words and write.body.get("override") in _OVERRIDES):
        raise RefusedWithHint("values that a default takes the place of", ASKED_FIRST)
    given = {one.column for one in (*write.values, *write.query)}
    if several:  # where DEFAULT stands in all rows of GENERATED ALWAYS, it is drawn behind each row
        given -= {c.name for c in relation.columns if c.drawn is not None and c.drawn.identity == "a" and words}
    last = len(relation.columns) if behind else max(place_of(relation, one.column) for one in drawing)
    result = list[Default]()
    for column in relation.columns:
        drawn = _draws(column)
        if drawn is None:
            continue
        if column.name not in given:
            if several and not draws_of_another(column, drawing):
                raise RefusedWithHint("a default that may be of the same sequence", ASKED_FIRST)
            if not several and place_of(relation, column.name) < last:
                result.append(_taken(column, None))
        elif several or place_of(relation, column.name) < last:
            result += (_taken(column, one) for one in words if one.column == column.name)
    if relation.reordered and any(_draws(column) is not None for column in relation.columns):
        raise RefusedWithHint("defaults that are drawn in another order than that of the columns", ASKED_FIRST)
    return result


def _draws(column: CatalogColumn | None) -> Drawn | None:
    """Return what of a default depends on the calls before; None where nothing does."""
    drawn = column.drawn if column is not None else None
    return drawn if drawn is not None and (drawn.identity or not drawn.functions <= VOLATILE) else None


def _taken(column: CatalogColumn, word: Given | None) -> Default:
    drawn = column.drawn
    if drawn is None or not drawn.plain or "\\" in drawn.sequence:
        raise RefusedWithHint("a default that is drawn before what is computed", ASKED_FIRST)
    return Default(column, word)


def draws_of_another(column: CatalogColumn, drawing: Sequence[Given]) -> bool:
    """Tell whether the default of a column is of a sequence that nothing of this is of, as their names show."""
    drawn = column.drawn
    own = _last_part(drawn.sequence) if drawn is not None else ""
    if drawn is None or not own or not drawn.functions <= VOLATILE | {"nextval"}:
        return False
    for call in (call for given in drawing for call in calls_in(given.node) if name_of(call) in DRAWN):
        name = sequence_name(call)
        if name_of(call) in ("random", "random_normal"):
            continue
        said = name["sval"].get("sval", "") if name is not None else ""
        if not said or said.strip().isdigit() or _last_part(said) == own:
            return False
    return True


def _last_part(name: str) -> str:
    return name.rpartition(".")[2].strip(' "').casefold()


def _with_partitions(a: Analysis, relation: Relation) -> Iterator[Relation]:
    yield relation
    for child in a.context.catalog.children.get(relation.oid, ()):
        yield from _with_partitions(a, child)


def changing_of(nodes: Sequence[Node]) -> frozenset[str]:
    """Return the functions that may be called for each row in these expressions: none where no such function is."""
    return AT_EACH_CALL if any(name_of(call) in AT_EACH_CALL for node in nodes for call in calls_in(node)) else frozenset()
