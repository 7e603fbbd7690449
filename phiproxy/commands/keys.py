"""``phiproxy keys`` and ``phiproxy open``: the glue between the command line and ``phiproxy.keys``."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from phiproxy.audit_root import audit_policy
from phiproxy.commands.command_context import (
    Configuration,
    closing,
    database,
    existing_layout,
    load,
    opened_kek,
    opened_registry,
    patient_database,
    print_json,
    print_table,
    survey,
)
from phiproxy.commands.pin_anchor import line, pin
from phiproxy.errors import ConfigError
from phiproxy.keys import open_provider
from phiproxy.keys.accept_rollback import accept_rollback as accept
from phiproxy.keys.inventory import ListedRoot, export, list_keys, load_export
from phiproxy.keys.lifecycle import Done, init
from phiproxy.keys.local import create_kek_file
from phiproxy.keys.open_registry import trusted
from phiproxy.keys.registry import record_event
from phiproxy.keys.registry_import import import_registry
from phiproxy.keys.resolve_data_key import open_value
from phiproxy.keys.tenant_keks import kek_of
from phiproxy.net.catalog_reader import read_catalog
from phiproxy.ops.database_check import state_texts
from phiproxy.ops.leakage import plaintext_complaints
from phiproxy.ops.stored_values import RESTORE, Name, foreign_values, lacking_tag, other_types, plain_fields, unfinished
from phiproxy.policy.bind import table_complaints, type_complaints
from phiproxy.policy.boundary import boundary_complaints
from phiproxy.policy.column_states import column_states
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.protection import waiting_slots
from phiproxy.policy.registry_layout import Layout
from phiproxy.policy.setting_values import read_secret
from phiproxy.policy.user_types import Types, indexed_as


async def keys_init(config: Path, *, as_json: bool, planned: bool, clear: Sequence[str] = ()) -> int:
    """Make KEK file, registry, identities, slots and first keys where they are missing, and say what was made.

    ``planned``: also for tables and columns that a migration will make. ``clear``: columns (schema.table.column) that are
    registered and may be in clear yet.
    """
    configuration = load(config)
    done = await _init(configuration, config, planned=planned, clear=clear)
    if as_json:
        print_json([{"database": name, "what": d.what, "subject": d.subject} for name, d in done])
    elif done:
        print_table("", ["database", "made", "of"], [(name, d.what, d.subject) for name, d in done])
    else:
        sys.stdout.write("nothing to do: the registry is as the policy needs it\n")
    for policy in configuration.policies:
        for text in await _unfinished(configuration, policy):
            sys.stderr.write(f"phiproxy: {text}\n")
    return 0


async def _unfinished(configuration: Configuration, policy: Policy) -> list[str]:
    """Say which columns are in clear, and which indexes answer nothing yet since they were added to filled columns, and why."""
    async with patient_database(configuration.settings, policy) as conn:
        layout, catalog = await survey(configuration.settings, policy, conn)
        identities = {i.identity: i for i in layout.identities.values()}
        states = column_states(policy, layout, catalog)
        lines = state_texts(states)
        for column in policy.columns_and_fields():
            if states[column.registered_name] in ("clear", "filling"):
                continue
            slots = identities[column.identity].slots
            names = [name for name, number in layout.columns.items() if number == identities[column.identity].number]
            for slot in waiting_slots(slots, column.expressions):
                shown = column.shown(slot.expression)
                lines.append(unfinished(column.label, shown, await lacking_tag(conn, names, slot.number, catalog)))
    return lines


async def _init(configuration: Configuration, path: Path, *, planned: bool, clear: Sequence[str] = ()) -> list[tuple[str, Done]]:
    settings, schema = configuration.settings, configuration.settings.service.schema_
    layouts: list[Layout] = []
    complaints = _unlisted(configuration, clear)
    foreign: list[str] = []
    types: list[Types] = []
    plain: list[list[Name]] = []
    for policy in configuration.policies:
        async with patient_database(settings, policy) as conn:
            layout = await existing_layout(conn, schema)
            names = layout.table_names if layout is not None else ()
            catalog = await read_catalog(conn, [(c.schema, c.table) for c in policy.columns()], names)
            types.append(catalog.types)
            foreign += await foreign_values(conn, policy, layout, catalog, schema)
            plain.append(await plain_fields(conn, policy, layout, catalog))
            complaints += await plaintext_complaints(conn, _with_new_slots(policy, layout), catalog)
            complaints += await other_types(conn, [c for c in policy.columns() if c.label not in clear], layout, catalog)
        # An identity number is never given back, and a mistyped column protects nothing: it is said twice that it comes later.
        complaints += [
            f"{c} (a migration will make it: --planned)" for c in table_complaints(policy, layout, catalog) if not planned
        ]
        complaints += type_complaints(policy, catalog) if planned else []
        complaints += boundary_complaints(policy, layout, catalog)
        layouts += [layout] if layout is not None else []
    if foreign:
        # A registry made now would look as if all were well.
        raise ConfigError("\n".join(foreign), hint=RESTORE)
    if complaints:
        raise ConfigError("\n".join(complaints))
    done: list[tuple[str, Done]] = []
    # With a registry but no key file, a new key could open nothing: the old file has to be brought back.
    # Other providers' keys are made where they live.
    here = settings.kek_uri.startswith("local:")
    if here and not any(layout.identities for layout in layouts) and await create_kek_file(settings.kek_uri, read_secret):
        done.append(("", Done("KEK file", settings.kek_uri.removeprefix("local:").partition("?")[0])))
    async with closing(await open_provider(settings.kek_uri, read_secret)) as provider:
        for policy, own, fields in zip(configuration.policies, types, plain, strict=True):
            async with patient_database(settings, policy) as conn:
                wanted = policy.wanted_identities(partial(indexed_as, types=own))
                max_uses = settings.keys.rotation.data_key.max_uses
                pinned = settings.keys.anchor.get(policy.database)
                asked = [*fields, *((c.schema, c.table, c.name) for c in policy.columns() if c.label in clear)]
                audited = settings.audit.enabled and policy is audit_policy(settings, configuration.policies)
                steps = await init(
                    conn,
                    wanted,
                    policy.deployment,
                    provider,
                    schema=schema,
                    max_uses=max_uses,
                    anchor=pinned,
                    clear=asked,
                    audit=audited,
                )
                done += [(policy.database, d) for d in steps.done]
                if pinned is None:
                    done += [(policy.database, d) for d in pinned_now(path, policy.database, steps.anchor)]
    return done


def _unlisted(configuration: Configuration, names: Sequence[str]) -> list[str]:
    listed = {column.label for policy in configuration.policies for column in policy.columns()}
    return [f"--clear {name}: no policy lists this column (schema.table.column)" for name in names if name not in listed]


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
    for column in policy.columns_and_fields():
        registered = identities.get(column.identity)
        expressions = {s.expression for s in registered.slots} if registered is not None else set()
        if not expressions.issuperset(column.expressions):
            fresh.append(column)
    return fresh


async def keys_list(config: Path, *, as_json: bool) -> int:
    """Print root keys, their wraps and data keys of every database."""
    configuration = load(config)
    found: list[tuple[str, ListedRoot]] = []
    for policy in configuration.policies:
        async with database(configuration.settings, policy) as conn:
            found += [(policy.database, root) for root in await list_keys(conn, configuration.settings.service.schema_)]
    if as_json:
        print_json([{"database": name, **asdict(root)} for name, root in found])
        return 0
    heads = ["database", "id", "scope", "purpose", "generation", "state", "age", "KEK", "data keys (used of max)"]
    rows = []
    for name, root in found:
        wraps = ", ".join(f"{w.kek} version {w.version}" for w in root.wraps)
        keys = ", ".join(f"{k.id:08x} {k.state} {k.used} of {k.max_uses}, {_days(k.age_seconds)}" for k in root.data_keys)
        scope = root.scope + (f", tenant {root.tenant}" if root.tenant else "")
        rows.append((name, root.id, scope, root.purpose, root.generation, root.state, _days(root.age_seconds), wraps, keys))
    print_table("", heads, rows)
    return 0


def _days(seconds: int) -> str:
    return f"{seconds // 86400} d"


async def keys_export(config: Path, only: str | None, output: Path | None) -> int:
    """Write the registry of one database as JSON: wrapped keys only. An existing file is not overwritten."""
    configuration = load(config)
    async with database(configuration.settings, configuration.policy_of(only)) as conn:
        dump = await export(conn, configuration.settings.service.schema_)
    if output is None:
        print_json(dump)
    else:
        _write_new(output, json.dumps(dump, indent=2) + "\n")
    return 0


def _write_new(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(text)


async def keys_import(config: Path, dump: Path, only: str | None) -> int:
    """Put back what ``keys export`` wrote, and pin the registry where it is not pinned."""
    configuration = load(config)
    settings, policy = configuration.settings, configuration.policy_of(only)
    content, pinned = _read_dump(dump), settings.keys.anchor.get(policy.database)
    async with opened_kek(settings, policy) as kek, database(settings, policy) as conn:
        provider, schema = kek_of(kek, ""), settings.service.schema_
        made = await import_registry(conn, content, policy.deployment, provider, schema=schema, anchor=pinned)
    done = [*made.done, *(pinned_now(config, policy.database, made.anchor) if pinned is None else [])]
    if done:
        print_table("", ["database", "made", "of"], [(policy.database, d.what, d.subject) for d in done])
    else:
        sys.stdout.write("nothing to do: the registry is as the export says\n")
    return 0


async def accept_rollback(config: Path, reason: str, only: str | None) -> int:
    """Go on with a registry that is older than proxies have seen it."""
    configuration = load(config)
    settings, policy = configuration.settings, configuration.policy_of(only)
    async with opened_kek(settings, policy) as kek, database(settings, policy) as conn:
        before, after = await accept(conn, await trusted(conn, settings, policy, kek), reason)
    sys.stdout.write(f"the registry of {policy.database} is accepted as it is: its counter was {before} and is {after}\n")
    return 0


async def open_stored(config: Path, value: str, only: str | None, registry: Path | None) -> int:
    """Print the plaintext of one stored value, as UTF-8 with a line end."""
    try:
        envelope = bytes.fromhex(value.removeprefix("\\x"))
    except ValueError:
        raise ConfigError("the stored value must be hexadecimal, as psql prints bytea (with or without \\x)") from None
    plaintext = await _open_from(load(config), envelope, only, registry)
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
