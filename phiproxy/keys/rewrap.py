"""Root keys under a new KEK, or a new version of it: a wrap is added, verified by unwrapping it, and only then the old one may go.

No row of any table is touched. Tracked by version, since a KEK that was rotated in place keeps its name. Each root is done by
itself, so a run that was broken off is taken up by the next, and a run with nothing to do does nothing.
"""

import hmac
from dataclasses import dataclass, field

from phiproxy.errors import ConfigError, ProviderDenied, ProviderMisconfigured
from phiproxy.keys.key_rows import RootRow, WrapRow
from phiproxy.keys.key_state_changes import add_wrap, announce, drop_wrap
from phiproxy.keys.provider import KeyProvider, Wrapped
from phiproxy.keys.registry import Registry
from phiproxy.keys.root_cache import refuse_unauthentic, unwrap_root
from phiproxy.keys.tenant_keks import Kek, kek_of


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What a run did, by root id: ``added`` under the current version, ``dropped`` from others, ``kept`` others standing."""

    version: str
    added: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)


async def rewrap(
    registry: Registry, kek: Kek, deployment: str, *, older: KeyProvider | None = None, drop_old: bool = False
) -> Rewrapped:
    """Bring every root key of a registry under the provider's current KEK version.

    ``older`` is the KEK before, where the new one does not open its wraps. Wraps under an older version of the *same* KEK go at
    once, since every proxy that can use the KEK can use its newest version. Wraps under another KEK stay for the proxies that are
    still configured with it, until ``drop_old``. Raises ProviderError; what was done before stays done.
    """
    done = Rewrapped(await kek_of(kek, "").version())
    roots = await registry.all_roots()
    for root in roots:
        refuse_unauthentic(root)
        await _one(registry, root, kek_of(kek, root.tenant), deployment, older, done, drop_old=drop_old)
    if done.added or done.dropped:
        async with registry.transaction() as conn:
            await announce(conn, registry.schema)
    return done


async def _one(
    registry: Registry,
    root: RootRow,
    provider: KeyProvider,
    deployment: str,
    older: KeyProvider | None,
    done: Rewrapped,
    *,
    drop_old: bool,
) -> None:
    current = (provider.uri, await provider.version())
    standing = next((w for w in root.wraps if (w.kek_uri, w.kek_version) == current), None)
    if root.state in ("retired", "destroyed") or (standing is not None and len(root.wraps) == 1):
        return
    wrapped = Wrapped(standing.blob, standing.kek_version) if standing is not None else None
    if wrapped is None:
        wrapped = await _wrapped_anew(root, provider, deployment, older)
        async with registry.changing() as change:
            await add_wrap(change, root, provider.uri, wrapped)
        done.added.append(root.id)
    others = [w for w in root.wraps if (w.kek_uri, w.kek_version) != (provider.uri, wrapped.version)]
    going = [w for w in others if drop_old or (w.kek_uri == provider.uri and await _opens(provider, w, root, deployment))]
    if going:
        # Not what was verified when it was added, perhaps by somebody else: what stands there now.
        await provider.unwrap(wrapped.blob, wrapped.version, root.context(deployment))
    for wrap in going:
        async with registry.changing() as change:
            if await drop_wrap(change, root, wrap, (provider.uri, wrapped.version)):
                done.dropped.append(root.id)
    if len(going) < len(others):
        done.kept.append(root.id)


async def _wrapped_anew(root: RootRow, provider: KeyProvider, deployment: str, older: KeyProvider | None) -> Wrapped:
    """Return a wrap under the current version that was seen to unwrap to the same root as the old one."""
    context = root.context(deployment)
    before = await _opened(root, provider, deployment, older)
    same = [w for w in root.wraps if w.kek_uri == provider.uri]
    opening = [w for w in same if await _opens(provider, w, root, deployment)]
    own = opening[0] if opening else None
    # Where it can, the provider does it without showing the key; the comparison below is about another unwrapping anyway.
    wrapped = await (provider.rewrap(own.blob, own.kek_version, context) if own is not None else provider.wrap(before, context))
    if not hmac.compare_digest(await provider.unwrap(wrapped.blob, wrapped.version, context), before):
        raise ProviderMisconfigured(f"the key provider does not unwrap root key {root.id} as it was; nothing was dropped")
    return wrapped


async def _opened(root: RootRow, provider: KeyProvider, deployment: str, older: KeyProvider | None) -> bytes:
    errors: list[Exception] = []
    for candidate in (provider, older):
        if candidate is not None and any(candidate.covers(w.kek_uri) for w in root.wraps):
            try:
                return await unwrap_root(candidate, deployment, root)
            except ProviderDenied as error:
                errors.append(error)
    if errors:
        raise errors[-1]
    names = ", ".join(sorted({w.kek_uri for w in root.wraps}))
    raise ConfigError(
        f"root key {root.id} of {root.scope} is wrapped under {names or 'no KEK at all'}",
        hint="name that KEK with --from, with the options it needs",
    )


async def _opens(provider: KeyProvider, wrap: WrapRow, root: RootRow, deployment: str) -> bool:
    """Tell whether this KEK, as every proxy has it, opens both: a new key in the file of the old one does not."""
    try:
        await provider.unwrap(wrap.blob, wrap.kek_version, root.context(deployment))
    except ProviderDenied:
        return False
    return True


async def below(registry: Registry, kek_uri: str, version: int) -> list[int]:
    """Return the roots that have a wrap under a version of this KEK lower than ``version``: it is in use."""
    roots = await registry.all_roots()
    return [r.id for r in roots if any(w.kek_uri == kek_uri and int(w.kek_version) < version for w in r.wraps)]
