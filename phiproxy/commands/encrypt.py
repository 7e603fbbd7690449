"""``phiproxy encrypt``: columns of the policy that are in clear are sealed, while their tables are in use."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from phiproxy.commands.command_context import Configuration, Connection, database, load, print_json
from phiproxy.commands.dry_run import DONE, OBSTACLES, print_told
from phiproxy.commands.jobs import job_site, report_end, start
from phiproxy.errors import ConfigError
from phiproxy.jobs.chosen_columns import wanted_columns
from phiproxy.jobs.conversion import How, Look, look, needs_of, who_else_holds
from phiproxy.jobs.dependents import spelled
from phiproxy.jobs.disk import Need, room_told
from phiproxy.jobs.encrypt import decoder_of, read_tables
from phiproxy.jobs.local_columns import local_children
from phiproxy.jobs.records import read_progress
from phiproxy.jobs.relations import TableName, family_of, may_act_as, rows_of
from phiproxy.jobs.sight import firing
from phiproxy.keys.clear_columns import allow_clear
from phiproxy.keys.layout_rows import read_layout
from phiproxy.keys.registry import Registry
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.model import Policy
from phiproxy.policy.physical_columns import replaced_name
from phiproxy.policy.protection import ColumnName
from phiproxy.policy.registry_layout import Layout


async def encrypt(
    config: Path, only: str | None, names: Sequence[str], options: Mapping[str, Any], *, dry_run: bool, rewrite: bool, as_json: bool
) -> int:
    """Encrypt the named tables and columns, or all that are in clear; ``dry_run`` only says what would be done.

    1 where something keeps it from being done.
    """
    configuration = load(config)
    policy = configuration.policy_of(only)
    async with database(configuration.settings, policy) as conn:
        layout = await read_layout(conn, configuration.settings.service.schema_)
        catalog = await read_tables(conn, policy)
        decode = decoder_of(options)
        if decode is not None and not names:
            raise ConfigError("--from goes with the columns that are of that scheme: name them")
        wanted = wanted_columns(policy, layout, catalog, names, imported=decode is not None)
        if not wanted:
            sys.stdout.write(f"nothing to do in {policy.database}: no column of the policy is in clear\n")
            return 0
        schema, engine = configuration.settings.service.schema_, EngineFacts.configured(configuration.settings.compute)
        seen = await look(conn, policy, layout, catalog, wanted, schema, How(decode, options.get("tenant_by"), engine))
        seen, needs = await with_room(conn, seen, configuration, options)
        if dry_run:
            print_look(wanted, seen, needs, await who_else_holds(conn), as_json=as_json)
            return 1 if seen.obstacles else 0
    refuse(seen)
    target = ", ".join(".".join(name) for name in wanted)
    async with job_site(configuration, policy) as site:
        await _let_be_clear(site.registry, layout, wanted)
        job = await start(site, "encrypt", target, {**options, "columns": [list(name) for name in wanted]}, as_json=as_json)
    report_end(job, as_json=as_json)
    await _told_at_end(configuration, policy, wanted, job.id, rewrite=rewrite, keep=bool(options.get("keep")), as_json=as_json)
    return 0


async def with_room(
    conn: Connection, seen: Look, configuration: Configuration, options: Mapping[str, Any]
) -> tuple[Look, list[Need]]:
    """Return what was seen with what room it takes, what of it is not there, and what would fire: before a job is begun."""
    needs = await needs_of(conn, seen)
    told, obstacles = await room_told(conn, needs, anyway=bool(options.get("disk_anyway")))
    if not options.get("fire_triggers"):
        parts = [part for table in seen.tables for part in table.parts]
        obstacles += await firing(conn, parts, configuration.settings.service.user)
    notes = (*seen.notes, *(need.text for need in needs), *told)
    return replace(seen, notes=notes, obstacles=(*seen.obstacles, *obstacles)), needs


def refuse(seen: Look) -> None:
    """ConfigError where something keeps a job from being done."""
    if seen.obstacles:
        raise ConfigError("\n".join(seen.obstacles), hint="nothing was changed; --dry-run shows what would be done")


def print_look(
    wanted: Sequence[ColumnName], seen: Look, needs: Sequence[Need], others: Sequence[str], *, as_json: bool
) -> None:
    """Print what would be done, what keeps it from being done, and what holds plaintext after it."""
    if as_json:
        columns, disk = [".".join(name) for name in wanted], [need.as_json() for need in needs]
        print_json(
            {"columns": columns, "done": seen.notes, "obstacles": seen.obstacles, "disk": disk, "plaintext": list(others)}
        )
        return
    print_told({DONE: seen.notes, OBSTACLES: seen.obstacles, "what holds plaintext after it": others})


async def _let_be_clear(registry: Registry, layout: Layout, wanted: Sequence[ColumnName]) -> None:
    """Let the columns be in clear while they are being sealed, those too that a registry of an older version knows."""
    missing = [name for name in wanted if name not in layout.clear]
    if missing:
        async with registry.changing() as change:
            await allow_clear(change, missing)


async def _told_at_end(
    configuration: Configuration,
    policy: Policy,
    wanted: Sequence[ColumnName],
    job: int,
    *,
    rewrite: bool,
    keep: bool,
    as_json: bool,
) -> None:
    """Remove the plain bytes from the tables where that was asked for, and say what else has them."""
    async with database(configuration.settings, policy) as conn:
        progress = await read_progress(conn, configuration.settings.service.schema_, job)
        commands = await rewriting(conn, {column[:2] for column in wanted}) if not keep else []
        left = await _rewritten(conn, commands) if rewrite else commands
        others = await who_else_holds(conn, statistics=any(STATISTICS in command for _, command in left) or keep)
    if as_json:
        held, to_run = progress.counts.get("held_ms", 0), [command for _, command in left]
        print_json({"held_ms": held, "rewritten": rewrite, "to_run": to_run, "plaintext": others})
        return
    sys.stdout.write(f"statements were held for {progress.counts.get('held_ms', 0)} ms\n")
    if keep:
        sys.stdout.write("the plain columns are kept, hidden from the proxy's clients: phiproxy encrypt --finish drops them\n")
    _told_of_bytes(left)
    sys.stdout.write("plaintext of before is also in:\n" + "".join(f"  {line}\n" for line in others))


STATISTICS: Final = "pg_catalog.pg_statistic, pg_catalog.pg_statistic_ext_data"
"""Where frequent values of a column are kept, and stay as dead rows when that is dropped."""


async def rewriting(conn: Connection, names: Iterable[TableName]) -> list[tuple[str, str]]:
    """Return what removes the plain bytes that were in tables, and who may do it: the owner of each, of the database."""
    commands = []
    for name in sorted(names):
        parts = [part for part in await family_of(conn, name) if part.stores]
        commands += [(part.owner, f"VACUUM (FULL, ANALYZE) {spelled(part.name)}") for part in parts]
    return [*commands, *((str(owner), f"VACUUM (FULL) {STATISTICS}") for (owner,) in await rows_of(conn, _OWNER))]


_OWNER: Final = "SELECT pg_catalog.pg_get_userbyid(datdba)::text FROM pg_catalog.pg_database WHERE datname = current_database()"


async def _rewritten(conn: Connection, commands: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Run commands as those that may; return what the service role may not have run. The server itself would only warn of it."""
    left = []
    for owner, command in commands:
        if not await may_act_as(conn, owner):
            left.append((owner, command))
            continue
        await conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
        await conn.execute(command.encode())
        await conn.execute("RESET ROLE")
    return left


def _told_of_bytes(commands: Iterable[tuple[str, str]]) -> None:
    """Say what is to be run, and as whom, so that plain bytes are nowhere in the database's files."""
    if listed := "".join(f"  {command};  -- as {owner}\n" for owner, command in commands):
        sys.stdout.write(f"plain bytes stay in the database's files until these are rewritten, which locks each:\n{listed}")


async def finish(config: Path, only: str | None, names: Sequence[str]) -> int:
    """Drop the plain columns that ``--keep`` has left."""
    configuration = load(config)
    policy = configuration.policy_of(only)
    async with database(configuration.settings, policy) as conn:
        catalog = await read_tables(conn, policy)
        dropped, tables = [], set()
        for column in policy.columns():
            name: TableName = (column.schema, column.table)
            relation = catalog.by_name.get(name)
            old = replaced_name(column.name)
            meant = not names or {f"{column.schema}.{column.table}", column.table, column.label} & set(names)
            if relation is None or relation.column(old) is None or not meant:
                continue
            family = await family_of(conn, name)
            root = next(part for part in family if part.name == name)
            of = [spelled(name), *(child.label for child in await local_children(conn, family, old))]
            await _drop(conn, root.owner, ";".join(f"ALTER TABLE {each} DROP COLUMN {quote_ident(old)}" for each in of))
            dropped.append(column.label)
            tables.add(name)
        left = await rewriting(conn, tables) if tables else []
    sys.stdout.write("".join(f"dropped: the plain {label}\n" for label in dropped) or "nothing to do: no plain column was kept\n")
    _told_of_bytes(left)
    return 0


async def _drop(conn: psycopg.AsyncConnection[Any], owner: str, statement: str) -> None:
    async with conn.transaction():
        await conn.execute("SET LOCAL lock_timeout TO '5s'")
        await conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
        await conn.execute(statement.encode())
