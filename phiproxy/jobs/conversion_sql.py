"""The statements by which a table is encrypted: beside its plain columns first, and in their place then. All run as its owner."""

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from phiproxy.jobs.conversion import TRIGGERS, ConvertedColumn, ConvertedTable
from phiproxy.jobs.converted_indexes import UNIQUE, ConvertedIndex, beside_name
from phiproxy.jobs.dependents import spelled
from phiproxy.jobs.index_settings import in_tablespace, set_targets
from phiproxy.jobs.kept_not_null import dropped, made_again
from phiproxy.jobs.relations import Part, TableName
from phiproxy.policy.column_order import comment_on_guard
from phiproxy.policy.identifiers import literal, quote_ident, shorten
from phiproxy.policy.physical_columns import hidden_name, replaced_name
from phiproxy.policy.plaintext_guards import guard, guard_name

Q = quote_ident


def _name(prefix: str, *parts: object) -> str:
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
    return shorten(f"{prefix}{'_'.join(map(str, parts))}", digest)


def shadow_guard(column: ConvertedColumn) -> str:
    """Return the name of the guard of a shadow: another one than that of a sealed column, by which proxies know one."""
    return _name("phi_shadow_", column.column.name)


def function_name(table: ConvertedTable) -> str:
    """Return the qualified name of the trigger's function."""
    return f"{Q(table.name[0])}.{Q(_name('phi_stale_', *table.name))}"


def todo_name(part: Part) -> str:
    """Return the name of the index of a relation's rows that are still to be sealed."""
    return _name("phi_todo_", *part.name)


def wanted(columns: tuple[ConvertedColumn, ...], row: str = "t.") -> str:
    """Return the condition that a row has a value that is not sealed yet, or a sealed one that is no longer there."""
    return " OR ".join(f"(({row}{Q(c.column.name)}) IS NULL) <> (({row}{Q(c.shadow)}) IS NULL)" for c in columns)


def prepare(table: ConvertedTable, there: frozenset[str]) -> Iterator[str]:
    """Yield what adds the shadows (those that are not ``there``) and the trigger that empties them. Nothing is rewritten."""
    name = spelled(table.name)
    for column in table.columns:
        for child in reversed(column.local if column.shadow not in there else ()):
            shadow_type = column.plain_type if table.opening else column.sealed_type
            yield f"ALTER TABLE {child.label} ADD COLUMN IF NOT EXISTS {Q(column.shadow)} {shadow_type}"
        if column.shadow not in there and table.opening:
            yield f"ALTER TABLE {name} ADD COLUMN {Q(column.shadow)} {column.plain_type}"
        elif column.shadow not in there:
            shadow = column.column.named(column.shadow)
            yield f"ALTER TABLE {name} ADD COLUMN {Q(column.shadow)} {column.sealed_type}"
            if shadow.document is None:
                yield f"ALTER TABLE {name} ALTER COLUMN {Q(column.shadow)} SET STORAGE EXTERNAL"
            yield f"ALTER TABLE {name} ADD CONSTRAINT {Q(shadow_guard(column))} {guard(shadow)} NOT VALID"
    yield f"CREATE OR REPLACE FUNCTION {function_name(table)}() RETURNS trigger LANGUAGE plpgsql AS {_body(table)}"
    # A partitioned table hands it down; children by inheritance do not have it from their parent.
    for relation in [table.name] if table.partitioned else [part.name for part in table.family]:
        on, run = spelled(relation), f"EXECUTE FUNCTION {function_name(table)}()"
        yield from _without_triggers(relation)
        for name, event, when in zip(TRIGGERS, ("INSERT", "UPDATE"), _conditions(table), strict=True):
            yield f"CREATE TRIGGER {Q(name)} BEFORE {event} ON {on} FOR EACH ROW {when}{run}"
    for part in table.family:
        for name in TRIGGERS:  # also where a subscription, or a restore, writes
            yield f"ALTER TABLE {spelled(part.name)} ENABLE ALWAYS TRIGGER {Q(name)}"


def _without_triggers(relation: TableName) -> Iterator[str]:
    for name in TRIGGERS:
        yield f"DROP TRIGGER IF EXISTS {Q(name)} ON {spelled(relation)}"


def _conditions(table: ConvertedTable) -> tuple[str, str]:
    """Return when the triggers of INSERT and UPDATE call their function: that takes many times as long as to find out that not.

    It is so for every row that the job fills, and for the application's writes that leave the columns as they are.
    """
    inserted = f"WHEN ({' OR '.join(f'NEW.{Q(c.shadow)} IS NOT NULL' for c in table.columns)}) "
    # Whose a row is may take a subquery to say, which no condition may be.
    return inserted, "" if table.tenant_by is not None else f"WHEN ({' OR '.join(map(_differs, table.columns))}) "


_BY_BYTES: Final = ("text", "character varying", "bytea")
"""Types whose values are equal where their bytes are: that is quicker to compare than records."""


def _differs(column: ConvertedColumn) -> str:
    """Return the condition that a value has become another one, be it only in its bytes."""
    name = Q(column.column.name)
    if column.physical.type_name.partition("(")[0] in _BY_BYTES:
        return f"NEW.{name} IS DISTINCT FROM OLD.{name}"
    return f"ROW(NEW.{name})::record OPERATOR(pg_catalog.*<>) ROW(OLD.{name})::record"


def _body(table: ConvertedTable) -> str:
    """Return the function's body: a value that changes without its sealed one empties that, whoever writes.

    Compared are the bytes of values, so that ``1.0`` is another one than ``1.00``.
    """
    inserted = " ".join(f"NEW.{Q(c.shadow)} := NULL;" for c in table.columns)
    changed = " ".join(
        f"IF {_differs(c)} THEN NEW.{Q(c.shadow)} := NULL; END IF;" for c in table.columns
    )
    if table.tenant_by is not None:  # whose a row is decides by which keys it is sealed
        new, old = (f"(SELECT ({table.tenant_by})::text FROM (SELECT {row}.*) AS t)" for row in ("NEW", "OLD"))
        changed += f" IF {new} IS DISTINCT FROM {old} THEN {inserted} END IF;"
    body = f"BEGIN IF TG_OP = 'INSERT' THEN {inserted} ELSE {changed} END IF; RETURN NEW; END"
    quote = "$phi$"
    while quote in body:
        quote = quote[:-1] + "_$"
    return f"{quote}{body}{quote}"


def todo_index(table: ConvertedTable, part: Part) -> str:
    """Return what makes the rows that are still to be sealed quick to find."""
    keys = ", ".join(f"({key.expression})" for key in part.key)
    return f"CREATE INDEX CONCURRENTLY {Q(todo_name(part))} ON {spelled(part.name)} ({keys}) WHERE {wanted(table.columns, '')}"


def validate(table: ConvertedTable) -> Iterator[str]:
    """Yield what has the server look at the guards of all rows; nobody is kept out meanwhile."""
    for column in () if table.opening else table.columns:
        yield f"ALTER TABLE {spelled(table.name)} VALIDATE CONSTRAINT {Q(shadow_guard(column))}"


def switch(table: ConvertedTable, *, keep: bool) -> Iterator[str]:
    """Yield what puts the converted columns in place of the others: in one transaction, under a lock, with all rows filled."""
    for relation in [table.name] if table.partitioned else [part.name for part in table.family]:
        yield from _without_triggers(relation)
    yield f"DROP FUNCTION {function_name(table)}()"
    for part in table.parts:
        yield f"DROP INDEX IF EXISTS {Q(part.name[0])}.{Q(todo_name(part))}"
    for part in table.family:
        for index in table.indexes[part.name]:
            yield from _drop(part, index)
    for column in table.columns:
        yield from _switch_column(table, column, keep=keep)
    yield from _indexes(table)
    for part in table.family:
        order, own = table.orders[part.name], {c.column.name for c in table.columns}
        guards = set(table.guards[part.name])
        for guarded in sorted((guards - own if table.opening else guards | own) & set(order)):
            yield comment_on_guard(spelled(part.name), guarded, order, table.collations.get(guarded, ""))


def _switch_column(table: ConvertedTable, column: ConvertedColumn, *, keep: bool) -> Iterator[str]:
    name, plain, old = spelled(table.name), Q(column.column.name), Q(replaced_name(column.column.name))
    for generated in column.generated:
        yield f"ALTER TABLE {name} DROP COLUMN {Q(generated)}"
    yield f"ALTER TABLE {name} RENAME COLUMN {plain} TO {old}"
    yield f"ALTER TABLE {name} RENAME COLUMN {Q(column.shadow)} TO {plain}"
    if column.source is not None:  # which has a guard, of other fields
        yield f"ALTER TABLE {name} DROP CONSTRAINT {Q(guard_name(column.column.name))}"
    if not table.opening:
        yield f"ALTER TABLE {name} RENAME CONSTRAINT {Q(shadow_guard(column))} TO {Q(guard_name(column.column.name))}"
    yield from column.same
    if keep:
        yield from dropped(column.not_null, replaced_name(column.column.name))
    else:
        yield f"ALTER TABLE {name} DROP COLUMN {old}"
        yield from (f"ALTER TABLE {child.label} DROP COLUMN {old}" for child in column.local)
    yield from made_again(column.not_null)


def _drop(part: Part, index: ConvertedIndex) -> Iterator[str]:
    """Yield what drops an index that another one replaces; what is attached to one of the whole table goes with that."""
    old = index.replaces
    if old is None or old.parent is not None:
        return
    if old.constraint:
        yield f"ALTER TABLE {spelled(part.name)} DROP CONSTRAINT {Q(old.name)}"
    else:
        yield f"DROP INDEX {Q(part.name[0])}.{Q(old.name)}"


def _indexes(table: ConvertedTable) -> Iterator[str]:
    """Yield what gives indexes that were built beside their names; of a partitioned table, what makes them those of the whole.

    On the way back a UNIQUE constraint of a partitioned table is made now: of an index that is there it cannot be made.
    """
    of_whole = [(part, index) for part in table.family if not part.stores for index in table.indexes[part.name]]
    constraints = {index.name for _, index in of_whole if table.opening and _unique(index) is not None}
    for part, index in of_whole:
        add = f"ALTER TABLE ONLY {spelled(part.name)} ADD CONSTRAINT {Q(index.name)} {_unique(index)}"
        yield from in_tablespace(index.tablespace, local=True)
        yield add if index.name in constraints else index.definition
        yield "SET LOCAL default_tablespace TO DEFAULT"
    for part in table.family:
        for index in table.indexes[part.name]:
            restored = index.name in constraints or index.parent in constraints
            if part.stores and index.replaces is not None:
                yield f"ALTER INDEX {Q(part.name[0])}.{Q(beside_name(part, index))} RENAME TO {Q(index.name)}"
            if part.stores and restored:
                yield f"ALTER TABLE {spelled(part.name)} ADD CONSTRAINT {Q(index.name)} UNIQUE USING INDEX {Q(index.name)}"
            yield from _rest(part, index, restored=restored)
    for part in table.family:
        for index in table.indexes[part.name]:
            if index.parent is not None:
                above = next(whole for whole, i in of_whole if i.name == index.parent and whole.name != part.name)
                whole, own = (f"{Q(p.name[0])}.{Q(name)}" for p, name in ((above, index.parent), (part, index.name)))
                yield f"ALTER INDEX {whole} ATTACH PARTITION {own}"


def _rest(part: Part, index: ConvertedIndex, *, restored: bool) -> Iterator[str]:
    """Yield what gives an index, or the constraint that it is again, its comment, and the table its order."""
    comment = index.comment if not restored else (index.comment or "").partition("; ")[2]
    if comment and restored:
        yield f"COMMENT ON CONSTRAINT {Q(index.name)} ON {spelled(part.name)} IS {literal(comment)}"
    elif comment:
        yield f"COMMENT ON INDEX {Q(part.name[0])}.{Q(index.name)} IS {literal(comment)}"
    yield from set_targets(spelled((part.name[0], index.name)), index.targets)
    if index.replaces is not None and index.replaces.clustered:
        yield f"ALTER TABLE {spelled(part.name)} CLUSTER ON {Q(index.name)}"


_PLAIN_KEYS: Final = re.compile(
    r" USING btree \((.*?)\)(?P<include> INCLUDE \([^()]*\))?(?P<nulls> NULLS NOT DISTINCT)?(?P<settings> WITH \([^()]*\))?\Z"
)
_KEY: Final = re.compile(r'\(*((?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+"))\)*')


def _unique(index: ConvertedIndex) -> str | None:
    """Return the UNIQUE constraint that an index stands for; None where it stands for none, or has more than columns.

    ``CREATE UNIQUE INDEX … USING btree (id, (ssn)) INCLUDE (n)`` becomes ``UNIQUE (id, ssn) INCLUDE (n)``.
    """
    match = _PLAIN_KEYS.search(index.definition)
    if match is None or not (index.comment or "").startswith(UNIQUE):
        return None
    keys = [_KEY.fullmatch(key) for key in match[1].split(", ")]
    include, nulls, settings = (match[name] or "" for name in ("include", "nulls", "settings"))
    return None if None in keys else f"UNIQUE{nulls} ({', '.join(key[1] for key in keys if key is not None)}){include}{settings}"


def take_back(table: ConvertedTable, there: frozenset[str]) -> Iterator[str]:
    """Yield what takes back all that was added, of a job that is given up."""
    for relation in [table.name] if table.partitioned else [part.name for part in table.family]:
        yield from _without_triggers(relation)
    yield f"DROP FUNCTION IF EXISTS {function_name(table)}()"
    for column in table.columns:
        for slot in column.column.slots if not table.opening else ():
            if hidden_name(column.column, slot.number) in there:
                yield f"ALTER TABLE {spelled(table.name)} DROP COLUMN {Q(hidden_name(column.column, slot.number))} CASCADE"
        if column.shadow in there:
            yield f"ALTER TABLE {spelled(table.name)} DROP COLUMN {Q(column.shadow)}"
            yield from (f"ALTER TABLE {child.label} DROP COLUMN IF EXISTS {Q(column.shadow)}" for child in column.local)
