"""``phiproxy keys`` and ``phiproxy open``: the glue between the command line and ``phiproxy.keys``."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from phiproxy.commands.anchor import line, pin
from phiproxy.commands.context import (
    Configuration,
    database,
    existing_layout,
    load,
    opened_kek,
    opened_registry,
    print_json,
    print_table,
    run,
    survey,
)
from phiproxy.errors import ConfigError
from phiproxy.keys import open_provider
from phiproxy.keys.importing import import_registry
from phiproxy.keys.inventory import ListedRoot, export, list_keys, load_export
from phiproxy.keys.keks import kek_of
from phiproxy.keys.lifecycle import Done, init
from phiproxy.keys.local import create_kek_file
from phiproxy.keys.opening import trusted
from phiproxy.keys.registry import record_event
from phiproxy.keys.resolve import open_value
from phiproxy.keys.rollback import accept_rollback as accept
from phiproxy.net.catalog import read_catalog
from phiproxy.ops.leakage import plaintext_complaints
from phiproxy.ops.sealed import RESTORE, foreign_values, lacking_tag, unfinished
from phiproxy.policy.bind import table_complaints, type_complaints
from phiproxy.policy.boundary import boundary_complaints
from phiproxy.policy.layout import Layout
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.names import quote_ident, shown_expression
from phiproxy.policy.owntypes import Types, indexed_as
from phiproxy.policy.protection import waiting_slots
from phiproxy.policy.values import read_secret


def keys_init(config: Path, *, as_json: bool, planned: bool) -> int:
    """Make KEK file, registry, identities, slots and first keys where they are missing, and say what was made.

    ``planned``: also for tables and columns that a migration will make.
    """
    configuration = load(config)
    done = run(_init(configuration, config, planned=planned))
    if as_json:
        print_json([{"database": name, "what": d.what, "subject": d.subject} for name, d in done])
    elif done:
        print_table("", ["database", "made", "of"], [(name, d.what, d.subject) for name, d in done])
    else:
        sys.stdout.write("nothing to do: the registry is as the policy needs it\n")
    for policy in configuration.policies:
        for text in run(_unfinished(configuration, policy)):
            sys.stderr.write(f"phiproxy: {text}\n")
    return 0


async def _unfinished(configuration: Configuration, policy: Policy) -> list[str]:
    """Say which indexes answer nothing yet, since they were added to filled columns, and what they wait for."""
    async with database(configuration.settings, policy) as conn:
        layout, catalog = await survey(configuration.settings, policy, conn)
        identities = {i.identity: i for i in layout.identities.values()}
        lines = []
        for column in policy.columns():
            slots = identities[column.identity].slots
            names = [name for name, number in layout.columns.items() if number == identities[column.identity].number]
            for slot in waiting_slots(slots, column.expressions):
                shown = shown_expression(slot.expression, quote_ident(column.name))
                lines.append(unfinished(column.label, shown, await lacking_tag(conn, names, slot.number, catalog)))
    return lines


async def _init(configuration: Configuration, path: Path, *, planned: bool) -> list[tuple[str, Done]]:
    settings, schema = configuration.settings, configuration.settings.service.schema_
    known: list[Layout] = []
    complaints: list[str] = []
    foreign: list[str] = []
    types: list[Types] = []
    for policy in configuration.policies:
        async with database(settings, policy) as conn:
            layout = await existing_layout(conn, schema)
            names = layout.table_names if layout is not None else ()
            catalog = await read_catalog(conn, [(c.schema, c.table) for c in policy.columns()], names)
            types.append(catalog.types)
            foreign += await foreign_values(conn, policy, layout, catalog, schema)
            complaints += await plaintext_complaints(conn, _with_new_slots(policy, layout), catalog)
        # An identity number is never given back, and a mistyped column protects nothing: it is said twice that it comes later.
        complaints += [
            f"{c} (a migration will make it: --planned)" for c in table_complaints(policy, layout, catalog) if not planned
        ]
        complaints += type_complaints(policy, catalog) if planned else []
        complaints += boundary_complaints(policy, layout, catalog)
        known += [layout] if layout is not None else []
    if foreign:
        # A registry made now would look as if all were well.
        raise ConfigError("\n".join(foreign), hint=RESTORE)
    if complaints:
        raise ConfigError("\n".join(complaints))
    done: list[tuple[str, Done]] = []
    # With a registry but no key file, a new key could open nothing: the old file has to be brought back.
    # Other providers' keys are made where they live.
    here = settings.kek_uri.startswith("local:")
    if here and not any(layout.identities for layout in known) and await create_kek_file(settings.kek_uri, read_secret):
        done.append(("", Done("KEK file", settings.kek_uri.removeprefix("local:").partition("?")[0])))
    provider = await open_provider(settings.kek_uri, read_secret)
    try:
        for policy, own in zip(configuration.policies, types, strict=True):
            async with database(settings, policy) as conn:
                wanted = policy.wanted_identities(partial(indexed_as, types=own))
                max_uses = settings.keys.rotation.data_key.max_uses
                pinned = settings.keys.anchor.get(policy.database)
                made = await init(conn, wanted, policy.deployment, provider, schema=schema, max_uses=max_uses, anchor=pinned)
                done += [(policy.database, d) for d in made.done]
                if pinned is None:
                    done += [(policy.database, d) for d in pinned_now(path, policy.database, made.anchor)]
    finally:
        await provider.close()
    return done


def pinned_now(path: Path, database: str, anchor: str) -> list[Done]:
    """Pin a registry in the configuration file; where that cannot be, say on standard error which line to add."""
    if pin(path, database, anchor):
        return [Done("keys.anchor written", path.name)]
    sys.stderr.write(f"phiproxy: {path} cannot be written; add to it, under keys:, and to that of every proxy of this database:\n")
    sys.stderr.write(f"  {line(database, anchor)}\n")
    return []


def _with_new_slots(policy: Policy, layout: Layout | None) -> list[PolicyColumn]:
    """Return the columns with an index that is not registered yet."""
    identities = {} if layout is None else {i.identity: i for i in layout.identities.values()}
    fresh = []
    for column in policy.columns():
        registered = identities.get(column.identity)
        known = {s.expression for s in registered.slots} if registered is not None else set()
        if not known.issuperset(column.expressions):
            fresh.append(column)
    return fresh


def keys_list(config: Path, *, as_json: bool) -> int:
    """Print root keys, their wraps and data keys of every database."""
    configuration = load(config)
    found = [(p.database, root) for p in configuration.policies for root in run(_list(configuration, p))]
    if as_json:
        print_json([{"database": name, **_listed(root)} for name, root in found])
        return 0
    heads = ["database", "id", "scope", "purpose", "generation", "state", "age", "KEK", "data keys (used of max)"]
    rows = []
    for name, root in found:
        wraps = ", ".join(f"{w.kek_uri} version {w.kek_version}" for w in root.wraps)
        keys = ", ".join(f"{k.id:08x} {k.state} {k.used} of {k.max_uses}, {k.age.days} d" for k in root.data_keys)
        scope = root.scope + (f", tenant {root.tenant}" if root.tenant else "")
        rows.append((name, root.id, scope, root.purpose, root.generation, root.state, f"{root.age.days} d", wraps, keys))
    print_table("", heads, rows)
    return 0


def _listed(root: ListedRoot) -> dict[str, Any]:
    return {
        "id": root.id,
        "scope": root.scope,
        "tenant": root.tenant,
        "purpose": root.purpose,
        "generation": root.generation,
        "state": root.state,
        "age_seconds": round(root.age.total_seconds()),
        "wraps": [{"kek": w.kek_uri, "version": w.kek_version, "verified_at": w.verified_at.isoformat()} for w in root.wraps],
        "data_keys": [
            {
                "id": k.id,
                "generation": k.generation,
                "state": k.state,
                "used": k.used,
                "max_uses": k.max_uses,
                "age_seconds": round(k.age.total_seconds()),
            }
            for k in root.data_keys
        ],
    }


async def _list(configuration: Configuration, policy: Policy) -> list[ListedRoot]:
    async with database(configuration.settings, policy) as conn:
        return await list_keys(conn, configuration.settings.service.schema_)


def keys_export(config: Path, only: str | None, output: Path | None) -> int:
    """Write the registry of one database as JSON: wrapped keys only. An existing file is not overwritten."""
    configuration = load(config)
    dump = run(_export(configuration, configuration.policy_of(only)))
    if output is None:
        print_json(dump)
        return 0
    with open(output, "x", encoding="utf-8", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(json.dumps(dump, indent=2) + "\n")
    return 0


async def _export(configuration: Configuration, policy: Policy) -> dict[str, Any]:
    async with database(configuration.settings, policy) as conn:
        return await export(conn, configuration.settings.service.schema_)


def keys_import(config: Path, dump: Path, only: str | None) -> int:
    """Put back what ``keys export`` wrote, and pin the registry where it is not pinned."""
    configuration = load(config)
    done = run(_import(configuration, config, configuration.policy_of(only), _read_dump(dump)))
    if done:
        print_table("", ["database", "made", "of"], [(name, d.what, d.subject) for name, d in done])
    else:
        sys.stdout.write("nothing to do: the registry is as the export says\n")
    return 0


async def _import(configuration: Configuration, path: Path, policy: Policy, dump: object) -> list[tuple[str, Done]]:
    settings, pinned = configuration.settings, configuration.settings.keys.anchor.get(policy.database)
    async with opened_kek(settings, policy) as kek, database(settings, policy) as conn:
        made = await import_registry(conn, dump, policy.deployment, kek_of(kek, ""), schema=settings.service.schema_, anchor=pinned)
    anchored = pinned_now(path, policy.database, made.anchor) if pinned is None else []
    return [(policy.database, d) for d in (*made.done, *anchored)]


def accept_rollback(config: Path, reason: str, only: str | None) -> int:
    """Go on with a registry that is older than proxies have seen it."""
    configuration = load(config)
    policy = configuration.policy_of(only)
    before, after = run(_accept(configuration, policy, reason))
    sys.stdout.write(f"the registry of {policy.database} is accepted as it is: its counter was {before} and is {after}\n")
    return 0


async def _accept(configuration: Configuration, policy: Policy, reason: str) -> tuple[int, int]:
    settings = configuration.settings
    async with opened_kek(settings, policy) as kek, database(settings, policy) as conn:
        return await accept(conn, await trusted(conn, settings, policy, kek), reason)


def open_stored(config: Path, value: str, only: str | None, registry: Path | None) -> int:
    """Print the plaintext of one stored value, as UTF-8 with a line end."""
    try:
        envelope = bytes.fromhex(value.removeprefix("\\x"))
    except ValueError:
        raise ConfigError("the stored value must be hexadecimal, as psql prints bytea (with or without \\x)") from None
    plaintext = run(_open_from(load(config), envelope, only, registry))
    sys.stdout.buffer.write(plaintext + b"\n")
    sys.stdout.buffer.flush()
    return 0


async def _open_from(configuration: Configuration, envelope: bytes, only: str | None, registry: Path | None) -> bytes:
    settings = configuration.settings
    if registry is not None:
        # without a database there is nowhere to leave a record: who holds KEK and dump needs no proxy to open values
        dump = load_export(_read_dump(registry))
        policy = next((p for p in configuration.policies if p.deployment == dump.layout.deployment), None)
        async with opened_kek(settings, policy or configuration.policy_of(only)) as kek:
            return await open_value(envelope, dump.layout, dump, kek)
    policy, schema = configuration.policy_of(only), settings.service.schema_
    async with (
        opened_kek(settings, policy) as kek,
        opened_registry(settings, policy, kek) as live,
        database(settings, policy) as conn,
    ):
        layout = await live.layout()
        # recorded first: a value that was seen without a record would be the worse of the two
        await record_event(conn, schema, "open", f"identity {int.from_bytes(envelope[9:11])}")
        return await open_value(envelope, layout, live, kek)


def _read_dump(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ConfigError(f"{path}: not a registry dump") from None
