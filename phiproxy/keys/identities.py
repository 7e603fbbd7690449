"""Identities, column names and slots in the registry: who gets which number, for ever (spec/stored-format 4.1).

Called by ``lifecycle.init`` inside its transaction and under its lock; numbers are the lowest unused and never given twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import sql

from phiproxy.crypto.envelope import MAX_NUMBER, MAX_SLOTS
from phiproxy.errors import ConfigError
from phiproxy.index.characters import ASCII
from phiproxy.index.collations import needs_characters
from phiproxy.keys.authenticated_tables import Connection
from phiproxy.keys.layout_rows import read_layout
from phiproxy.keys.registry import record_event, select_root
from phiproxy.keys.registry_checked_on_read import Change
from phiproxy.keys.registry_schema import table
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.registry_layout import RegisteredIdentity, WantedIdentity, column_of
from phiproxy.wire.oids import BYTEA_OID

Name = tuple[str, str, str]


@dataclass(slots=True)
class Registered:
    """What ``register`` found and did: the wanted identities by their registry number.

    ``new`` are the columns that had no name before, ``renamed`` those that took over the name of one that is gone, by that.
    """

    wanted: dict[int, WantedIdentity] = field(default_factory=dict)
    scope_of: dict[int, str] = field(default_factory=dict)
    done: list[tuple[str, str]] = field(default_factory=list)
    new: list[Name] = field(default_factory=list)
    renamed: dict[Name, Name] = field(default_factory=dict)

    @property
    def scopes(self) -> list[str]:
        """The scopes in use, each once."""
        return list(dict.fromkeys(self.scope_of.values()))


def label(name: Name) -> str:
    """Return schema.table.column, quoted where PostgreSQL would: also the default ``id`` of a column."""
    return ".".join(quote_ident(part) for part in name)


async def register(change: Change, wanted: Sequence[WantedIdentity]) -> Registered:
    """Give numbers to new identities and names to columns. ConfigError where policy and registry contradict each other."""
    conn, schema = change.conn, change.schema
    layout = await read_layout(conn, schema)
    identities, columns = dict(layout.identities), dict(layout.columns)
    existing = await column_types(conn, {*columns, *(c for w in wanted for c in w.columns)})
    result = Registered()
    for want in wanted:
        registered = _find(want, identities, columns)
        if registered is None:
            number = _lowest_unused(identities, 1, MAX_NUMBER, "identities")
            registered = RegisteredIdentity(number, want.identity, want.scope, want.type_name, ())
            query = sql.SQL("INSERT INTO {} (number, identity, scope, type) VALUES (%s, %s, %s, %s)")
            values = (str(number), registered.identity, registered.scope, registered.type_name)
            await conn.execute(query.format(table(schema, "identity")), values)
            change.added("identity", number, fields=values[1:])
            await record_event(conn, schema, "identity registered", registered.identity, (None, str(number)))
            result.done.append(("identity registered", f"{registered.identity} as number {number}"))
            identities[number] = registered
        elif registered.type_name != want.type_name:
            raise ConfigError(
                f"{registered.identity} is registered with type {registered.type_name}, the policy says {want.type_name}",
                hint="values are stored in the registered type; a new type needs a new column",
            )
        if registered.number in result.wanted:
            raise ConfigError(f"{registered.identity} stands twice in the policy")
        result.wanted[registered.number] = want
        result.scope_of[registered.number] = registered.scope
        for name in want.columns:
            if name not in columns:
                others = {c: n for c, n in columns.items() if c not in want.columns or (c in existing and name in existing)}
                gone = {c for c, n in others.items() if n == registered.number and registered.identity.startswith("c:")}
                result.done += await _add_name(change, name, registered, others, existing)
                result.renamed.update((old, name) for old in gone)
                result.new += [] if gone else [name]
                columns = {c: n for c, n in columns.items() if c in others or c in want.columns}
                columns[name] = registered.number
    return result


def _find(
    want: WantedIdentity, identities: Mapping[int, RegisteredIdentity], columns: Mapping[Name, int]
) -> RegisteredIdentity | None:
    """Return the registered identity that is meant, by the columns' names first and by its own name then."""
    by_identity = next((i for i in identities.values() if i.identity == want.identity), None)
    numbers = {columns[name] for name in want.columns if name in columns}
    for number in numbers:
        registered = identities[number]
        # A renamed column's default id has changed with its name; the registry followed the rename, and goes on.
        renamed = by_identity is None and want.identity == "c:" + label(want.columns[0])
        if registered is not by_identity and not (renamed and registered.identity.startswith("c:")):
            name = next(n for n in want.columns if columns.get(n) == number)
            raise ConfigError(
                f"column {label(name)} is registered as {registered.identity}, the policy makes it {want.identity}",
                hint="an identity is bound into every stored value: keep it with id: or domain:, or use a new column",
            )
        by_identity = registered
    return by_identity


async def _add_name(
    change: Change,
    name: Name,
    identity: RegisteredIdentity,
    columns: dict[Name, int],
    existing: Mapping[Name, int],
) -> list[tuple[str, str]]:
    """Register a column's name. A column of its own (``c:``) has one, and takes it over only from a name that is gone."""
    conn, schema = change.conn, change.schema
    if identity.identity.startswith("c:"):
        for old in [n for n, number in columns.items() if number == identity.number]:
            if old in existing:
                raise ConfigError(
                    f"{label(name)} asks for identity {identity.identity}, which belongs to the column {label(old)}",
                    hint="give the new column its own id:",
                )
            await change.before("column_name", *old)
            query = sql.SQL('DELETE FROM {} WHERE "schema" = %s AND "table" = %s AND "column" = %s')
            await conn.execute(query.format(table(schema, "column_name")), old)
            change.deleted("column_name", *old)
            await record_event(conn, schema, "column renamed", identity.identity, (label(old), label(name)))
            del columns[old]
    query = sql.SQL('INSERT INTO {} ("schema", "table", "column", number) VALUES (%s, %s, %s, %s)')
    await conn.execute(query.format(table(schema, "column_name")), (*name, identity.number))
    change.added("column_name", *name, fields=(str(identity.number),))
    await record_event(conn, schema, "column named", identity.identity, (None, label(name)))
    return [("column named", f"{label(name)} is {identity.identity}")]


async def add_slots(change: Change, registered: Registered) -> list[tuple[str, str]]:
    """Give a slot to every wanted expression that has none. Active at once only where no value can be without its tag."""
    done: list[tuple[str, str]] = []
    conn, schema = change.conn, change.schema
    layout = await read_layout(conn, schema)
    missing: dict[int, list[str]] = {}
    for number, want in registered.wanted.items():
        have = {s.expression for s in layout.identities[number].slots if s.state != "dropped"}
        new = [e for e in dict.fromkeys(want.expressions) if e not in have]
        if new:
            missing[number] = new
    names = {n: [name for name, number in layout.columns.items() if number == n] for n in missing}
    empty = await _empty_columns(conn, {name for of_number in names.values() for name in of_number})
    for number, expressions in missing.items():
        used = {s.number for s in layout.identities[number].slots}
        state = "active" if all(name in empty for name in names[number]) else "building"
        characters = layout.collation.characters if layout.collation is not None else ASCII
        generation = await _index_generation(conn, schema, registered.scope_of[number])
        for expression in expressions:
            slot = _lowest_unused(used, 0, MAX_SLOTS - 1, "slots of one identity")
            used.add(slot)
            query = sql.SQL(
                "INSERT INTO {} (number, slot, expression, normaliser, family, generation, state)"
                " VALUES (%s, %s, %s, 1, %s, %s, %s)"
            )
            family = characters.family if needs_characters(expression, registered.wanted[number].indexed_as) else None
            await conn.execute(query.format(table(schema, "slot")), (number, slot, expression, family, generation, state))
            change.added("slot", number, slot, fields=(expression, "1", family, str(generation), state))
            subject = f"{expression} of {layout.identities[number].identity} in slot {slot}"
            await record_event(conn, schema, "slot made", subject, (None, state))
            done.append((f"slot made, {state}", subject))
    return done


async def _index_generation(conn: Connection, schema: str, scope: str) -> int:
    """Return the active index root's generation, which is that of the slots under it; ``init`` has just made sure of it."""
    root = await select_root(conn, schema, (scope, "", "index"))
    return 1 if root is None else root.generation


async def column_types(conn: Connection, names: Iterable[Name]) -> dict[Name, int]:
    """Return the type OID of those of the named columns that exist; of a field of a document that of the document."""
    fields = {name: column_of(name) for name in names}
    there = await _types(conn, sorted(set(fields.values())))
    return {name: there[column] for name, column in fields.items() if column in there}


async def _types(conn: Connection, names: list[Name]) -> dict[Name, int]:
    query = """
        SELECT n.nspname, c.relname, a.attname, a.atttypid
          FROM unnest(%s::text[], %s::text[], %s::text[]) AS w(s, t, c)
          JOIN pg_catalog.pg_namespace n ON n.nspname = w.s
          JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.t AND c.relkind IN ('r', 'p')
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = w.c AND a.attnum > 0 AND NOT
          a.attisdropped
    """
    parts = tuple([name[i] for name in names] for i in range(3))
    return {(s, t, c): oid for s, t, c, oid in await (await conn.execute(query, parts)).fetchall()}


async def locked_columns(conn: Connection, names: Iterable[Name]) -> dict[Name, int]:
    """Keep writers out of the columns' tables until the end of the transaction, and return their types; RLS hides none of them."""
    names = list(names)
    # With row_security off a query that RLS would hide rows from fails instead.
    await conn.execute("SET LOCAL row_security TO off")
    # In one order everywhere, so that two of us do not wait for each other.
    for place in sorted({name[:2] for name in await column_types(conn, names)}):
        await conn.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(*place)))
    return await column_types(conn, names)


async def _empty_columns(conn: Connection, names: set[Name]) -> set[Name]:
    """Return the columns that hold no value, under a lock that keeps writers out until the end of the transaction.

    A column that is not bytea yet, and so a document, holds values in plaintext if its table has any row; one that does not exist
    holds none.
    """
    existing = await locked_columns(conn, names)
    empty = set(names) - set(existing)
    for name, type_oid in existing.items():
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} OR {} IS NOT NULL)").format(
            sql.Identifier(*name[:2]), sql.Literal(type_oid != BYTEA_OID), sql.Identifier(column_of(name)[2])
        )
        row = await (await conn.execute(query)).fetchone()
        if row is not None and row[0] is False:
            empty.add(name)
    return empty


def _lowest_unused(used: Iterable[int], first: int, last: int, what: str) -> int:
    taken = set(used)
    number = next((n for n in range(first, last + 1) if n not in taken), None)
    if number is None:
        raise ConfigError(f"the registry has no number left for more {what}")
    return number
