"""Rotation of data keys and root keys, in two phases: a key is pending, and read by every proxy, before it is the one that seals.

A crash between the phases leaves a pending key, and whoever rotates next promotes that one. Of many who rotate at once one wins,
and the others read what it left (spec/stored-format 3.3; SP 800-57 part 1, section 5.3.6 for the periods).
When a key is due is seen in ``key_service``.
"""

from psycopg import Rollback

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.key_rows import DataKeyRow, RootRow, in_state, is_authentic, new_data_key
from phiproxy.keys.key_state_changes import announce, set_data_key_state, set_root_state
from phiproxy.keys.new_tenants import new_root_key
from phiproxy.keys.provider import KeyProvider, Purpose
from phiproxy.keys.registry import Registry, insert_data_key, select_data_keys
from phiproxy.keys.root_cache import unwrap_root
from phiproxy.keys.tenant_keks import Kek, kek_of


async def roll_data_key(registry: Registry, root: RootRow, secret: bytes, max_uses: int, expected: DataKeyRow | None) -> None:
    """Give a data root its next data key, unless ``expected`` (None: none) is no longer the active one.

    ``secret`` is the root's. Nothing is raised when somebody else was first: look again. Raises ProviderMisconfigured when a key
    row is not authentic.
    """
    pending = await _pending_key(registry, root, secret, max_uses)
    if pending is None:
        return
    async with registry.changing() as change:
        if expected is not None and not await set_data_key_state(change, expected, in_state(secret, expected, "decrypt_only")):
            return
        rows = await select_data_keys(change.conn, change.schema, root.id)
        if any(row.state == "active" for row in rows):
            return
        if not await set_data_key_state(change, pending, in_state(secret, pending, "active")):
            raise Rollback
        await announce(change.conn, change.schema)


async def _pending_key(registry: Registry, root: RootRow, secret: bytes, max_uses: int) -> DataKeyRow | None:
    """Return the pending key of a root, made now if there is none; None when somebody else was busy with it."""
    rows = await registry.keys_of(root.id)
    pending = next((row for row in rows if row.state == "pending"), None)
    if pending is None:
        new = new_data_key(secret, root.id, max((r.generation for r in rows), default=0) + 1, max_uses, "pending")
        async with registry.changing() as change:
            await insert_data_key(change, new)
        rows = await registry.keys_of(root.id)
        pending = next((row for row in rows if row.state == "pending"), None)
    if pending is not None and not is_authentic(secret, pending):
        raise ProviderMisconfigured(f"the pending data key {pending.id:08x} is not authentic in the registry")
    return pending


async def rotate_root(
    registry: Registry, kek: Kek, deployment: str, root_scope: tuple[str, str, Purpose], expected: RootRow, max_uses: int
) -> RootRow | None:
    """Give (scope, tenant, data) its next root key and that its first data key, unless ``expected`` is no longer active.

    Returns the root that is active now. The old root's data keys go on opening. Raises whatever the provider raises; nothing is
    promoted then.
    """
    provider = kek_of(kek, root_scope[1])
    old_secret = await unwrap_root(provider, deployment, expected)
    pending = await _pending_root(registry, provider, deployment, root_scope)
    if pending is not None:
        # Made by somebody else, perhaps long ago: only what opens is promoted.
        secret = await unwrap_root(provider, deployment, pending)
        async with registry.changing() as change:
            if await set_root_state(change, expected, "decrypt_only"):
                for row in await select_data_keys(change.conn, change.schema, expected.id):
                    if row.state in ("active", "pending") and is_authentic(old_secret, row):
                        await set_data_key_state(change, row, in_state(old_secret, row, "decrypt_only"))
                first = new_data_key(secret, pending.id, 1, max_uses)
                promoted = await set_root_state(change, pending, "active")
                if not promoted or not await insert_data_key(change, first):
                    raise Rollback
                await announce(change.conn, change.schema)
    return await registry.root_at(*root_scope)


async def _pending_root(
    registry: Registry, provider: KeyProvider, deployment: str, root_scope: tuple[str, str, Purpose]
) -> RootRow | None:
    roots = await registry.roots_of(*root_scope)
    pending = next((root for root in roots if root.state == "pending"), None)
    if pending is None:
        generation = max((root.generation for root in roots), default=0) + 1
        row = RootRow(0, *root_scope, generation, "pending", ())
        # Outside of any transaction: no lock is held while the provider is asked.
        new = await new_root_key(provider, row, deployment)
        await registry.add_root(row, provider.uri, new.wrapped)
        roots = await registry.roots_of(*root_scope)
        pending = next((root for root in roots if root.state == "pending"), None)
    return pending
