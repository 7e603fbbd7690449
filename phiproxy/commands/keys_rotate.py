"""``phiproxy keys rotate``, ``rewrap``, ``compromise`` and ``retire``: the glue between the command line and ``phiproxy.keys``."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiproxy.commands.command_context import (
    Configuration,
    closing,
    database,
    load,
    opened_kek,
    opened_registry,
    print_json,
    print_table,
)
from phiproxy.commands.jobs import job_site
from phiproxy.commands.reindex import index_of, looked_at, refuse_room, reindexed
from phiproxy.errors import ConfigError, NotAuthentic, ProviderError
from phiproxy.index.spelling import IDENTITY
from phiproxy.jobs.reindex import identity_of, look
from phiproxy.keys import open_provider
from phiproxy.keys.compromise_retire import compromise, retire, scope_of, usage_by_older
from phiproxy.keys.layout_rows import read_layout
from phiproxy.keys.local import add_kek
from phiproxy.keys.provider import KeyProvider
from phiproxy.keys.registry import Registry, record_event
from phiproxy.keys.rewrap import below, rewrap
from phiproxy.keys.root_cache import unwrap_root
from phiproxy.keys.rotation import roll_data_key, rotate_root
from phiproxy.keys.slots import following_slot, next_slot
from phiproxy.keys.tenant_keks import Kek, kek_of
from phiproxy.policy.kek_uris import absolute, complaint
from phiproxy.policy.model import Policy
from phiproxy.policy.setting_values import read_secret


@dataclass(frozen=True, slots=True)
class Site:
    """One database's registry, and the configured KEK."""

    registry: Registry
    kek: Kek
    max_uses: int


@asynccontextmanager
async def _site(configuration: Configuration, policy: Policy, older: KeyProvider | None = None) -> AsyncIterator[Site]:
    """Open a database's registry; ``older``: the KEK that the registry key may still be under."""
    settings = configuration.settings
    async with opened_kek(settings, policy) as kek, opened_registry(settings, policy, kek, older) as registry:
        yield Site(registry, kek, settings.keys.rotation.data_key.max_uses)


def _chosen(configuration: Configuration, only: str | None) -> Sequence[Policy]:
    return configuration.policies if only is None else [configuration.policy_of(only)]


async def rotate_index(
    config: Path, only: str | None, index: str, options: Mapping[str, Any], *, later: bool, dry_run: bool, as_json: bool
) -> int:
    """Give a column's index its next key, and see to it that it takes over, unless that is to be done later, or only looked at."""
    configuration = load(config)
    policy = configuration.policy_of(only)
    if dry_run:
        column, expression = index_of(policy, index)
        async with job_site(configuration, policy) as site:
            identity = identity_of(await site.registry.layout(), column.identity)
            slot, _ = following_slot(identity, expression or IDENTITY)
            return await looked_at(site, column, [slot], options, as_json=as_json)
    return await _rotate_index(configuration, policy, index, options, later=later, as_json=as_json)


async def rotate(config: Path, only: str | None, scope: str | None, *, root: bool, as_json: bool) -> int:
    """Give data roots their next data key, or themselves their next root key."""
    configuration = load(config)
    rows: list[tuple[str, str, str]] = []
    for policy in _chosen(configuration, only):
        rows += await _rotate(configuration, policy, scope, root=root)
    if scope is not None and not rows:
        raise ConfigError(f"no registry has a data root of scope {scope}", hint="phiproxy keys list shows the scopes")
    _print(rows, ["database", "of", "now"], as_json=as_json)
    return 0


async def _rotate(configuration: Configuration, policy: Policy, scope: str | None, *, root: bool) -> list[tuple[str, str, str]]:
    done = []
    async with _site(configuration, policy) as site:
        roots = [r for r in await site.registry.all_roots() if r.purpose == "data" and r.state == "active"]
        for row in [r for r in roots if scope in (None, r.scope)]:
            of_whom = row.scope + (f", tenant {row.tenant}" if row.tenant else "")
            if root:
                root_scope = (row.scope, row.tenant, row.purpose)
                now = await rotate_root(site.registry, site.kek, policy.deployment, root_scope, row, site.max_uses)
                done.append((policy.database, of_whom, f"root key generation {now.generation if now else '?'}"))
                continue
            secret = await unwrap_root(site.kek, policy.deployment, row)
            await roll_data_key(site.registry, row, secret, site.max_uses, await site.registry.active_key(row.id))
            active = await site.registry.active_key(row.id)
            done.append(
                (policy.database, of_whom, f"data key {active.id:08x}, generation {active.generation}" if active else "none")
            )
    return done


async def rotate_kek(config: Path) -> int:
    """Add a key to the file of a local KEK, and an event to each registry. Other providers' keys are rotated where they live."""
    configuration = load(config)
    settings = configuration.settings
    if not settings.kek_uri.startswith("local:"):
        raise ConfigError(
            "only the file of a local: KEK is phiproxy's own to rotate", hint="rotate this KEK where it lives, then run keys rewrap"
        )
    schema = settings.service.schema_
    async with AsyncExitStack() as stack:
        # Before anything is changed: a rotation that no registry can be told of does not happen.
        conns = [await stack.enter_async_context(database(settings, policy)) for policy in configuration.policies]
        for conn in conns:
            await read_layout(conn, schema)
        kek = await stack.enter_async_context(closing(await open_provider(settings.kek_uri, read_secret)))
        before = await kek.version()
        version = await add_kek(settings.kek_uri, read_secret)
        for conn in conns:
            await record_event(conn, schema, "KEK rotated", kek.uri, (f"version {before}", f"version {version}"))
    sys.stdout.write(f"the KEK file's current key is version {version}; now run: phiproxy keys rewrap\n")
    return 0


async def _rotate_index(
    configuration: Configuration, policy: Policy, index: str, options: Mapping[str, Any], *, later: bool, as_json: bool
) -> int:
    column, expression = index_of(policy, index)
    async with job_site(configuration, policy) as site:
        if not later:
            await look(site, column.identity)
            following, _ = following_slot(identity_of(await site.registry.layout(), column.identity), expression or IDENTITY)
            await refuse_room(site, column, [following], options)
        provider = kek_of(site.kek, "")
        slot = await next_slot(site.registry, provider, policy.deployment, column.identity, expression or IDENTITY)
        if not as_json:
            sys.stdout.write(f"{column.identity}: slot {slot.number}, generation {slot.generation}, {slot.state}\n")
        if not later:
            return await reindexed(site, column, expression or IDENTITY, options, as_json=as_json)
    if as_json:
        print_json({"identity": column.identity, "slot": slot.number, "generation": slot.generation, "state": slot.state})
    else:
        sys.stdout.write(f"writers fill it from now on; searches go by the old one until: phiproxy reindex {index}\n")
    return 0


async def keys_rewrap(
    config: Path, only: str | None, older: str | None, *, drop_old: bool, raise_minimum: bool, as_json: bool
) -> int:
    """Bring every root key under the current version of the configured KEK."""
    configuration = load(config)
    if older is not None and (wrong := complaint(older)) is not None:
        raise ConfigError(f"--from: {wrong}")
    rows = [await _rewrap(configuration, policy, older, drop_old=drop_old) for policy in _chosen(configuration, only)]
    heads = ["database", "KEK version", "wrapped anew", "old wraps dropped", "with wraps of another KEK"]
    _print(rows, heads, as_json=as_json)
    if raise_minimum:
        version = await _raise_minimum(configuration)
        sys.stderr.write(f"min_decryption_version is {version} now\n")
    return 0


async def _rewrap(
    configuration: Configuration, policy: Policy, older_uri: str | None, *, drop_old: bool
) -> tuple[str, str, int, int, int]:
    uri = None if older_uri is None else absolute(older_uri, configuration.settings.directory)
    older = None if uri is None else await open_provider(uri, read_secret)
    try:
        async with _site(configuration, policy, older) as site:
            done = await rewrap(site.registry, site.kek, policy.deployment, older=older, drop_old=drop_old)
    except ProviderError as error:
        if older is None and not isinstance(error, NotAuthentic) and error.hint is None:
            raise type(error)(error.message, hint="name the KEK before with --from, with the options it needs") from None
        raise
    finally:
        if older is not None:
            await older.close()
    return policy.database, done.version, len(done.added), len(done.dropped), len(done.kept)


async def _raise_minimum(configuration: Configuration) -> int:
    """Raise Vault's min_decryption_version to the current version; ConfigError while a wrap of any registry is below it."""
    async with closing(await open_provider(configuration.settings.kek_uri, read_secret)) as provider:
        if not hasattr(provider, "raise_min_decryption_version"):
            raise ConfigError("only a Vault key has a min_decryption_version")
        version = int(await provider.version())
        for policy in configuration.policies:
            async with _site(configuration, policy) as site:
                left = await below(site.registry, provider.uri, version)
            if left:
                raise ConfigError(f"{policy.database}: {len(left)} root keys still have a wrap below version {version}")
        await provider.raise_min_decryption_version(version)
        return version


async def keys_compromise(config: Path, key: str, reason: str, only: str | None) -> int:
    """Mark a data key as compromised."""
    configuration = load(config)
    policy, key_id = configuration.policy_of(only), _key_id(key)
    async with _site(configuration, policy) as site:
        await compromise(site.registry, site.kek, policy.deployment, key_id, reason, site.max_uses)
    sys.stdout.write(
        f"data key {key_id:08x} is compromised: it still opens, each read is logged, and nothing is written under it\n"
    )
    return 0


async def keys_retire(config: Path, key: str, only: str | None) -> int:
    """Retire a data key that nothing is sealed under; ConfigError with the columns where something is."""
    configuration = load(config)
    policy, key_id = configuration.policy_of(only), _key_id(key)
    async with _site(configuration, policy) as site:
        scope = await scope_of(site.registry, key_id)
        layout = await site.registry.layout()
        if layout.distrusted:
            # What a column is may be what was changed: nobody could say that nothing is left under the key.
            raise NotAuthentic(
                "the key registry does not verify, so the key may still be in use", hint="phiproxy check names the rows"
            )
        columns = layout.sealed_under(scope)
        async with database(configuration.settings, policy) as conn:
            lease = 3 * configuration.settings.catalog.poll
            in_use = await usage_by_older(site.registry, conn, key_id, columns, lease, _told)
        in_use = in_use or await retire(site.registry, site.kek, policy.deployment, key_id, columns)
    if in_use:
        lines = (f"data key {key_id:08x} still holds {used.values} values of {'.'.join(used.column)}" for used in in_use)
        raise ConfigError("\n".join(lines))
    sys.stdout.write(f"data key {key_id:08x} is retired: nothing opens under it any more\n")
    return 0


def _told(why: str) -> None:
    """Say what is waited for: nothing was changed until then, and nothing is where somebody interrupts it."""
    sys.stderr.write(f"phiproxy: waits: {why}\n" if why else "phiproxy: goes on\n")


def _key_id(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise ConfigError("a data key is named by its id in hexadecimal, as `keys list` shows it") from None


def _print(rows: Sequence[tuple[object, ...]], heads: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print_json([dict(zip([h.replace(" ", "_") for h in heads], row, strict=True)) for row in rows])
    else:
        print_table("", list(heads), [tuple(str(v) for v in row) for row in rows])
