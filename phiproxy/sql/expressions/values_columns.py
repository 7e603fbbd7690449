"""Columns of given values, of VALUES or of a SELECT in FROM: what becomes of their entries.

Whatever uses such a column decides for all its entries; two different uses are refused. Columns that UNION ALL joins are one
column. Comparisons of given values with each other are decided here too: by tags where one of the values is protected elsewhere.
"""

from collections.abc import Iterable, Iterator

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql.context import Analysis, Deferred
from phiproxy.sql.resolve.protected_values import Combined, Entry, ListColumn, Searched, Stored, User, conversions
from phiproxy.sql.values.accepted_types import OWN
from phiproxy.sql.values.operands import Operand
from phiproxy.sql.values.type_resolution import TEXT
from phiproxy.sql.values.uses import PLAIN, Search, Store, Use
from phiproxy.types.names import sql_name

Protecting = Stored | Searched | Combined


def settle(a: Analysis) -> None:
    """Decide the use of every entry of such a column, and of values that are compared only with given values.

    SELECT p.id FROM patients p JOIN (VALUES ('1'), ($1)) AS v (s) ON p.ssn = v.s
    → SELECT p.id FROM patients p JOIN (VALUES (tag('1')), (tag($1))) AS v (s) ON tag(p.ssn) = v.s

    SELECT v.s FROM patients p JOIN (VALUES ('1'), ($1)) AS v (s) ON p.ssn = v.s
    → SELECT v.s FROM patients p JOIN (VALUES (envelope('1')), (envelope($1))) AS v (s) ON tag(p.ssn) = tag(v.s)
    """
    if not a.lists and not a.comparisons:
        return
    _spread(a)
    for comparison in a.comparisons:
        comparison.as_plain(a)
    order = [float(i) for i in range(len(a.uses))]
    for columns in _united(a.lists):
        _settle(a, columns, order)
    # Each where PostgreSQL saw it, before what was recorded since.
    a.uses = [a.uses[i] for i in sorted(range(len(a.uses)), key=order.__getitem__)]


def _spread(a: Analysis) -> None:
    """Protect values and columns that meet a protected value elsewhere, until nothing more follows."""
    while True:
        taint = _Taint(a)
        columns = [(comparison, taint.of_comparison(comparison)) for comparison in a.comparisons]
        a.comparisons = [comparison for comparison, column in columns if column is None]
        for comparison, column in columns:
            if column is not None:
                comparison.as_tags(a, column)
        if len(a.comparisons) == len(columns) and not taint.protect_lists():
            return


class _Taint:
    """What meets a protected column so far: parameters by number, literals by value, and columns of given values."""

    def __init__(self, a: Analysis) -> None:
        self._numbers: dict[int, ProtectedColumn] = {}
        self._values: dict[bytes, ProtectedColumn] = {}
        self._lists: dict[int, ProtectedColumn] = {}
        self._answer = a.answer
        self._sets = list(_united(a.lists))
        for decided in a.uses:
            if isinstance(decided.use, Store | Search):
                self._add(decided.operand, decided.use.column)
        for columns in self._sets:
            protecting = _protecting(columns)
            for operand in _operands(columns) if protecting else ():
                self._add(operand, protecting[0].column)
            self._lists.update({id(column): protecting[0].column for column in columns if protecting})

    def _add(self, operand: Operand, column: ProtectedColumn) -> None:
        for number in operand.numbers:
            self._numbers.setdefault(number, column)
        for value in _values(operand):
            if value:
                self._values.setdefault(value, column)

    def _of_operand(self, operand: Operand) -> ProtectedColumn | None:
        by_number = next((self._numbers[n] for n in operand.numbers if n in self._numbers), None)
        if by_number is not None or operand.kind == "param":
            return by_number
        by_value = next((self._values[v] for v in _values(operand) if v in self._values), None)
        self._answer.by_value = self._answer.by_value or by_value is not None
        return by_value

    def of_comparison(self, comparison: Deferred) -> ProtectedColumn | None:
        """Return the protected column that one of the compared values meets elsewhere."""
        for operand in comparison.operands():
            column = self._lists.get(id(operand)) if isinstance(operand, ListColumn) else self._of_operand(operand)
            if column is not None:
                return column
        return None

    def protect_lists(self) -> bool:
        """Protect a column that holds a protected value and is not used otherwise; False when there was none."""
        for columns in self._sets:
            if _protecting(columns) or None in _users(columns):
                continue
            met = next((c for operand in _operands(columns) if (c := self._of_operand(operand)) is not None), None)
            if met is not None:
                columns[0].users.append(Combined(met))
                return True
        return False


def _values(operand: Operand) -> frozenset[bytes]:
    try:
        return operand.values
    except ValueRefused:
        return frozenset()


def _united(lists: Iterable[ListColumn]) -> Iterator[list[ListColumn]]:
    """Yield the sets of columns that UNION ALL joins, directly or through others."""
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
        for operand in _operands(columns):
            a.use(operand, PLAIN)
        order += range(len(order), len(a.uses))
        return
    position = next((a.at(operand.offset) for operand in _operands(columns)), a.at(a.answer.start))
    _check_agreed(_users(columns), protecting, position)
    steps, last_type = _conversions(columns, position)
    searched = [user for user in protecting if isinstance(user, Searched)]
    by_tags = len(searched) == len(_users(columns)) and len({user.slot.number for user in searched}) == 1
    stored = next((user.column for user in protecting if isinstance(user, Stored)), protecting[0].column.unbounded)
    if searched and not by_tags:
        _check_stored_as_searched(stored, last_type, position)
    for column in columns:
        column.became = protecting[0].column
        a.drop_casts(column.casts)
        a.cast_to_tags(column.recasts, "bytea" if by_tags else stored.form)
        together = column.group.references == 1 and len(column.group.stored_by) == 1
        with a.together():  # all are looked at before one is given the type of the column
            for number, (entry, row) in enumerate(zip(column.entries, column.rows, strict=True)):
                if entry is None:
                    why = f"the server would compute a value for {protecting[0].column.label}, which is protected"
                    raise StatementRefused(why, hint="Give parameters, literals or NULL there.", position=position)
                if by_tags:
                    use: Use = Search(searched[0].column, searched[0].slot, searched[0].column.type, entry.array)
                else:
                    use = Store(stored, row if together else a.new_row(), entry.array)
                untyped = entry.array and not entry.types  # PostgreSQL gives the parameter of unnest($1) no type
                a.use(entry, use, 0 if untyped else OWN, () if untyped else steps[id(column), number])
        order += [column.seen - 0.5] * (len(a.uses) - len(order))
    if not by_tags:
        for user in searched:
            a.tag(user.node, user.slot, user.output, user.width)


def _conversions(columns: list[ListColumn], position: int) -> tuple[dict[Entry, tuple[DeclaredType, ...]], DeclaredType]:
    """Return what each value is converted to before its use, and the type of all by then; refused where two users see two types."""
    try:
        return _agreed(columns)
    except StatementRefused as refusal:
        refusal.position = refusal.position or position
        raise


def _agreed(columns: list[ListColumn]) -> tuple[dict[Entry, tuple[DeclaredType, ...]], DeclaredType]:
    ways: dict[Entry, tuple[DeclaredType, ...]] = {}
    types: list[DeclaredType] = []
    for column in columns:
        for user in column.users:
            steps, type_ = conversions(column, user.steps if isinstance(user, Protecting) else (), TEXT)
            if any(ways.setdefault(entry, way) != way for entry, way in steps.items()):
                raise StatementRefused(
                    "a column of given values is used as values of two types, or cut in one place and not in another, beside a "
                    "protected column",
                    hint="Give it as two columns, one for each use.",
                )
            types.append(type_)
    return ways, types[0]


def _check_stored_as_searched(stored: ProtectedColumn, given_type: DeclaredType, position: int) -> None:
    """Refuse values that are both stored and compared, where the comparison sees another value or compares otherwise."""
    own = stored.type.underlying
    same = given_type.underlying.family == own.family or (given_type.is_text and own.is_text)
    if not same or (own.typmod not in (-1, given_type.typmod) and own.family not in ("varchar", "bpchar")):
        why = f"given values of type {sql_name(given_type)} are compared with {stored.label} and stored as such"
        raise StatementRefused(why, hint=f"Give them as two columns, or cast them to {sql_name(own)}.", position=position)


def _operands(columns: Iterable[ListColumn]) -> list[Operand]:
    return [operand for column in columns for operand in column.entries if operand is not None]


def _check_agreed(users: list[User], protecting: list[Protecting], position: int) -> None:
    label = protecting[0].column.label
    if None in users:
        why = f"a column of given values meets {label}, which is protected, and is used unprotected elsewhere"
        raise StatementRefused(why, hint="Give it as two columns, one for each use.", position=position)
    for other in protecting:
        if other.column.identity != protecting[0].column.identity:
            why = f"a column of given values meets {label} and {other.column.label}, which have different identities"
            raise StatementRefused(why, hint="Give it as two columns, one for each use.", position=position)
