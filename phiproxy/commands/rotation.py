"""``phiproxy keys rotate``, ``rewrap``, ``compromise`` and ``retire``: the glue between the command line and ``phiproxy.keys``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from phiproxy.commands.context import (
    Configuration,
    database,
    load,
    opened_kek,
    opened_registry,
    print_json,
    print_table,
    run,
    survey,
)
from phiproxy.errors import ConfigError, NotAuthentic, ProviderError
from phiproxy.keys import open_provider
from phiproxy.keys.ending import Usage, compromise, retire, scope_of
from phiproxy.keys.keks import Kek, kek_of
from phiproxy.keys.local import add_kek
from phiproxy.keys.provider import KeyProvider
from phiproxy.keys.registry import Registry, read_layout, record_event
from phiproxy.keys.rewrap import below, rewrap
from phiproxy.keys.roots import unwrap_root
from phiproxy.keys.rotation import roll_data_key, rotate_root
from phiproxy.keys.slots import next_slot
from phiproxy.ops.sealed import Counted, lacking_tag
from phiproxy.policy.kek import absolute, complaint
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.protection import Slot
from phiproxy.policy.values import read_secret

UNFINISHED = (
    "what is stored from now on has a tag in the new slot too; every use goes on with the old one until phiproxy can change over,"
    " which is not in this version"
)


@dataclass(frozen=True, slots=True)
class Site:
    """One database's registry, and the configured KEK."""

    policy: Policy
    registry: Registry
    kek: Kek
    max_uses: int

    @property
    def deployment(self) -> str:
        """The policy's deployment."""
        return self.policy.deployment


@asynccontextmanager
async def _site(configuration: Configuration, policy: Policy, older: KeyProvider | None = None) -> AsyncIterator[Site]:
    """Open a database's registry; ``older``: the KEK that the registry key may still be under."""
    settings = configuration.settings
    async with opened_kek(settings, policy) as kek, opened_registry(settings, policy, kek, older) as registry:
        yield Site(policy, registry, kek, settings.keys.rotation.data_key.max_uses)


def _chosen(configuration: Configuration, only: str | None) -> Sequence[Policy]:
    return configuration.policies if only is None else [configuration.policy_of(only)]


def rotate(config: Path, only: str | None, scope: str | None, index: str | None, *, root: bool, as_json: bool) -> int:
    """Give data roots their next data key, or themselves their next root key, or a column's index its next slot."""
    configuration = load(config)
    if index is not None and (root or scope is not None):
        raise ConfigError("--index rotates one column's index key; it goes with neither --root nor --scope")
    if index is not None:
        return _rotate_index(configuration, configuration.policy_of(only), index, as_json=as_json)
    rows: list[tuple[str, str, str]] = []
    for policy in _chosen(configuration, only):
        rows += run(_rotate(configuration, policy, scope, root=root))
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
                place = (row.scope, row.tenant, row.purpose)
                now = await rotate_root(site.registry, site.kek, site.deployment, place, row, site.max_uses)
                done.append((policy.database, of_whom, f"root key generation {now.generation if now else '?'}"))
                continue
            secret = await unwrap_root(site.kek, site.deployment, row)
            await roll_data_key(site.registry, row, secret, site.max_uses, await site.registry.active_key(row.id))
            active = await site.registry.active_key(row.id)
            done.append(
                (policy.database, of_whom, f"data key {active.id:08x}, generation {active.generation}" if active else "none")
            )
    return done


def rotate_kek(config: Path) -> int:
    """Add a key to the file of a local KEK, and an event to each registry. Other providers' keys are rotated where they live."""
    configuration = load(config)
    settings = configuration.settings
    if not settings.kek_uri.startswith("local:"):
        raise ConfigError(
            "only the file of a local: KEK is phiproxy's own to rotate", hint="rotate this KEK where it lives, then run keys rewrap"
        )
    version = run(_rotate_kek(configuration))
    sys.stdout.write(f"the KEK file's current key is version {version}; now run: phiproxy keys rewrap\n")
    return 0


async def _rotate_kek(configuration: Configuration) -> int:
    settings, schema = configuration.settings, configuration.settings.service.schema_
    async with AsyncExitStack() as stack:
        # Before anything is changed: a rotation that no registry can be told of does not happen.
        conns = [await stack.enter_async_context(database(settings, policy)) for policy in configuration.policies]
        for conn in conns:
            await read_layout(conn, schema)
        kek = await open_provider(settings.kek_uri, read_secret)
        stack.push_async_callback(kek.close)
        before = await kek.version()
        version = await add_kek(settings.kek_uri, read_secret)
        for conn in conns:
            await record_event(conn, schema, "KEK rotated", kek.uri, (f"version {before}", f"version {version}"))
    return version


def _rotate_index(configuration: Configuration, policy: Policy, index: str, *, as_json: bool) -> int:
    column, expression = _index_of(policy, index)
    stored = run(_stored(configuration, policy, column))
    if stored is None or stored.values:
        many = "values that the service role may not see" if stored is None else f"{stored.values} values"
        raise ConfigError(
            f"{column.label} holds {many}, which have no tag under another index key: they must be rewritten first,"
            " which is not possible in this version",
            hint="rotate the index key while its columns are empty",
        )
    slot = run(_next_slot(configuration, policy, column, expression))
    told = f"{column.identity}: slot {slot.number}, generation {slot.generation}, {slot.state}"
    if as_json:
        print_json({"identity": column.identity, "slot": slot.number, "generation": slot.generation, "state": slot.state})
    else:
        sys.stdout.write(f"{told}\n{UNFINISHED}\n")
    return 0


async def _stored(configuration: Configuration, policy: Policy, column: PolicyColumn) -> Counted | None:
    """Count what the columns of an identity hold; None where row-level security hides some of it."""
    async with database(configuration.settings, policy) as conn:
        layout, catalog = await survey(configuration.settings, policy, conn)
        number = next((i.number for i in layout.identities.values() if i.identity == column.identity), None)
        return await lacking_tag(conn, [name for name, of in layout.columns.items() if of == number], 0, catalog)


async def _next_slot(configuration: Configuration, policy: Policy, column: PolicyColumn, expression: str) -> Slot:
    async with _site(configuration, policy) as site:
        return await next_slot(site.registry, kek_of(site.kek, ""), site.deployment, column.identity, expression)


def _index_of(policy: Policy, index: str) -> tuple[PolicyColumn, str]:
    """Find ``schema.table.column`` or ``schema.table.column:expression`` (as the registry spells it) in a policy."""
    name, colon, expression = index.partition(":")
    for column in policy.columns():
        if f"{column.schema}.{column.table}.{column.name}" == name:
            wanted = expression if colon else "@"
            if wanted not in column.expressions:
                known = ", ".join(column.expressions) or "none"
                raise ConfigError(f"{name} has no index {wanted} (its indexes, @ for the column: {known})")
            return column, wanted
    raise ConfigError(f"no protected column is named {name}", hint="write schema.table.column, and :EXPRESSION for an index of it")


def keys_rewrap(config: Path, only: str | None, older: str | None, *, drop_old: bool, raise_minimum: bool, as_json: bool) -> int:
    """Bring every root key under the current version of the configured KEK."""
    configuration = load(config)
    if older is not None and (wrong := complaint(older)) is not None:
        raise ConfigError(f"--from: {wrong}")
    rows = [run(_rewrap(configuration, policy, older, drop_old=drop_old)) for policy in _chosen(configuration, only)]
    heads = ["database", "KEK version", "wrapped anew", "old wraps dropped", "with wraps of another KEK"]
    _print(rows, heads, as_json=as_json)
    if raise_minimum:
        version = run(_raise_minimum(configuration))
        sys.stderr.write(f"min_decryption_version is {version} now\n")
    return 0


async def _rewrap(
    configuration: Configuration, policy: Policy, older_uri: str | None, *, drop_old: bool
) -> tuple[str, str, int, int, int]:
    uri = None if older_uri is None else absolute(older_uri, configuration.settings.directory)
    older = None if uri is None else await open_provider(uri, read_secret)
    try:
        async with _site(configuration, policy, older) as site:
            done = await rewrap(site.registry, site.kek, site.deployment, older=older, drop_old=drop_old)
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
    provider = await open_provider(configuration.settings.kek_uri, read_secret)
    try:
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
    finally:
        await provider.close()


def keys_compromise(config: Path, key: str, reason: str, only: str | None) -> int:
    """Mark a data key as compromised."""
    configuration = load(config)
    policy, key_id = configuration.policy_of(only), _key_id(key)
    run(_compromise(configuration, policy, key_id, reason))
    sys.stdout.write(
        f"data key {key_id:08x} is compromised: it still opens, each read is logged, and nothing is written under it\n"
    )
    return 0


async def _compromise(configuration: Configuration, policy: Policy, key_id: int, reason: str) -> None:
    async with _site(configuration, policy) as site:
        await compromise(site.registry, site.kek, site.deployment, key_id, reason, site.max_uses)


def keys_retire(config: Path, key: str, only: str | None) -> int:
    """Retire a data key that nothing is sealed under; 1, and the columns, where something is."""
    configuration = load(config)
    policy, key_id = configuration.policy_of(only), _key_id(key)
    in_use = run(_retire(configuration, policy, key_id))
    for used in in_use:
        sys.stderr.write(f"phiproxy: data key {key_id:08x} still holds {used.values} values of {'.'.join(used.column)}\n")
    if not in_use:
        sys.stdout.write(f"data key {key_id:08x} is retired: nothing opens under it any more\n")
    return 1 if in_use else 0


async def _retire(configuration: Configuration, policy: Policy, key_id: int) -> list[Usage]:
    async with _site(configuration, policy) as site:
        scope = await scope_of(site.registry, key_id)
        layout = await site.registry.layout()
        if layout.distrusted:
            # What a column is may be what was changed: nobody could say that nothing is left under the key.
            raise NotAuthentic(
                "the key registry does not verify, so the key may still be in use", hint="phiproxy check names the rows"
            )
        numbers = {i.number for i in layout.identities.values() if i.scope == scope}
        columns = sorted(name for name, number in layout.columns.items() if number in numbers)
        return await retire(site.registry, site.kek, site.deployment, key_id, columns)


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
