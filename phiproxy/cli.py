"""The command line: options, help and exit codes; what a command does is in ``phiproxy.commands``.

Exit codes: 0 ok, 1 the thing asked about is wrong, 2 usage. A complaint is one line ``phiproxy: …`` on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from phiproxy import __version__
from phiproxy.errors import ConfigError, PhiproxyError

app = typer.Typer(
    name="phiproxy",
    help="A PostgreSQL wire proxy that encrypts health data column by column, or refuses.",
    no_args_is_help=True,
    add_completion=False,
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

Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="phiproxy.yaml")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Database = Annotated[
    str | None, typer.Option("--database", "-d", metavar="NAME", help="Which policy's database, where there are several.")
]
DropOld = Annotated[bool, typer.Option("--drop-old", help="Drop the wraps under other KEKs: every proxy uses this one.")]
RaiseMinimum = Annotated[
    bool, typer.Option("--raise-min-version", help="Then have Vault decrypt nothing older than the current version.")
]
_CONFIG = Path("phiproxy.yaml")


@app.command(epilog="Example: phiproxy demo --once")
def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after showing it.")] = False,  # noqa: FBT002 - typer's way
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of the proxy; 0 takes a free one.")] = 6432,
    directory: Annotated[Path | None, typer.Option("--dir", metavar="D", help="Keep keys and configuration there.")] = None,
) -> None:
    """Show it: an embedded PostgreSQL with a clinic of synthetic patients, loaded through the proxy."""
    try:
        module = import_module("phiproxy.demo.run")
    except ModuleNotFoundError as error:
        raise ConfigError(f"the demo needs {error.name}", hint="pip install 'phiproxy[demo]'") from None
    _leave(module.main(once, port, directory))


@app.command(epilog="Example: phiproxy serve -c /etc/phiproxy/phiproxy.yaml")
def serve(config: Config = _CONFIG) -> None:
    """Run the proxy. SIGTERM drains; SIGHUP reloads policy, certificates and keys."""
    _leave(import_module("phiproxy.commands.serve").serve(config))


@app.command(epilog="Example: phiproxy check -c phiproxy.yaml --json")
def check(config: Config = _CONFIG, as_json: Json = False) -> None:  # noqa: FBT002
    """Compare files, registry, tables and server settings, and say what each index leaks."""
    _leave(import_module("phiproxy.commands.check").check(config, as_json=as_json))


@app.command(epilog="Example: phiproxy explain -c phiproxy.yaml 'SELECT ssn FROM patients WHERE ssn = $1'")
def explain(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A statement, or a string of them, as a client would send it.")],
    config: Config = _CONFIG,
    database: Database = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="A,B", help="The session's search path; public if not given.")
    ] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Show what the server would see of a statement, or why it is refused (then the exit code is 1)."""
    _leave(import_module("phiproxy.commands.explain").explain(config, sql, database, path=_path(path), as_json=as_json))


def _path(path: str | None) -> list[str] | None:
    return None if path is None else [name.strip() for name in path.split(",") if name.strip()]


@app.command(epilog="Example: phiproxy ddl -c phiproxy.yaml > phi.sql && psql -d clinic -f phi.sql")
def ddl(config: Config = _CONFIG, database: Database = None) -> None:
    """Print the DDL that the policy needs, to read and to run with psql; it is never run by itself."""
    _leave(import_module("phiproxy.commands.ddl").ddl(config, database))


@app.command("open", epilog="Example: phiproxy open -c phiproxy.yaml --registry dump.json f55001010000…")
def open_value(
    value: Annotated[str, typer.Argument(metavar="HEX", help="The stored value as psql prints it, with or without \\x.")],
    config: Config = _CONFIG,
    database: Database = None,
    registry: Annotated[
        Path | None, typer.Option("--registry", metavar="DUMP", help="A file of `keys export`, instead of the database.")
    ] = None,
) -> None:
    """Open one stored value outside the proxy: support, and recovery from a dump. Recorded in the registry's events."""
    _leave(import_module("phiproxy.commands.keys").open_stored(config, value, database, registry))


@keys_app.command("init", epilog="Example: phiproxy keys init -c phiproxy.yaml")
def keys_init(
    config: Config = _CONFIG,
    as_json: Json = False,  # noqa: FBT002
    planned: Annotated[bool, typer.Option("--planned", help="Also for tables and columns that a migration will make.")] = False,  # noqa: FBT002
) -> None:
    """Make the registry, the KEK file of local:, and the first keys; running it twice changes nothing."""
    _leave(import_module("phiproxy.commands.keys").keys_init(config, as_json=as_json, planned=planned))


@keys_app.command("list", epilog="Example: phiproxy keys list -c phiproxy.yaml --json")
def keys_list(config: Config = _CONFIG, as_json: Json = False) -> None:  # noqa: FBT002
    """List the keys with state, age and use; no key material."""
    _leave(import_module("phiproxy.commands.keys").keys_list(config, as_json=as_json))


@keys_app.command("export", epilog="Example: phiproxy keys export -c phiproxy.yaml -o registry.json")
def keys_export(
    config: Config = _CONFIG,
    database: Database = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DUMP", help="A new file; default: stdout.")] = None,
) -> None:
    """Write the registry as JSON, wrapped keys only: with the KEK it opens every value without the database."""
    _leave(import_module("phiproxy.commands.keys").keys_export(config, database, output))


@keys_app.command("import", epilog="Example: phiproxy keys import -c phiproxy.yaml registry.json")
def keys_import(
    dump: Annotated[Path, typer.Argument(metavar="DUMP", help="A file of `keys export`.")],
    config: Config = _CONFIG,
    database: Database = None,
) -> None:
    """Put back what `keys export` wrote, into a database without a registry or with an older state of the same one."""
    _leave(import_module("phiproxy.commands.keys").keys_import(config, dump, database))


@keys_app.command("accept-rollback", epilog="Example: phiproxy keys accept-rollback --reason 'restored the backup of Monday'")
def keys_accept_rollback(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the registry's events; no secrets.")],
    config: Config = _CONFIG,
    database: Database = None,
) -> None:
    """Go on with a registry that is older than proxies have seen it: until then they store nothing."""
    _leave(import_module("phiproxy.commands.keys").accept_rollback(config, reason, database))


@keys_app.command("rotate", epilog="Example: phiproxy keys rotate -c phiproxy.yaml --scope d:mrn")
def keys_rotate(
    config: Config = _CONFIG,
    database: Database = None,
    scope: Annotated[str | None, typer.Option("--scope", metavar="SCOPE", help="One scope of `keys list`; default: all.")] = None,
    root: Annotated[bool, typer.Option("--root", help="Root keys, and new data keys under them.")] = False,  # noqa: FBT002
    index: Annotated[
        str | None,
        typer.Option("--index", metavar="SCHEMA.TABLE.COLUMN[:EXPRESSION]", help="The next slot of one index of a column."),
    ] = None,
    kek: Annotated[bool, typer.Option("--kek", help="A new key in the file of a local: KEK; then run keys rewrap.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Make the next data key (or root key, or index slot) the one that writes. Nothing stored is touched."""
    module = import_module("phiproxy.commands.rotation")
    _leave(module.rotate_kek(config) if kek else module.rotate(config, database, scope, index, root=root, as_json=as_json))


@keys_app.command("rewrap", epilog="Example: phiproxy keys rewrap -c phiproxy.yaml --from local:old-kek.json")
def keys_rewrap(
    config: Config = _CONFIG,
    database: Database = None,
    older: Annotated[
        str | None, typer.Option("--from", metavar="URI", help="The KEK before, where the new one cannot open it.")
    ] = None,
    drop_old: DropOld = False,  # noqa: FBT002
    raise_minimum: RaiseMinimum = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Wrap every root key under the current version of the configured KEK; may be broken off and run again."""
    run = import_module("phiproxy.commands.rotation").keys_rewrap
    _leave(run(config, database, older, drop_old=drop_old, raise_minimum=raise_minimum, as_json=as_json))


@keys_app.command("compromise", epilog="Example: phiproxy keys compromise 5fc3a911 --reason 'laptop stolen' -c phiproxy.yaml")
def keys_compromise(
    key: Annotated[str, typer.Argument(metavar="ID", help="A data key's id as `keys list` shows it.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the registry's events; no secrets.")],
    config: Config = _CONFIG,
    database: Database = None,
) -> None:
    """Mark a data key as compromised: nothing is written under it, and each read is logged."""
    _leave(import_module("phiproxy.commands.rotation").keys_compromise(config, key, reason, database))


@keys_app.command("retire", epilog="Example: phiproxy keys retire 5fc3a911 -c phiproxy.yaml")
def keys_retire(
    key: Annotated[str, typer.Argument(metavar="ID", help="A data key's id as `keys list` shows it.")],
    config: Config = _CONFIG,
    database: Database = None,
) -> None:
    """Retire a data key that nothing in the database is sealed under; backups are yours to know."""
    _leave(import_module("phiproxy.commands.rotation").keys_retire(config, key, database))


def _leave(code: object) -> None:
    """End the command with its exit code; None is 0."""
    raise typer.Exit(code if isinstance(code, int) else 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; what goes wrong is told in lines, never in a traceback."""
    try:
        app(args=None if arguments is None else list(arguments))
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except PhiproxyError as error:
        text = error.message + (f"; {error.hint}" if error.hint else "")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        text = place + (error.strerror or type(error).__name__)
    except Exception as error:
        # the last one: its text may hold a value, so only type and place are told
        from phiproxy.errors import place_of  # noqa: PLC0415

        text = f"internal error: {type(error).__name__} at {place_of(error)}; please report it"
    for line in text.split("\n"):
        sys.stderr.write(f"phiproxy: {line}\n")
    return 1
