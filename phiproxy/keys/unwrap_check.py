"""Whether the KEK unwraps the root keys of a registry: each is tried, and what was unwrapped is dropped at once."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from psycopg import sql

from phiproxy.crypto.key_derivation import wipe
from phiproxy.crypto.keyring import OPENING
from phiproxy.errors import ProviderDenied, ProviderError, ProviderUnavailable
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.key_state_changes import root_subject
from phiproxy.keys.registry import Connection, select_roots, view_roots
from phiproxy.keys.registry_checked_on_read import Trust
from phiproxy.keys.root_cache import unwrap_root
from phiproxy.keys.tenant_keks import Kek, TenantKeks

# How many unwraps are on their way at once: a provider limits calls, and an HSM has few sessions.
AT_ONCE = 8
# How many are asked for before a proxy serves: there may be some for each of thousands of tenants.
FIRST = 200


class Unopened(NamedTuple):
    """A root key that the KEK does not open, and why: its text names keys and files, and holds no secret."""

    root: RootRow
    error: ProviderError

    @property
    def text(self) -> str:
        """One line for people."""
        return f"{root_subject(self.root)}: {self.error.message}"


async def opening_roots(conn: Connection, schema: str, trust: Trust | None = None) -> list[RootRow]:
    """Return the root keys that stored values may need, in whatever state they still open. Raises psycopg.Error.

    With ``trust`` only those that are authentic, and NotAuthentic where nothing is: a row that somebody else has written is refused
    where it is needed, and says nothing of the KEK.
    """
    where, states = sql.SQL("t.state = ANY(%s)"), (sorted(OPENING),)
    if trust is None:
        return await select_roots(conn, schema, where, states)
    async with trust.reading(conn) as view:
        return [root for root in await view_roots(view, where, states) if root.authentic]


def first(roots: Iterable[RootRow]) -> list[RootRow]:
    """Return the root keys to ask for before a proxy serves: all of them, or of very many those that most statements need."""
    return sorted(roots, key=lambda root: (root.state != "active", root.tenant != "", root.id))[:FIRST]


async def unopened(kek: Kek, deployment: str, roots: Iterable[RootRow]) -> list[Unopened]:
    """Unwrap root keys through the KEK and return those that it does not open.

    A provider that does not answer is not asked for the rest: each question would wait as long as the first.
    """
    waiting, failed = list(roots), list[Unopened]()
    while waiting:
        asked, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        errors = await asyncio.gather(*(_error_of(kek, deployment, root) for root in asked))
        failed += [Unopened(root, error) for root, error in zip(asked, errors, strict=True) if error is not None]
        if any(isinstance(error, ProviderUnavailable) for error in errors):
            break
    return failed


async def _error_of(kek: Kek, deployment: str, root: RootRow) -> ProviderError | None:
    try:
        secret = bytearray(await unwrap_root(kek, deployment, root))
    except ProviderError as error:
        return error
    wipe(secret)
    return None


def decisive(failed: Iterable[Unopened], kek: Kek) -> list[Unopened]:
    """Return those without which the database cannot be served: an active root under the deployment's own KEK.

    An older generation, or a tenant whose KEK is its own, concerns the statements that need it, and those are refused one by one.
    """
    own = kek.own if isinstance(kek, TenantKeks) else frozenset[str]()
    return [each for each in failed if each.root.state == "active" and each.root.tenant not in own]


def as_error(failed: Sequence[Unopened], uri: str) -> ProviderError:
    """Return the error that says that a KEK does not open a registry's roots, or that it does not answer."""
    silent = next((each for each in failed if isinstance(each.error, ProviderUnavailable)), None)
    if silent is not None:
        return ProviderUnavailable(f"the key provider does not answer: {silent.error.message}", hint=silent.error.hint)
    lines = "\n".join(each.text for each in failed)
    return ProviderDenied(
        f"the KEK {uri} does not open the root keys of the registry:\n{lines}",
        hint="bring back the KEK that `phiproxy keys list` names; one that took its place: phiproxy keys rewrap --from OLD-URI",
    )
