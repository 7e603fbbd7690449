"""``phiproxy init``: from the address of a database to a first configuration, with reasons, and what to run next."""

import os
import re
import secrets
import sys
from pathlib import Path
from typing import Any

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from phiproxy.commands.command_context import database_error, print_table
from phiproxy.errors import ConfigError
from phiproxy.ops.first_configuration import PASSWORD_FILE, SCHEMA, policy_text, role_text, settings_text
from phiproxy.ops.likely_columns import Proposal, propose
from phiproxy.ops.table_survey import survey
from phiproxy.policy.load import load_settings
from phiproxy.policy.setting_values import Address, parse_address
from phiproxy.sql.policy_files import load_policies

_OLDEST = 14


def init(address: str | None, directory: Path, listen: str) -> int:
    """Ask the server, write the files into a directory, and say what to run next.

    ConfigError when the server cannot be asked or one of the files is there already; then nothing is written.
    """
    address = address or typer.prompt("Address of the database (postgresql://USER@HOST:PORT/DATABASE)")
    try:
        listening = parse_address(listen)
    except ValueError as error:
        raise ConfigError(f"--listen {listen}: {error}") from None
    home = directory.absolute()
    with _connect(address) as conn:
        database, upstream = conn.info.dbname, _upstream(conn)
        if (version := conn.info.server_version // 10_000) < _OLDEST:
            raise ConfigError(f"PostgreSQL {version} is older than {_OLDEST}, the oldest that is supported")
        tls, comment = _tls(conn, upstream)
        try:
            proposals = propose(survey(conn, SCHEMA))
        except psycopg.Error as error:
            raise ConfigError(database_error(database, error)) from None
    schemas = Path(__file__).parents[1] / "config"
    secret = home / PASSWORD_FILE
    texts = {
        "policy.yaml": policy_text(database, proposals, schemas),
        "role.sql": role_text(database, proposals, secret),
        PASSWORD_FILE: secrets.token_urlsafe(24) + "\n",
        "phiproxy.yaml": settings_text(listen=listening, upstream=upstream, tls=tls, tls_comment=comment, schemas=schemas),
    }
    _write(home, texts)
    load_policies(load_settings(home / "phiproxy.yaml"))  # what was written is read as every command will
    _tell(home, _shown(address), listening, database, proposals)
    return 0


def _connect(address: str) -> psycopg.Connection[Any]:
    try:
        conninfo_to_dict(address)
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"this is no address of a database: {' '.join(str(error).split())}") from None
    parameters: dict[str, Any] = {"application_name": "phiproxy init", "client_encoding": "UTF8", "connect_timeout": 10}
    try:
        try:
            return psycopg.connect(address, autocommit=True, **parameters)
        except psycopg.OperationalError as error:
            if not (error.pgconn is not None and error.pgconn.needs_password and sys.stdin.isatty()):
                raise
        return psycopg.connect(address, autocommit=True, password=typer.prompt("Password", hide_input=True), **parameters)
    except psycopg.OperationalError as error:
        raise ConfigError(f"the database cannot be asked: {' '.join(str(error).split())}") from None


def _upstream(conn: psycopg.Connection[Any]) -> Address:
    host, port = conn.info.host, conn.info.port
    return Address(path=f"{host}/.s.PGSQL.{port}") if host.startswith("/") else Address(host, port)


def _tls(conn: psycopg.Connection[Any], upstream: Address) -> tuple[str, str]:
    """Return ``upstream.tls`` and why: never weaker than what protects the way, which an operator may change knowingly."""
    if conn.pgconn.ssl_in_use:
        return "verify-full", "  # the server offers TLS; add ca_file: FILE unless a public authority has signed its certificate"
    if upstream.path or upstream.host in ("127.0.0.1", "::1", "localhost"):
        return "disable", "  # the server is on this machine, and offers no TLS"
    return "verify-full", "  # the server offers NO TLS now: turn it on there (ssl = on), or nothing connects"


def _write(home: Path, texts: dict[str, str]) -> None:
    there = [name for name in texts if (home / name).exists()]
    if there:
        raise ConfigError(f"{home} holds {', '.join(there)} already", hint="Take another directory: --dir D")
    home.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        mode = 0o600 if name == PASSWORD_FILE else 0o644
        with open(os.open(home / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)


def _shown(address: str) -> str:
    """Return an address for psql without its password."""
    if "://" in address:
        return re.sub(r"(?<=://)([^:@/?]*):[^@/?]*@", r"\1@", address)
    parts = {key: str(value) for key, value in conninfo_to_dict(address).items() if key != "password" and value is not None}
    return make_conninfo("", **parts)


def _tell(home: Path, address: str, listen: Address, database: str, proposals: list[Proposal]) -> None:
    rows = [
        (".".join(p.column.address), p.type, "protect" if p.obstacle is None else f"left: {p.obstacle}", p.reason)
        for p in proposals
    ]
    if rows:
        print_table(f"Columns of {database} that look like health data", ["column", "type", "proposed", "because"], rows)
    else:
        sys.stdout.write(f"No column of {database} looks like health data by its name: write policy.yaml yourself.\n")
    there = home.relative_to(Path.cwd()) if home.is_relative_to(Path.cwd()) else home
    config = "" if there == Path() else f" -c {there / 'phiproxy.yaml'}"
    filled = sorted({f"{p.column.schema}.{p.column.table}" for p in proposals if p.column.filled and p.obstacle is None})
    where = f"-d '{address}'"
    steps = [
        f"read {there / 'policy.yaml'}: which columns, which indexes",
        f"psql {where} -f {there / 'role.sql'}    # as a superuser: the proxy's own role",
        f"phiproxy keys init{config}",
        f"phiproxy ddl{config} > phi.sql; read it; psql {where} -f phi.sql    # as the tables' owner",
        f"phiproxy check{config}",
        f"phiproxy serve{config}",
        f"point the application at {listen}",
    ]
    sys.stdout.write(f"\nWritten: phiproxy.yaml, policy.yaml, role.sql, {PASSWORD_FILE} in {home}\n")
    if filled:
        sys.stdout.write(f"These tables hold rows in plaintext, see docs/existing-data.md before step 4: {', '.join(filled)}\n")
    sys.stdout.write("\nNext:\n" + "".join(f"  {number}. {step}\n" for number, step in enumerate(steps, 1)))
