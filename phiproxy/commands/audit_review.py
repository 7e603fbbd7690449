"""``phiproxy audit review``: what was done under a broken glass, and the second person who signs it off."""

import asyncio
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from phiproxy.audit.break_glass_review import Glass, glasses, may_review, reviewable, sign_off
from phiproxy.audit.search import Record, counts, end_user
from phiproxy.audit_root import audit_keys, audit_policy
from phiproxy.audit_service import proxy_name
from phiproxy.commands.command_context import database_error, load, print_json
from phiproxy.errors import ConfigError
from phiproxy.net.service_login import service_conninfo
from phiproxy.policy.settings import Settings


async def review(config: Path, name: str | None, reviewer: str | None, note: str | None, *, everything: bool, as_json: bool) -> int:
    """List what nobody has signed off, or sign one off as a role that the database knows; 1 where something is open."""
    configuration = load(config)
    settings = configuration.settings
    directory = settings.audit.directory
    if directory is None:
        raise ConfigError("what is reviewed is in the audit log's files", hint="set audit.directory")
    keys = await audit_keys(settings, configuration.policies)
    log = [dict(record) for record in await asyncio.to_thread(lambda: [*reviewable(directory, [keys.signer.verifier])])]
    all_of_log = glasses(log)
    if name is None:
        chosen = [glass for glass in all_of_log if everything or glass.review is None]
        if as_json:
            print_json([_as_json(glass, log) for glass in chosen])
        else:
            for glass in chosen:
                sys.stdout.write("\n".join(_in_words(glass, log)) + "\n")
        return 1 if any(glass.review is None for glass in chosen) else 0
    one = next((glass for glass in all_of_log if glass.name == name), None)
    if one is None:
        raise ConfigError(f"no break-glass record is called {name!r}", hint="list them: phiproxy audit review")
    if reviewer is None or not note:
        raise ConfigError("who signs it off, and what was found? --as ROLE --note TEXT")
    may_review(one, reviewer)
    database = audit_policy(settings, configuration.policies).database
    proven = await _logged_in(settings, database, reviewer)
    may_review(one, proven)
    said = {"by": proven, "database": database, "glass": name, "note": note, "os_user": getpass.getuser()}
    try:
        await asyncio.to_thread(sign_off, directory, proxy_name(settings), keys.signer, said)
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror or error}") from None
    sys.stdout.write(f"{name} is signed off by {proven}\n")
    return 0


async def _logged_in(settings: Settings, database: str, role: str) -> str:
    """Log in to the database as the reviewer, and return who that is; ConfigError. The password is libpq's matter, or asked for."""
    conninfo = make_conninfo(service_conninfo(settings, database), user=role, password=None)
    if "PGPASSWORD" in os.environ:
        conninfo = make_conninfo(conninfo, password=os.environ["PGPASSWORD"])
    for attempt in range(2):
        try:
            async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as conn:
                row = await (await conn.execute("SELECT session_user::pg_catalog.text")).fetchone()
                assert row is not None
                return str(row[0])
        except psycopg.OperationalError as error:
            if attempt or "no password supplied" not in str(error):
                raise ConfigError(database_error(database, error)) from None
            password = await asyncio.to_thread(getpass.getpass, f"Password of {role}: ")
            conninfo = make_conninfo(conninfo, password=password)
    raise AssertionError


def _done(glass: Glass, log: Sequence[Record]) -> list[Record]:
    """Return what the session has done for its reason, as far as it is recorded."""
    own = glass.record
    same = ("session", "proxy", "writer", "reason")
    return [r for r in log if r["kind"] == "execution" and all(r.get(field) == own.get(field) for field in same)]


def _as_json(glass: Glass, log: Sequence[Record]) -> dict[str, object]:
    return {"glass": dict(glass.record), "review": dict(glass.review) if glass.review is not None else None,
            "executions": [dict(record) for record in _done(glass, log)]}  # fmt: skip


def _in_words(glass: Glass, log: Sequence[Record]) -> list[str]:
    own = glass.record
    user = end_user(own)
    who = f"{user} as {own.get('role')}" if user is not None else str(own.get("role") or own.get("login"))
    lines = [f"{glass.name}  {own['time'][:19].replace('T', ' ')}  {own.get('database')}  {who}  {own.get('client')}"]
    lines.append(f"  for {own.get('seconds')} s: {own.get('reason')}")
    for record in _done(glass, log):
        shown = record.get("statement", {}).get("text", "")
        lines.append(f"  {record['time'][11:19]}  {counts(record)}  {shown}")
    if glass.review is not None:
        signed = glass.review
        lines.append(f"  signed off by {signed.get('by')}, {signed['time'][:19].replace('T', ' ')}: {signed.get('note')}")
    return lines
