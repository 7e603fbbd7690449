"""``encrypt``: columns in plaintext become sealed ones while their tables are in use.

A hidden column is filled beside each; a trigger empties it whenever the plain value changes without it. When all is sealed and was
opened again and compared, the two change their places in one short transaction. Whatever interrupts this leaves the tables as they
are, in clear, and the job goes on from there.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import psycopg

from phiproxy.errors import ConfigError
from phiproxy.jobs.conversion import ConvertedColumn, ConvertedTable, How, Look, look
from phiproxy.jobs.conversion_sql import take_back, todo_index, todo_name, validate
from phiproxy.jobs.converted_indexes import beside_name, build_beside
from phiproxy.jobs.dependents import spelled
from phiproxy.jobs.filling import fill_scan, verify_scan
from phiproxy.jobs.kept_not_null import settle_not_null
from phiproxy.jobs.physical_definitions import physical_definitions
from phiproxy.jobs.relations import Connection, Part, family_of, rows_of
from phiproxy.jobs.restored_constraints import restore_keys
from phiproxy.jobs.row_sql import Scan, Work
from phiproxy.jobs.running import JobSite, Run
from phiproxy.jobs.schemes import Decode, decoder
from phiproxy.jobs.sealed_values import SealedValues, TenantValues
from phiproxy.jobs.short_locks import run_as, with_short_lock
from phiproxy.jobs.switching import LOCKING, MOST_LEFT, MOST_WAITED, SETTLE, Changed, prepare_table, switch_tables
from phiproxy.jobs.tenant_rows import Values, filling, verifying
from phiproxy.net.catalog_reader import read_catalog
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import ColumnState, column_states
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.model import Policy
from phiproxy.policy.protection import ColumnName, ProtectedColumn
from phiproxy.policy.registry_layout import Layout

FILL, VERIFY, VERIFY_AGAIN, SWITCH = "sealing", "comparing", "comparing again", "switching"
ATTEMPTS: Final = 10
CHANGES: Final = 3
"""How often a job looks at what hangs on columns."""


async def run(run: Run) -> None:
    """Encrypt the job's columns, from wherever it was broken off."""
    wanted = columns_asked_for(run)
    await run.lock_tables({name[:2] for name in wanted})
    await again_where_changed(partial(_convert, run))
    await settle(run, wanted)


async def _convert(run: Run) -> None:
    site, options = run.site, run.job.options
    layout, catalog, rest = await columns_in(run, "clear", "filling")
    if not rest:
        return
    seen = await look(
        run.conn,
        site.policy,
        layout,
        catalog,
        rest,
        site.schema,
        How(decoder_of(options), options.get("tenant_by"), EngineFacts.configured(site.settings.compute)),
    )
    if seen.obstacles:
        raise ConfigError("\n".join(seen.obstacles), hint=f"put these right; phiproxy jobs resume {run.job.id} goes on")
    values = values_of(site, layout)
    await fill(run, seen.tables, values)
    await _switch(run, seen, values, layout)


async def again_where_changed(convert: Callable[[], Awaitable[None]]) -> None:
    """Convert columns, and go on from there where something that hangs on them was changed; Changed where that is too often."""
    for left in reversed(range(CHANGES)):
        try:
            await convert()
        except Changed:
            if not left:
                raise
        else:
            return


def values_of(site: JobSite, layout: Layout) -> Values:
    """Return the keys of the rows of a database: of each tenant's, where the policy has tenants."""
    values = SealedValues(site, layout)
    return values.of_tenant("") if site.policy.tenant is None else values


def decoder_of(options: Mapping[str, Any]) -> Decode | None:
    """Return what decodes the values of the scheme that a job's options name, if they do; ConfigError."""
    scheme = options.get("scheme")
    return decoder(scheme, options.get("layout") or "", options.get("pattern") or "") if scheme else None


async def abort(run: Run) -> None:
    """Take back what was added beside columns that are still in clear. What is sealed stays sealed."""
    site = run.site
    layout, catalog, rest = await columns_in(run, "clear", "filling")
    if not rest:
        return
    await run.lock_tables({name[:2] for name in rest})
    imported = str if run.job.options.get("scheme") else None
    for table in (
        await look(
            run.conn,
            site.policy,
            layout,
            catalog,
            rest,
            site.schema,
            How(imported, run.job.options.get("tenant_by"), EngineFacts.configured(site.settings.compute)),
        )
    ).tables:
        there = columns_of(catalog, table)
        await short(run, table, "taking back what was added", take_back(table, there))


def columns_asked_for(run: Run) -> list[ColumnName]:
    """Return the columns that a job was started for."""
    return [(s, t, c) for s, t, c in run.job.options["columns"]]


async def columns_in(run: Run, *states: ColumnState) -> tuple[Layout, Catalog, list[ColumnName]]:
    """Read the layout and the catalogue afresh, and return them with those of the job's columns that are in one of these states."""
    policy = run.site.policy
    layout = await run.site.registry.layout()
    catalog = await read_tables(run.conn, policy)
    now = column_states(policy, layout, catalog)
    return layout, catalog, [name for name in columns_asked_for(run) if now[name] in states]


async def read_tables(conn: Connection, policy: Policy) -> Catalog:
    """Read the catalogue with all tables of a policy, and their partitions and children."""
    names = {(c.schema, c.table) for c in policy.columns()}
    families = {part.name[1] for name in sorted(names) for part in await family_of(conn, name)}
    return await read_catalog(conn, names, families | {name for _, name in names})


async def fill(run: Run, tables: tuple[ConvertedTable, ...], values: Values) -> None:
    """Fill the hidden columns of tables, build their indexes, and compare each value twice."""
    for table in tables:
        run.display.phase(f"preparing {table.label}", 0)
        catalog = await read_tables(run.conn, run.site.policy)
        await prepare_table(run, table, columns_of(catalog, table), attempts=attempts_of(run))
        await add_tags(run, table, columns_of(catalog, table))
    for table in tables:
        rows: list[tuple[Scan, Work]] = [(fill_scan(table, part), filling(table, values)) for part in table.parts]
        await run.go_through(f"{FILL} {table.label}", rows, enough=MOST_LEFT)
        await _build_indexes(run, table)
        for phase in (VERIFY, VERIFY_AGAIN):
            checks = [(verify_scan(table, part), verifying(table, values)) for part in table.parts]
            await run.go_through(f"{phase} {table.label}", checks, once=True)
            for _, work in checks:
                run.progress.add(differing=work.differing)
            await run.go_through(f"{FILL} {table.label} after {phase}", rows, enough=MOST_LEFT // 2)


async def add_tags(run: Run, table: ConvertedTable, there: frozenset[str]) -> None:
    """Add the generated columns of tags that are not ``there``: the server rewrites the table for them while everybody waits.

    ConfigError where that takes longer than statements may wait, unless it may.
    """
    statements = [text for name, text in table.tags.columns.items() if name not in there]
    if not statements:
        return
    if table.partitioned:  # nobody can build an index of the whole beside
        statements += table.tags.indexes.values()
    if not run.job.options.get("lock_tables"):
        statements.insert(0, f"SET LOCAL statement_timeout TO {MOST_WAITED * 1000}")
    run.display.phase(f"adding {', '.join(table.tags.columns)} to {table.label}", 0)
    try:
        await short(run, table, f"adding {', '.join(table.tags.columns)} to {table.label}", statements)
    except psycopg.errors.QueryCanceled:
        raise ConfigError(
            f"{table.label} needs {', '.join(table.tags.columns)}, for foreign keys or row-level security: adding generated columns"
            f" rewrites the table while everybody waits, and takes longer than {MOST_WAITED} s",
            hint=LOCKING.format(run.job.id),
        ) from None


async def _build_indexes(run: Run, table: ConvertedTable) -> None:
    """Build the tag indexes of the hidden columns, and have the guards looked at; nobody is kept out."""
    for part in table.parts:
        await _build(run, table, part, todo_name(part), todo_index(table, part))
        for index in table.indexes[part.name]:
            await _build(run, table, part, beside_name(part, index), build_beside(part, index), index.tablespace)
        if part.name == table.name:
            for name, text in table.tags.indexes.items():
                await _build(run, table, part, name, text.replace(" INDEX ", " INDEX CONCURRENTLY ", 1))
    for statement in validate(table):
        await run_as(run.conn, table.owner, statement)


_INDEX: Final = """
SELECT i.indisvalid FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s AND i.indrelid = %s::oid
"""


async def _build(run: Run, table: ConvertedTable, part: Part, name: str, text: str, tablespace: str | None = None) -> None:
    """Build an index unless it is there; one whose building was broken off is built anew."""
    there = await rows_of(run.conn, _INDEX, part.name[0], name, part.oid)
    if there and there[0][0]:
        return
    run.display.phase(f"building index {name}", 0)
    if there:
        await run_as(run.conn, table.owner, f"DROP INDEX CONCURRENTLY {spelled((part.name[0], name))}")
    await run_as(run.conn, table.owner, text, tablespace=tablespace)


async def _switch(run: Run, seen: Look, values: Values, layout: Layout) -> None:
    """Let the sealed columns take the place of the plain ones."""
    site = run.site
    run.display.phase(SWITCH, 0)
    numbers = {each.number for table in seen.tables for c in table.columns for each in _sealed_now(c)}
    waiting = [(n, s.number) for n in sorted(numbers) for s in layout.identities[n].slots if s.state in ("building", "ready")]
    keep = bool(run.job.options.get("keep"))
    constants = values if isinstance(values, TenantValues) else None  # with tenants no definition has any
    engine = EngineFacts.configured(site.settings.compute)
    converter = await physical_definitions(run.conn, site.policy, layout, site.schema, constants, engine=engine)
    await switch_tables(run, seen, converter, values, waiting, keep=keep, attempts=attempts_of(run))


def _sealed_now(column: ConvertedColumn) -> list[ProtectedColumn]:
    """Return the column and its fields, of a document with others sealed fields only those that are sealed now."""
    there = {field.path for field in column.source.with_fields} if column.source is not None else set()
    return [each for each in column.column.with_fields if each.path not in there]


def attempts_of(run: Run) -> int:
    """Return how often the job asks for a lock."""
    return int(run.job.options.get("attempts", ATTEMPTS))


async def settle(run: Run, wanted: list[ColumnName]) -> None:
    """Do what takes its time and keeps nobody out: rows are looked at for NOT NULL, and for constraints that were validated."""
    run.display.phase(SETTLE, 0)
    columns = {(part.name, column) for s, t, column in wanted for part in await family_of(run.conn, (s, t))}
    await settle_not_null(run.conn, columns, run.display.waits)
    if run.progress.phase == SETTLE:
        left = run.progress.cursor or ()
        for schema, name, constraint in zip(left[::3], left[1::3], left[2::3], strict=True):
            for (owner,) in await rows_of(run.conn, _NOT_VALID, schema, name, constraint):
                await run_as(
                    run.conn, owner, f"ALTER TABLE {spelled((schema, name))} VALIDATE CONSTRAINT {quote_ident(constraint)}"
                )
        for table in sorted({column[:2] for column in wanted}):
            root = next(part for part in await family_of(run.conn, table) if part.name == table)
            await run_as(run.conn, root.owner, f"ANALYZE {root.label}")  # of what is stored now nothing is known to the planner
    await restore_keys(run, {column[:2] for column in wanted})


_NOT_VALID: Final = """
SELECT pg_catalog.pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND k.conname = %s AND NOT k.convalidated
"""


async def short(run: Run, table: ConvertedTable, what: str, statements: Iterable[str]) -> None:
    """Run statements in one short transaction as a table's owner; ConfigError where the lock cannot be had."""
    work = partial(_execute, list(statements))
    await with_short_lock(run.conn, table.owner, what, work, attempts=attempts_of(run), told=run.display.waits)


async def _execute(statements: Iterable[str], conn: Connection) -> None:
    for statement in statements:
        await conn.execute(statement.encode())


def columns_of(catalog: Catalog, table: ConvertedTable) -> frozenset[str]:
    """Return the names of a table's columns."""
    return frozenset(c.name for c in catalog.by_name[table.name].columns)
