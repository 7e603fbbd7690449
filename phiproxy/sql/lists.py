"""Columns of given values: what becomes of the entries of VALUES, and of parameters and literals listed by a SELECT in FROM.

Whoever uses such a column decides for all its entries; two who disagree are a refusal. What UNION ALL puts one below the other is
one column. Comparisons of given values with each other are decided here too: by tags where one is protected elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.policy.types import by_oid
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.expressions import check_operators, equality_slot
from phiproxy.sql.lengths import cut_by
from phiproxy.sql.meaning import PLAIN, Search, Store
from phiproxy.sql.operands import OWN, common_type
from phiproxy.sql.parse import only
from phiproxy.sql.places import at_operator
from phiproxy.sql.scope import Kept, ListColumn, Searched, Stored, User
from phiproxy.sql.sinks import TEXT_OID, SinkNode
from phiproxy.sql.terms import Comparison, Term, as_plain, as_tags

Protecting = Stored | Searched | Kept


def settle(a: Analysis) -> None:
    """Decide the use of every entry of a list, and of every value that is compared with given values only."""
    if not a.lists and not a.comparisons:
        return
    _spread(a)
    for comparison in a.comparisons:
        for made in comparison.terms:
            as_plain(a, made)
    order = [float(i) for i in range(len(a.uses))]
    for columns in _united(a.lists):
        _settle(a, columns, order)
    # Each where PostgreSQL saw it, before what was recorded since.
    a.uses = [a.uses[i] for i in sorted(range(len(a.uses)), key=order.__getitem__)]


def _spread(a: Analysis) -> None:
    """Let what is protected in one place be protected in all (taint), until nothing more follows."""
    while True:
        taint = _Taint(a)
        found = [(comparison, taint.of_comparison(comparison)) for comparison in a.comparisons]
        a.comparisons = [comparison for comparison, column in found if column is None]
        for comparison, column in found:
            if column is not None:
                slot = equality_slot(a, column, comparison.node)
                check_operators(a, column, comparison.node)
                for made in comparison.terms:
                    with at_operator(a, comparison.node, made.node):
                        as_tags(a, made, column, slot)
        if len(a.comparisons) == len(found) and not taint.reach_lists():
            return


class _Taint:
    """What meets a protected column so far: parameters by number, literals by value, lists."""

    def __init__(self, a: Analysis) -> None:
        self._numbers: dict[int, ProtectedColumn] = {}
        self._values: dict[bytes, ProtectedColumn] = {}
        self._lists: dict[int, ProtectedColumn] = {}
        self._meaning = a.meaning
        self._sets = list(_united(a.lists))
        for decided in a.uses:
            if isinstance(decided.use, Store | Search):
                self._add(decided.sink, decided.use.column)
        for columns in self._sets:
            protecting = _protecting(columns)
            for sink in _sinks(columns) if protecting else ():
                self._add(sink, protecting[0].column)
            self._lists.update({id(column): protecting[0].column for column in columns if protecting})

    def _add(self, sink: SinkNode, column: ProtectedColumn) -> None:
        for number in sink.numbers:
            self._numbers.setdefault(number, column)
        for value in _values(sink):
            if value:
                self._values.setdefault(value, column)

    def _of_sink(self, sink: SinkNode) -> ProtectedColumn | None:
        by_number = next((self._numbers[n] for n in sink.numbers if n in self._numbers), None)
        if by_number is not None or sink.kind == "param":
            return by_number
        found = next((self._values[v] for v in _values(sink) if v in self._values), None)
        self._meaning.by_value = self._meaning.by_value or found is not None
        return found

    def of_comparison(self, comparison: Comparison) -> ProtectedColumn | None:
        """Return the column that one of the compared values meets elsewhere."""
        return next((found for made in comparison.terms if (found := self._of_term(made)) is not None), None)

    def _of_term(self, made: Term) -> ProtectedColumn | None:
        for leaf in made.leaves:
            found = None
            if leaf.sink is not None:
                found = self._of_sink(leaf.sink)
            elif leaf.nullif is not None:
                found = self._of_term(leaf.nullif[0]) or self._of_term(leaf.nullif[1])
            elif isinstance(leaf.value, ListColumn):
                found = self._lists.get(id(leaf.value))
            if found is not None:
                return found
        return None

    def reach_lists(self) -> bool:
        """Protect lists that hold a protected value and are used nowhere else; False when there was none."""
        for columns in self._sets:
            if _protecting(columns) or None in _users(columns):
                continue
            found = next((c for sink in _sinks(columns) if (c := self._of_sink(sink)) is not None), None)
            if found is not None:
                columns[0].users.append(Kept(found))
                return True
        return False


def _values(sink: SinkNode) -> frozenset[bytes]:
    try:
        return sink.values
    except ValueRefused:
        return frozenset()


def _united(lists: Iterable[ListColumn]) -> Iterator[list[ListColumn]]:
    """Yield the columns that UNION ALL makes one, directly or through others."""
    sets: dict[int, list[ListColumn]] = {}
    for column in lists:
        together = sets.setdefault(id(column), [column])
        for part in column.parts:
            other = sets.setdefault(id(part), [part])
            if other is not together:
                together.extend(other)
                sets.update({id(c): together for c in other})
    yield from {id(together): together for together in sets.values()}.values()


def _users(columns: list[ListColumn]) -> list[User]:
    return [user for column in columns for user in column.users]


def _protecting(columns: list[ListColumn]) -> list[Protecting]:
    return [user for user in _users(columns) if isinstance(user, Protecting)]


def _settle(a: Analysis, columns: list[ListColumn], order: list[float]) -> None:
    protecting = _protecting(columns)
    if not protecting:
        for sink in _sinks(columns):
            a.use(sink, PLAIN)
        order += range(len(order), len(a.uses))
        return
    position = next((a.at(sink.offset) for sink in _sinks(columns)), a.at(a.meaning.start))
    _check_agreed(_users(columns), protecting, position)
    types = _types(columns)
    searched = [user for user in protecting if isinstance(user, Searched)]
    by_tags = len(searched) == len(_users(columns)) and len({user.slot.number for user in searched}) == 1
    stored, limit = _stored(protecting, position)
    for column in columns:
        column.became = protecting[0].column
        # what a cast to varchar(n) leaves of a text that is stored is said by its limit
        cuts = [c for c in column.casts if cut_by(only(c)[1]) is not None] if limit is not None and stored.type.is_text else []
        a.stripped.extend(cuts)
        a.strip([c for c in column.casts if c not in cuts], protecting[0].column)
        a.recast.extend(column.recasts)
        together = column.group.references == 1 and len(column.group.places) == 1
        cast_to_own = len(columns) == 1 and _is_cast_to_own_type(column, stored)
        for entry, row in zip(column.entries, column.rows, strict=True):
            if entry is None:
                raise StatementRefused(
                    f"the server would compute a value for {protecting[0].column.label}, which is protected",
                    hint="Give text parameters, text literals or NULL in VALUES.",
                    position=position,
                )
            oid = 0 if entry.array else OWN if cast_to_own else types[id(column)]
            if by_tags:
                a.use(entry, Search(searched[0].column, searched[0].slot, searched[0].column.type, entry.array), oid)
            else:
                a.use(entry, Store(stored, row if together else a.new_row(), entry.array, limit), oid)
        order += [column.seen - 0.5] * (len(a.uses) - len(order))
    if not by_tags:
        for user in searched:
            a.tag(user.node, user.slot, user.output, user.width)


def _is_cast_to_own_type(column: ListColumn, stored: ProtectedColumn) -> bool:
    """Tell whether values that have no type become what they are stored as by a cast of all: then they are read as that.

    Not of texts, which a cast cuts, and a place does not.
    """
    textual = stored.type.is_text or stored.type.family == "bpchar"
    return bool(column.casts) and not textual and not any(sink.types or sink.formula for sink in _sinks([column]))


def _types(columns: list[ListColumn]) -> dict[int, int]:
    """Return what type each column's values without a cast are given by what first stands below or above them."""
    kept = next((user.type_oid for user in _users(columns) if isinstance(user, Kept) and user.type_oid), TEXT_OID)
    found: dict[int, int] = {}

    def resolve(column: ListColumn) -> int:
        """Return the type of a column, 0 while nothing is known of it."""
        own = [resolve(part) for part in column.parts] or [_cast_type(column)]
        known = [oid for oid in own if oid]
        shared = _shared(known)
        if column.parts or len(column.entries) > 1:
            shared = shared or TEXT_OID  # unknown to the end is text, in VALUES and in UNION alike
        for leaf in column.leaves():
            found[id(leaf)] = found.get(id(leaf), 0) or shared
        return shared

    inner = {id(part) for column in columns for part in column.parts}
    for column in columns:
        if id(column) not in inner:
            resolve(column)
    return {id(column): found.get(id(column), 0) or kept for column in columns}


def _shared(known: Sequence[int]) -> int:
    """Return the type of what stands one below the other (manual 10.5), 0 where nothing is known; DatatypeMismatch."""
    types = [declared for oid in known if (declared := by_oid(oid)) is not None]
    if len(types) < len(known):
        return known[0] if len(set(known)) == 1 else TEXT_OID
    return common_type(types).oid if types else 0


def _cast_type(column: ListColumn) -> int:
    return next((oid for sink in _sinks([column]) if (oid := sink.value_oid)), 0)


def type_of(column: ListColumn) -> int:
    """Return the type of a whole column (manual 10.5): the first of its values, as text and varchar become each other."""
    own = (type_of(part) if part.parts or part.of_values else _cast_type(part) for part in column.parts)
    return next((oid for oid in own if oid), _cast_type(column) or TEXT_OID)


def _stored(protecting: list[Protecting], position: int) -> tuple[ProtectedColumn, int | None]:
    """Return the column as which the values are sealed, whose length applies where they are stored, and what casts leave."""
    stored = [user for user in protecting if isinstance(user, Stored)]
    if not stored:
        return protecting[0].column.unbounded, None
    if {getattr(user, "limit", None) for user in protecting} != {stored[0].limit}:
        raise StatementRefused(
            f"a column of given values is stored in {stored[0].column.label} and used in another length",
            hint="Give it as two columns of VALUES.",
            position=position,
        )
    return stored[0].column, stored[0].limit


def _sinks(columns: Iterable[ListColumn]) -> list[SinkNode]:
    return [sink for column in columns for sink in column.entries if sink is not None]


def _check_agreed(users: list[User], protecting: list[Protecting], position: int) -> None:
    label = protecting[0].column.label
    if None in users:
        raise StatementRefused(
            f"a column of given values meets {label}, which is protected, and is used unprotected elsewhere",
            hint="Give it as two columns of VALUES.",
            position=position,
        )
    for other in protecting:
        if other.column.identity != protecting[0].column.identity:
            raise StatementRefused(
                f"a column of given values meets {label} and {other.column.label}, which have different identities",
                hint="Give it as two columns of VALUES.",
                position=position,
            )
