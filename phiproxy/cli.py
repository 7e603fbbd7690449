"""The command line: options, help and exit codes; what a command does is in ``phiproxy.commands``.

Exit codes: 0 ok, 1 the thing asked about is wrong, 2 usage. A complaint is one line ``phiproxy: …`` on standard error, and the
last one ends in the address of its explanation.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from phiproxy import __version__
from phiproxy.cli_audit import audit_app
from phiproxy.cli_jobs import add_commands
from phiproxy.cli_options import CONFIG, Config, Database, Json, leave
from phiproxy.errors import ConfigError, PhiproxyError, public_text

app = typer.Typer(
    name="phiproxy",
    help="A PostgreSQL wire proxy that encrypts health data column by column, or refuses.",
    # The pages that messages point to.
    epilog=f"Documentation, and examples of both files: {Path(__file__).parent}/docs and {Path(__file__).parent}/config",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:  # noqa: FBT001 - typer's way
    if asked:
        typer.echo(f"phiproxy {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: FBT002
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A PostgreSQL wire proxy that encrypts health data column by column, or refuses."""


keys_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The key registry: make it, look at it, take it along.")
app.add_typer(keys_app, name="keys")
app.add_typer(audit_app, name="audit")

DropOld = Annotated[bool, typer.Option("--drop-old", help="Drop the wraps under other KEKs: every proxy uses this one.")]
RaiseMinimum = Annotated[
    bool, typer.Option("--raise-min-version", help="Then have Vault decrypt nothing older than the current version.")
]


@app.command(epilog="Example: phiproxy demo --once")
def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after showing it.")] = False,  # noqa: FBT002 - typer's way
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of the proxy; 0 takes a free one.")] = 6432,
    directory: Annotated[Path | None, typer.Option("--dir", metavar="D", help="Keep keys and configuration there.")] = None,
    existing: Annotated[bool, typer.Option("--existing", help="Begin with a clinic full of plaintext.")] = False,  # noqa: FBT002
) -> None:
    """Show it: an embedded PostgreSQL with a clinic of synthetic patients, loaded through the proxy."""
    try:
        module = import_module("phiproxy.demo.run")
    except ModuleNotFoundError as error:
        raise ConfigError(f"the demo needs {error.name}", hint="pip install 'phiproxy[demo]'") from None
    leave(module.main(once, port, directory, existing))


@app.command(epilog="Example: phiproxy init postgresql://postgres@127.0.0.1:5432/clinic --dir /etc/phiproxy")
def init(
    address: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", help="The database, as psql takes it; asked for where it is not given.")
    ] = None,
    directory: Annotated[Path, typer.Option("--dir", metavar="D", help="Where the files are written.")] = Path(),
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where the proxy is to listen.")] = "127.0.0.1:6432",
) -> None:
    """Write a first configuration: ask the server, propose the columns that look like health data, say what to run next."""
    leave(import_module("phiproxy.commands.init").init(address, directory, listen))


@app.command(epilog="Example: phiproxy serve -c /etc/phiproxy/phiproxy.yaml")
def serve(config: Config = CONFIG) -> None:
    """Run the proxy. SIGTERM drains; SIGHUP reloads policy, certificates and keys."""
    leave(import_module("phiproxy.commands.serve").serve(config))


@app.command(epilog="Example: phiproxy check -c phiproxy.yaml --json")
def check(config: Config = CONFIG, as_json: Json = False) -> None:  # noqa: FBT002
    """Compare files, registry, tables and server settings, and say what each index leaks."""
    leave(import_module("phiproxy.commands.check").check(config, as_json=as_json))


@app.command(epilog="Example: phiproxy report -c phiproxy.yaml --html november.html --from 2026-11-01 --to 2026-12-01")
def report(
    config: Config = CONFIG,
    html: Annotated[Path | None, typer.Option("--html", metavar="OUT", help="The page: one file, nothing from elsewhere.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From this time on; default: all there is.")] = None,
    before: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this time; default: now.")] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Say what is protected, with which keys, who has seen what, and whether the audit log is proven."""
    leave(import_module("phiproxy.commands.report").report(config, html, since, before, as_json=as_json))


observe_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(observe_app, name="observe")


@observe_app.callback(epilog="Example: phiproxy observe -c phiproxy.yaml --from pg_stat_statements")
def observe(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="SOURCE", help="pg_stat_statements, or a log file of the server's (text, CSV, JSON)."),
    ] = None,
    config: Config = CONFIG,
    database: Database = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Say what would become of an application's statements if the policy's columns were encrypted; nothing is sent or changed."""
    if context.invoked_subcommand is not None:
        return
    if source is None:
        raise typer.BadParameter("give --from SOURCE, or the command report", param_hint="--from")
    leave(import_module("phiproxy.commands.observe").observe(config, source, database, as_json=as_json))


@observe_app.command("report", epilog="Example: phiproxy observe report -c phiproxy.yaml --json")
def observe_report(
    config: Config = CONFIG,
    database: Database = None,
    as_json: Json = False,  # noqa: FBT002
    forget: Annotated[bool, typer.Option("--forget", help="Begin anew: forget what is shown.")] = False,  # noqa: FBT002
) -> None:
    """Show what the proxies have observed of statements over columns that are in clear yet."""
    leave(import_module("phiproxy.commands.observe").report(config, database, as_json=as_json, forget=forget))


@app.command(epilog="Example: phiproxy explain -c phiproxy.yaml 'SELECT ssn FROM patients WHERE ssn = $1'")
def explain(
    sql: Annotated[
        str | None, typer.Argument(metavar="SQL", help="A statement, or a string of them, as a client would send it.")
    ] = None,
    config: Config = CONFIG,
    database: Database = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="A,B", help="The session's search path; public if not given.")
    ] = None,
    role: Annotated[
        str | None, typer.Option("--role", metavar="ROLE", help="As this role; also what of each column it is shown, and why.")
    ] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Show what the server would see of a statement, or why it is refused (then the exit code is 1)."""
    if sql is None and role is None:
        raise typer.BadParameter("a statement is missing, or --role", param_hint="SQL")
    names = None if path is None else [name.strip() for name in path.split(",") if name.strip()]
    command = import_module("phiproxy.commands.explain")
    leave(command.explain(config, sql or "", database, path=names, role=role, as_json=as_json))


@app.command(epilog="Example: phiproxy ddl -c phiproxy.yaml > phi.sql && psql -d clinic -f phi.sql")
def ddl(config: Config = CONFIG, database: Database = None) -> None:
    """Print the DDL that the policy needs, to read and to run with psql; it is never run by itself."""
    leave(import_module("phiproxy.commands.ddl").ddl(config, database))


@app.command("open", epilog="Example: phiproxy open -c phiproxy.yaml --registry dump.json f55001010000…")
def open_value(
    value: Annotated[str, typer.Argument(metavar="HEX", help="The stored value as psql prints it, with or without \\x.")],
    config: Config = CONFIG,
    database: Database = None,
    registry: Annotated[
        Path | None, typer.Option("--registry", metavar="DUMP", help="A file of `keys export`, instead of the database.")
    ] = None,
) -> None:
    """Open one stored value outside the proxy: support, and recovery from a dump. Recorded in the registry's events."""
    leave(import_module("phiproxy.commands.keys").open_stored(config, value, database, registry))


@keys_app.command("init", epilog="Example: phiproxy keys init -c phiproxy.yaml")
def keys_init(
    config: Config = CONFIG,
    as_json: Json = False,  # noqa: FBT002
    planned: Annotated[bool, typer.Option("--planned", help="Also for tables and columns that a migration will make.")] = False,  # noqa: FBT002
    clear: Annotated[
        list[str] | None,
        typer.Option("--clear", metavar="SCHEMA.TABLE.COLUMN", help="A registered column in plaintext: let it be in clear yet."),
    ] = None,
) -> None:
    """Make the registry, the KEK file of local:, and the first keys; running it twice changes nothing."""
    leave(import_module("phiproxy.commands.keys").keys_init(config, as_json=as_json, planned=planned, clear=clear or ()))


@keys_app.command("list", epilog="Example: phiproxy keys list -c phiproxy.yaml --json")
def keys_list(config: Config = CONFIG, as_json: Json = False) -> None:  # noqa: FBT002
    """List the keys with state, age and use; no key material."""
    leave(import_module("phiproxy.commands.keys").keys_list(config, as_json=as_json))


@keys_app.command("export", epilog="Example: phiproxy keys export -c phiproxy.yaml -o registry.json")
def keys_export(
    config: Config = CONFIG,
    database: Database = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DUMP", help="A new file; default: stdout.")] = None,
) -> None:
    """Write the registry as JSON, wrapped keys only: with the KEK it opens every value without the database."""
    leave(import_module("phiproxy.commands.keys").keys_export(config, database, output))


@keys_app.command("import", epilog="Example: phiproxy keys import -c phiproxy.yaml registry.json")
def keys_import(
    dump: Annotated[Path, typer.Argument(metavar="DUMP", help="A file of `keys export`.")],
    config: Config = CONFIG,
    database: Database = None,
) -> None:
    """Put back what `keys export` wrote, into a database without a registry or with an older state of the same one."""
    leave(import_module("phiproxy.commands.keys").keys_import(config, dump, database))


@keys_app.command("accept-rollback", epilog="Example: phiproxy keys accept-rollback --reason 'restored the backup of Monday'")
def keys_accept_rollback(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the registry's events; no secrets.")],
    config: Config = CONFIG,
    database: Database = None,
) -> None:
    """Go on with a registry that is older than proxies have seen it: until then they store nothing."""
    leave(import_module("phiproxy.commands.keys").accept_rollback(config, reason, database))


@keys_app.command("rewrap", epilog="Example: phiproxy keys rewrap -c phiproxy.yaml --from local:old-kek.json")
def keys_rewrap(
    config: Config = CONFIG,
    database: Database = None,
    older: Annotated[
        str | None, typer.Option("--from", metavar="URI", help="The KEK before, where the new one cannot open it.")
    ] = None,
    drop_old: DropOld = False,  # noqa: FBT002
    raise_minimum: RaiseMinimum = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Wrap every root key under the current version of the configured KEK; may be broken off and run again."""
    run = import_module("phiproxy.commands.keys_rotate").keys_rewrap
    leave(run(config, database, older, drop_old=drop_old, raise_minimum=raise_minimum, as_json=as_json))


@keys_app.command("compromise", epilog="Example: phiproxy keys compromise 5fc3a911 --reason 'laptop stolen' -c phiproxy.yaml")
def keys_compromise(
    key: Annotated[str, typer.Argument(metavar="ID", help="A data key's id as `keys list` shows it.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the registry's events; no secrets.")],
    config: Config = CONFIG,
    database: Database = None,
) -> None:
    """Mark a data key as compromised: nothing is written under it, and each read is logged."""
    leave(import_module("phiproxy.commands.keys_rotate").keys_compromise(config, key, reason, database))


@keys_app.command("retire", epilog="Example: phiproxy keys retire 5fc3a911 -c phiproxy.yaml")
def keys_retire(
    key: Annotated[str, typer.Argument(metavar="ID", help="A data key's id as `keys list` shows it.")],
    config: Config = CONFIG,
    database: Database = None,
) -> None:
    """Retire a data key that nothing in the database is sealed under; backups are yours to know."""
    leave(import_module("phiproxy.commands.keys_rotate").keys_retire(config, key, database))


add_commands(app, keys_app)


@cache
def command() -> Callable[..., Any]:
    """Return the whole command line, put together: that takes longer than many a command."""
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; what goes wrong is told in lines, never in a traceback."""
    try:
        command()(args=None if arguments is None else list(arguments), prog_name="phiproxy")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except PhiproxyError as error:
        text, anchor = error.message + (f"; {error.hint}" if error.hint else ""), error.anchor
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        text, anchor = where + (error.strerror or type(error).__name__), ConfigError.anchor
    except Exception as error:
        text, anchor = _in_words(error)
    sys.stderr.write(public_text(text.replace("\n", "\nphiproxy: "), anchor) + "\n")
    return 1


def _in_words(error: Exception) -> tuple[str, str]:
    """Return what is said of an error that nothing else has put into words, and the anchor of its documentation."""
    from psycopg import OperationalError  # noqa: PLC0415

    from phiproxy.errors import place_of  # noqa: PLC0415

    if isinstance(error, OperationalError):  # the server, or the way there, has ended: it names no value
        text = error.diag.message_primary or " ".join(str(error).split())
        return f"the database server: {text}", ConfigError.anchor
    # The text of any other may hold a value, so only type and place are told.
    return f"internal error: {type(error).__name__} at {place_of(error)}; please report it", PhiproxyError.anchor
