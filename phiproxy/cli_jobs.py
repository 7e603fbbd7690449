"""The commands that start long work over tables, and ``phiproxy jobs``."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from phiproxy.cli_options import CONFIG, Config, Database, Json, leave
from phiproxy.errors import ConfigError

_HERE: Final = Path()

JobId = Annotated[int, typer.Argument(metavar="ID", help="A job's number as `phiproxy jobs` shows it.")]
FireTriggers = Annotated[
    bool, typer.Option("--fire-triggers", help="Let the application's own triggers fire for each row that is written.")
]
DiskAnyway = Annotated[
    bool, typer.Option("--disk-anyway", help="Begin where what is free seems too little for what is written.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and what keeps it from being done.")]
Rate = Annotated[float, typer.Option("--rate", metavar="N", min=0, help="At most so many rows per second.")]
MaxLag = Annotated[
    float, typer.Option("--max-lag", metavar="S", min=0, help="Wait while a standby is so many seconds behind; 0: never.")
]
MaxWal = Annotated[
    int,
    typer.Option(
        "--max-wal", metavar="MIB", min=0, help="Wait while so much WAL is not archived, or held back by a slot; 0: never."
    ),
]
MaxDead = Annotated[
    float,
    typer.Option("--max-dead", metavar="PART", min=0, max=1, help="Wait while such a part of a table's rows is dead; 0: never."),
]
ThrottleQuery = Annotated[
    str | None, typer.Option("--throttle-query", metavar="SQL", help="Wait while this query gives true, or more than zero.")
]


def job_options(
    *,
    fire_triggers: bool,
    disk_anyway: bool,
    rate: float,
    max_lag: float,
    max_wal: int,
    max_dead: float,
    throttle_query: str | None,
) -> dict[str, Any]:
    """Return what a job is started with, as it is recorded."""
    limits = {"rate": rate, "lag": max_lag, "wal": max_wal << 20, "dead": max_dead, "query": throttle_query}
    return {"fire_triggers": fire_triggers, "disk_anyway": disk_anyway, "limits": limits}


jobs_app = typer.Typer(
    rich_markup_mode=None,
    help="Long work over tables: list it, pause it, go on with it, abort it.",
    epilog="Example: phiproxy jobs -c phiproxy.yaml",
)


def add_commands(app: typer.Typer, keys_app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.add_typer(jobs_app, name="jobs")
    app.command(epilog="Example: phiproxy decrypt public.patients.ssn -c phiproxy.yaml --dry-run")(decrypt)
    app.command(epilog="Example: phiproxy encrypt public.patients -c phiproxy.yaml --dry-run")(encrypt)
    app.command(epilog="Example: phiproxy recrypt -c phiproxy.yaml --compromised")(recrypt)
    app.command(epilog="Example: phiproxy reindex public.patients.ssn -c phiproxy.yaml")(reindex)
    app.command(epilog="Example: phiproxy respond --key 5fc3a911 --reason 'laptop stolen' -c phiproxy.yaml")(respond)
    keys_app.command("rotate", epilog="Example: phiproxy keys rotate -c phiproxy.yaml --scope d:mrn")(keys_rotate)


@jobs_app.callback(invoke_without_command=True, epilog="Example: phiproxy jobs -c phiproxy.yaml --json")
def jobs(context: typer.Context, config: Config = CONFIG, database: Database = None, as_json: Json = False) -> None:  # noqa: FBT002
    """List jobs with state, phase and counts."""
    if context.invoked_subcommand is None:
        leave(import_module("phiproxy.commands.jobs").list_all(config, database, as_json=as_json))


@jobs_app.command("pause", epilog="Example: phiproxy jobs pause 3 -c phiproxy.yaml")
def jobs_pause(job: JobId, config: Config = CONFIG, database: Database = None) -> None:
    """Let a job wait where it is, until it is resumed."""
    leave(import_module("phiproxy.commands.jobs").pause(config, database, job))


@jobs_app.command("resume", epilog="Example: phiproxy jobs resume 3 -c phiproxy.yaml")
def jobs_resume(job: JobId, config: Config = CONFIG, database: Database = None, as_json: Json = False) -> None:  # noqa: FBT002
    """Go on with a job that is paused, has failed or was broken off: here, unless its own process still waits."""
    leave(import_module("phiproxy.commands.jobs").resume(config, database, job, as_json=as_json))


@jobs_app.command("abort", epilog="Example: phiproxy jobs abort 3 -c phiproxy.yaml")
def jobs_abort(job: JobId, config: Config = CONFIG, database: Database = None) -> None:
    """End a job for good, and take back what is of no use half done."""
    leave(import_module("phiproxy.commands.jobs").abort_job(config, database, job))


LockTables = Annotated[
    bool,
    typer.Option("--lock-tables", help="Let all wait for as long as it takes to rewrite tables or fill views."),
]


def encrypt(  # noqa: PLR0913, PLR0917 - the options of a command
    names: Annotated[
        list[str] | None, typer.Argument(metavar="TABLE|TABLE.COLUMN", help="Of the policy; default: all that is in clear.")
    ] = None,
    config: Config = CONFIG,
    database: Database = None,
    dry_run: DryRun = False,  # noqa: FBT002
    keep: Annotated[bool, typer.Option("--keep", help="Leave the plain columns, hidden, until --finish.")] = False,  # noqa: FBT002
    finish: Annotated[bool, typer.Option("--finish", help="Drop the plain columns that --keep has left.")] = False,  # noqa: FBT002
    rewrite: Annotated[bool, typer.Option("--rewrite", help="Then rewrite the tables (VACUUM FULL), which locks each.")] = False,  # noqa: FBT002
    attempts: Annotated[int, typer.Option("--attempts", metavar="N", min=1, help="How often a lock is asked for.")] = 10,
    scheme: Annotated[
        str | None,
        typer.Option("--from", metavar="SCHEME", help="What has encrypted the values so far: pgcrypto:env:NAME …"),
    ] = None,
    layout: Annotated[
        str | None, typer.Option("--layout", metavar="PARTS", help="iv or none, tag-last or tag-first, base64, hex or raw.")
    ] = None,
    pattern: Annotated[str | None, typer.Option("--pattern", metavar="REGEX", help="What each imported value must match.")] = None,
    tenant_by: Annotated[
        str | None, typer.Option("--tenant-by", metavar="SQL", help="With tenants: says of a row whose it is.")
    ] = None,
    lock_tables: LockTables = False,  # noqa: FBT002
    fire_triggers: FireTriggers = False,  # noqa: FBT002
    disk_anyway: DiskAnyway = False,  # noqa: FBT002
    rate: Rate = 0,
    max_lag: MaxLag = 10,
    max_wal: MaxWal = 16384,
    max_dead: MaxDead = 0.5,
    throttle_query: ThrottleQuery = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Encrypt columns of the policy that are in clear, while their tables are in use."""
    module = import_module("phiproxy.commands.encrypt")
    if finish:
        leave(module.finish(config, database, names or ()))
    options = job_options(
        fire_triggers=fire_triggers, disk_anyway=disk_anyway, rate=rate, max_lag=max_lag, max_wal=max_wal, max_dead=max_dead,
        throttle_query=throttle_query,
    )  # fmt: skip
    options |= {"keep": keep, "attempts": attempts, "scheme": scheme, "layout": layout, "pattern": pattern}
    options |= {"tenant_by": tenant_by, "lock_tables": lock_tables}
    leave(module.encrypt(config, database, names or (), options, dry_run=dry_run, rewrite=rewrite, as_json=as_json))


def decrypt(  # noqa: PLR0913, PLR0917 - the options of a command
    names: Annotated[list[str], typer.Argument(metavar="TABLE|TABLE.COLUMN", help="Of the policy: what is to be in clear.")],
    config: Config = CONFIG,
    database: Database = None,
    dry_run: DryRun = False,  # noqa: FBT002
    reorder: Annotated[bool, typer.Option("--reorder", help="Let the columns stand last in their tables.")] = False,  # noqa: FBT002
    attempts: Annotated[int, typer.Option("--attempts", metavar="N", min=1, help="How often a lock is asked for.")] = 10,
    lock_tables: LockTables = False,  # noqa: FBT002
    fire_triggers: FireTriggers = False,  # noqa: FBT002
    disk_anyway: DiskAnyway = False,  # noqa: FBT002
    rate: Rate = 0,
    max_lag: MaxLag = 10,
    max_wal: MaxWal = 16384,
    max_dead: MaxDead = 0.5,
    throttle_query: ThrottleQuery = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Decrypt columns of the policy, while their tables are in use: they are in clear from then on."""
    options = job_options(
        fire_triggers=fire_triggers, disk_anyway=disk_anyway, rate=rate, max_lag=max_lag, max_wal=max_wal, max_dead=max_dead,
        throttle_query=throttle_query,
    )  # fmt: skip
    options |= {"reorder": reorder, "attempts": attempts, "lock_tables": lock_tables}
    module = import_module("phiproxy.commands.decrypt")
    leave(module.decrypt(config, database, names, options, dry_run=dry_run, as_json=as_json))


def recrypt(  # noqa: PLR0913, PLR0917 - the options of a command
    config: Config = CONFIG,
    database: Database = None,
    key: Annotated[list[str] | None, typer.Option("--key", metavar="ID", help="A data key's id as `keys list` shows it.")] = None,
    compromised: Annotated[bool, typer.Option("--compromised", help="Keys that are marked compromised.")] = False,  # noqa: FBT002
    older_than: Annotated[str | None, typer.Option("--older-than", metavar="AGE", help="Keys that are as old: 90d.")] = None,
    scope: Annotated[str | None, typer.Option("--scope", metavar="SCOPE", help="Only of this scope of `keys list`.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only of this tenant.")] = None,
    dry_run: DryRun = False,  # noqa: FBT002
    fire_triggers: FireTriggers = False,  # noqa: FBT002
    disk_anyway: DiskAnyway = False,  # noqa: FBT002
    rate: Rate = 0,
    max_lag: MaxLag = 10,
    max_wal: MaxWal = 16384,
    max_dead: MaxDead = 0.5,
    throttle_query: ThrottleQuery = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Seal stored values anew that are under older data keys: all that write no more, or those that options name."""
    options = job_options(
        fire_triggers=fire_triggers, disk_anyway=disk_anyway, rate=rate, max_lag=max_lag, max_wal=max_wal, max_dead=max_dead,
        throttle_query=throttle_query,
    )  # fmt: skip
    chosen = {"keys": key or [], "compromised": compromised, "older": older_than, "scope": scope, "tenant": tenant}
    leave(import_module("phiproxy.commands.recrypt").recrypt(config, database, chosen, options, dry_run=dry_run, as_json=as_json))


def reindex(  # noqa: PLR0913, PLR0917 - the options of a command
    target: Annotated[str, typer.Argument(metavar="SCHEMA.TABLE.COLUMN[:EXPRESSION]", help="A column, or one index of it.")],
    config: Config = CONFIG,
    database: Database = None,
    clear: Annotated[bool, typer.Option("--clear", help="Then clear the tags of dropped slots, by another pass.")] = False,  # noqa: FBT002
    dry_run: DryRun = False,  # noqa: FBT002
    lock_tables: LockTables = False,  # noqa: FBT002
    fire_triggers: FireTriggers = False,  # noqa: FBT002
    disk_anyway: DiskAnyway = False,  # noqa: FBT002
    rate: Rate = 0,
    max_lag: MaxLag = 10,
    max_wal: MaxWal = 16384,
    max_dead: MaxDead = 0.5,
    throttle_query: ThrottleQuery = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Fill an index that answers nothing yet, or is to follow another one, until it takes over."""
    options = job_options(
        fire_triggers=fire_triggers, disk_anyway=disk_anyway, rate=rate, max_lag=max_lag, max_wal=max_wal, max_dead=max_dead,
        throttle_query=throttle_query,
    )  # fmt: skip
    options |= {"clear": clear, "lock_tables": lock_tables}
    module = import_module("phiproxy.commands.reindex")
    leave(module.reindex(config, database, target, options, dry_run=dry_run, as_json=as_json))


def keys_rotate(  # noqa: PLR0913, PLR0917 - the options of a command
    config: Config = CONFIG,
    database: Database = None,
    scope: Annotated[str | None, typer.Option("--scope", metavar="SCOPE", help="One scope of `keys list`; default: all.")] = None,
    root: Annotated[bool, typer.Option("--root", help="Root keys, and new data keys under them.")] = False,  # noqa: FBT002
    index: Annotated[
        str | None,
        typer.Option("--index", metavar="SCHEMA.TABLE.COLUMN[:EXPRESSION]", help="One index of a column; stored values follow."),
    ] = None,
    later: Annotated[bool, typer.Option("--later", help="With --index: leave stored values to `phiproxy reindex`.")] = False,  # noqa: FBT002
    kek: Annotated[bool, typer.Option("--kek", help="A new key in the file of a local: KEK; then run keys rewrap.")] = False,  # noqa: FBT002
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --index: only say what would be done.")] = False,  # noqa: FBT002
    fire_triggers: FireTriggers = False,  # noqa: FBT002
    disk_anyway: DiskAnyway = False,  # noqa: FBT002
    lock_tables: LockTables = False,  # noqa: FBT002
    rate: Rate = 0,
    max_lag: MaxLag = 10,
    max_wal: MaxWal = 16384,
    max_dead: MaxDead = 0.5,
    throttle_query: ThrottleQuery = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Make the next data key, root key or index key the one that writes. Only --index touches what is stored."""
    module = import_module("phiproxy.commands.keys_rotate")
    if dry_run and index is None:
        raise ConfigError("--dry-run goes with --index: without it nothing that is stored is rewritten")
    if kek:
        leave(module.rotate_kek(config))
    if index is None:
        leave(module.rotate(config, database, scope, root=root, as_json=as_json))
    if root or scope is not None:
        raise ConfigError("--index rotates one column's index key; it goes with neither --root nor --scope")
    options = job_options(
        fire_triggers=fire_triggers, disk_anyway=disk_anyway, rate=rate, max_lag=max_lag, max_wal=max_wal, max_dead=max_dead,
        throttle_query=throttle_query,
    )  # fmt: skip
    options["lock_tables"] = lock_tables
    leave(module.rotate_index(config, database, index, options, later=later, dry_run=dry_run, as_json=as_json))


def respond(  # noqa: PLR0913, PLR0917 - the options of a command
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the registry and the incident file; no secrets.")],
    config: Config = CONFIG,
    database: Database = None,
    key: Annotated[str | None, typer.Option("--key", metavar="ID", help="The data key that somebody may have.")] = None,
    kek: Annotated[str | None, typer.Option("--kek", metavar="URI", help="The KEK that somebody may have, or may use.")] = None,
    directory: Annotated[Path, typer.Option("--report", metavar="DIR", help="Where the incident file is written.")] = _HERE,
    dry_run: DryRun = False,  # noqa: FBT002
    lock_tables: LockTables = False,  # noqa: FBT002
    fire_triggers: FireTriggers = False,  # noqa: FBT002
    disk_anyway: DiskAnyway = False,  # noqa: FBT002
    rate: Rate = 0,
    max_lag: MaxLag = 10,
    max_wal: MaxWal = 16384,
    max_dead: MaxDead = 0.5,
    throttle_query: ThrottleQuery = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Answer a compromise to its end: other keys, values sealed anew, indexes rebuilt, the old keys retired, an incident file."""
    options = job_options(
        fire_triggers=fire_triggers, disk_anyway=disk_anyway, rate=rate, max_lag=max_lag, max_wal=max_wal, max_dead=max_dead,
        throttle_query=throttle_query,
    )  # fmt: skip
    options |= {"lock_tables": lock_tables, "reason": reason, "directory": str(directory)}
    module = import_module("phiproxy.commands.respond")
    leave(module.respond(config, database, key, kek, options, dry_run=dry_run, as_json=as_json))
