"""Columns of given values: what becomes of the entries of VALUES, and of parameters and literals listed by a SELECT in FROM.

Whoever uses such a column decides for all its entries; two who disagree are a refusal. What UNION ALL puts one below the other is
one column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from phiproxy.errors import StatementRefused
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.meaning import PLAIN, Search, Store
from phiproxy.sql.scope import Compared, ListColumn, Stored
from phiproxy.sql.sinks import TEXT_OID, SinkNode


def settle_lists(a: Analysis) -> None:
    """Decide the use of every entry."""
    for columns in _united(a.lists):
        _settle(a, columns)


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


def _settle(a: Analysis, columns: list[ListColumn]) -> None:
    users = [user for column in columns for user in column.users]
    protected = [user for user in users if user is not None]
    if not protected:
        for sink in _sinks(columns):
            a.use(sink, PLAIN)
        return
    owner = next((user for user in protected if isinstance(user, Stored)), protected[0])
    position = next((a.at(sink.offset) for sink in _sinks(columns)), a.at(a.meaning.start))
    _check_agreed(users, owner, position)
    for user in protected:
        if isinstance(user, Compared):
            a.stripped.extend(user.casts)
            if isinstance(owner, Stored):
                a.tagged.append((user.node, user.slot.number))
    casts = {sink.type_oid for sink in _sinks(columns) if sink.type_oid and not sink.array}
    # One type for the whole column (manual 10.5): what the casts say, text before varchar.
    type_oid = TEXT_OID if len(casts) != 1 else casts.pop()
    for column in columns:
        a.stripped.extend(column.casts)
        a.recast.extend(column.recasts)
        together = column.group.references == 1 and len(column.group.places) == 1
        for entry, row in zip(column.entries, column.rows, strict=True):
            if entry is None:
                raise StatementRefused(
                    f"the server would compute a value for {owner.column.label}, which is protected",
                    hint="Give text parameters, text literals or NULL in VALUES.",
                    position=position,
                )
            own_type = 0 if entry.array else type_oid
            if isinstance(owner, Stored):
                a.use(entry, Store(owner.column, row if together else a.new_row(), entry.array, owner.limit), own_type)
            else:
                a.use(entry, Search(owner.column, owner.slot, entry.array), own_type)


def _sinks(columns: list[ListColumn]) -> list[SinkNode]:
    return [sink for column in columns for sink in column.entries if sink is not None]


def _check_agreed(users: list[Stored | Compared | None], owner: Stored | Compared, position: int) -> None:
    """Refuse given values that are used in the open too, or as those of two columns that are not one logical column."""
    what = f"a column of given values is {'stored in' if isinstance(owner, Stored) else 'compared with'} {owner.column.label}"
    hint = "Give it as two columns of VALUES."
    if any(user is None for user in users):
        raise StatementRefused(f"{what} and used elsewhere too", hint=hint, position=position)
    for other in (user for user in users if user is not None):
        if other.column.identity != owner.column.identity:
            raise StatementRefused(
                f"{what} and meets {other.column.label}, which has another identity", hint=hint, position=position
            )
        if isinstance(owner, Stored) and owner.limit != getattr(other, "limit", None):
            raise StatementRefused(f"{what} and used in another length", hint=hint, position=position)
        if isinstance(owner, Compared) and isinstance(other, Compared) and other.slot.number != owner.slot.number:
            raise StatementRefused(f"{what} by two of its indexes", hint=hint, position=position)
