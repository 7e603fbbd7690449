"""From a data key's id to the data key: registry row, root key, checks; the same for the service and for ``phiproxy open``."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from phiproxy.crypto.envelope import envelope_parts
from phiproxy.crypto.keyring import DataKey, Keyring, Refusal
from phiproxy.crypto.seal import ColumnSpec, OpenMemo, make_opener
from phiproxy.errors import KeyNeeded, SealError
from phiproxy.keys.key_rows import DataKeyRow, RegistryReader, RootRow, refusal_of, unwrap_data_key
from phiproxy.keys.root_cache import CacheLimits, Root, RootCache
from phiproxy.keys.tenant_keks import Kek
from phiproxy.policy.registry_layout import Layout


class Resolved(NamedTuple):
    """A data key and until when it may be used."""

    key: DataKey
    expires: float


async def resolve_data_keys(ids: frozenset[int], reader: RegistryReader, roots: RootCache) -> Mapping[int, Resolved | Refusal]:
    """Return for each id its key, or why it is not used; roots are unwrapped side by side, each once.

    Raises ProviderError when a root cannot be had or the registry not be read.
    """
    resolved: dict[int, Resolved | Refusal] = dict.fromkeys(ids, "not known")
    rows = await reader.data_keys(ids)
    root_rows = {r.id: r for r in await reader.roots(frozenset(row.root_id for row in rows))}
    by_root: dict[int, list[DataKeyRow]] = {}
    for row in rows:
        root = root_rows.get(row.root_id)
        refusal: Refusal | None = "not authentic in the registry" if root is None else refusal_of(row, root)
        if refusal is None:
            by_root.setdefault(row.root_id, []).append(row)
        else:
            resolved[row.id] = refusal
    wanted = [root_rows[root_id] for root_id in by_root]
    secrets = await asyncio.gather(*(roots.get(root, stale_ok=True) for root in wanted), return_exceptions=True)
    for root, secret in zip(wanted, secrets, strict=True):
        if isinstance(secret, BaseException):
            raise secret
        for row in by_root[root.id]:
            resolved[row.id] = _unwrap(row, root, secret)
    return resolved


def _unwrap(row: DataKeyRow, root: RootRow, secret: Root) -> Resolved | Refusal:
    key = unwrap_data_key(secret.secret, row, root, stale=secret.stale)
    return Resolved(key, secret.expires) if isinstance(key, DataKey) else key


async def open_value(envelope: bytes, layout: Layout, reader: RegistryReader, kek: Kek) -> bytes:
    """Open one stored value outside the proxy, with nothing but a layout, a registry or its dump, and the KEK.

    Raises SealError (XX001) when it does not open, ProviderError when its root key cannot be had.
    """
    key_id, number, *_ = envelope_parts(envelope)
    identity = layout.identities.get(number)
    if identity is None:
        raise SealError("stored value belongs to an identity that the registry does not know")
    loop_time = asyncio.get_running_loop().time
    roots = RootCache(kek, layout.deployment, CacheLimits(), loop_time)
    resolved = (await resolve_data_keys(frozenset({key_id}), reader, roots))[key_id]
    if not isinstance(resolved, Resolved):
        raise SealError(f"data key {key_id} is {resolved}")
    ring = Keyring(loop_time)
    ring.put_data_key(resolved.key, resolved.expires)
    # The tenant is not in the envelope; it is in the authenticated context of the root above its key.
    spec = ColumnSpec(layout.deployment, resolved.key.tenant, identity.identity, identity.number)
    try:
        return make_opener(spec, ring, OpenMemo())(envelope)
    except KeyNeeded:
        raise SealError(f"data key {key_id} expired while the value was being opened") from None
