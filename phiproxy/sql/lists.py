"""Columns of given values: what becomes of the entries of VALUES, and of parameters and literals listed by a SELECT in FROM.

Whoever uses such a column decides for all its entries; two who disagree are a refusal. What UNION ALL puts one below the other is
one column. Comparisons of given values with each other are decided here too: by tags where one is protected elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.given_types import Entry, conversions
from phiproxy.sql.leaves import Term
from phiproxy.sql.meaning import PLAIN, Search, Store, Use
from phiproxy.sql.operands import OWN
from phiproxy.sql.scope import Kept, ListColumn, Searched, Stored, User
from phiproxy.sql.sinks import SinkNode
from phiproxy.sql.terms import Comparison, as_plain, compare_tags
from phiproxy.sql.type_resolution import TEXT
from phiproxy.types.names import sql_name

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
                compare_tags(a, comparison, column)
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
    steps, found = _conversions(columns, position)
    searched = [user for user in protecting if isinstance(user, Searched)]
    by_tags = len(searched) == len(_users(columns)) and len({user.slot.number for user in searched}) == 1
    stored = next((user.column for user in protecting if isinstance(user, Stored)), protecting[0].column.unbounded)
    if searched and not by_tags:
        _check_stored_as_searched(stored, found, position)
    for column in columns:
        column.became = protecting[0].column
        a.stripped.extend(column.casts)
        a.recast.extend(column.recasts)
        together = column.group.references == 1 and len(column.group.places) == 1
        with a.together():  # all are looked at before one is given the type of the column
            for number, (entry, row) in enumerate(zip(column.entries, column.rows, strict=True)):
                if entry is None:
                    raise StatementRefused(
                        f"the server would compute a value for {protecting[0].column.label}, which is protected",
                        hint="Give text parameters, text literals or NULL in VALUES.",
                        position=position,
                    )
                if by_tags:
                    use: Use = Search(searched[0].column, searched[0].slot, searched[0].column.type, entry.array)
                else:
                    use = Store(stored, row if together else a.new_row(), entry.array)
                _use(a, entry, use, steps[id(column), number])
        order += [column.seen - 0.5] * (len(a.uses) - len(order))
    if not by_tags:
        for user in searched:
            a.tag(user.node, user.slot, user.output, user.width)


def _use(a: Analysis, entry: SinkNode, use: Use, steps: Sequence[DeclaredType]) -> None:
    """Record the use of an entry; of ``unnest($1)`` PostgreSQL does not know which is meant."""
    if entry.array and not entry.types:
        a.use(entry, use)
    else:
        a.use(entry, use, OWN, steps)


def _conversions(columns: list[ListColumn], position: int) -> tuple[dict[Entry, tuple[DeclaredType, ...]], DeclaredType]:
    """Return what each value becomes on its way to where it is used, and the type that all have by then.

    Raises StatementRefused where two users see them as values of different types.
    """
    try:
        return _agreed(columns)
    except StatementRefused as refusal:
        refusal.position = refusal.position or position
        raise


def _agreed(columns: list[ListColumn]) -> tuple[dict[Entry, tuple[DeclaredType, ...]], DeclaredType]:
    found: dict[Entry, tuple[DeclaredType, ...]] = {}
    types: list[DeclaredType] = []
    for column in columns:
        for user in column.users:
            steps, type_ = conversions(column, user.steps if isinstance(user, Protecting) else (), TEXT)
            if any(found.setdefault(entry, way) != way for entry, way in steps.items()):
                raise StatementRefused(
                    "a column of given values is used as values of two types, or cut in one place and not in another, beside a "
                    "protected column",
                    hint="Give it as two columns of VALUES.",
                )
            types.append(type_)
    return found, types[0]


def _check_stored_as_searched(stored: ProtectedColumn, found: DeclaredType, position: int) -> None:
    """Refuse values that are compared as what is stored of them, where that is another value or is compared in another way."""
    own = stored.type.underlying
    same = found.underlying.family == own.family or (found.is_text and own.is_text)
    if not same or (own.typmod not in (-1, found.typmod) and own.family not in ("varchar", "bpchar")):
        raise StatementRefused(
            f"given values of type {sql_name(found)} are compared with {stored.label} and stored as such",
            hint=f"Give them as two columns of VALUES, or cast them to {sql_name(own)}.",
            position=position,
        )


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
