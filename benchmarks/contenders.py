"""The ways to the server that are measured side by side, and what stands between on each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.site import PLAIN, PROTECTED, Site

DIRECT = "PostgreSQL directly"
FORWARDER = "byte forwarder (uvloop)"
BOUNCER = "PgBouncer"
NO_POLICY = "phiproxy, no policy"
OTHER = "phiproxy, policy on other tables"
SEALED = "phiproxy, encrypted"
TWO_WORKERS = "phiproxy, encrypted, 2 workers"

UNPROTECTED_WAYS = (DIRECT, FORWARDER, BOUNCER, NO_POLICY, OTHER)
PROTECTED_WAYS = (DIRECT, FORWARDER, BOUNCER, SEALED)


@dataclass(frozen=True)
class Contender:
    """One way: ``pids`` are the processes between client and server, whose CPU and memory are counted."""

    name: str
    port: int
    database: str
    pids: tuple[int, ...] = ()


@contextmanager
def contenders(site: Site) -> Iterator[dict[str, Contender]]:
    """Start everything in front of the server and load the rows through it."""
    with ExitStack() as stack:
        proxy, pids = stack.enter_context(site.proxy())
        site.load(proxy)
        two, workers = stack.enter_context(site.proxy(workers=2))
        forwarder, forwarding = stack.enter_context(site.forwarder())
        pooler = stack.enter_context(site.pooler())
        found = [
            Contender(DIRECT, site.server.port, PLAIN),
            Contender(FORWARDER, forwarder, PLAIN, forwarding),
            *([Contender(BOUNCER, *_reversed(pooler))] if pooler else []),
            Contender(NO_POLICY, proxy, PLAIN, pids),
            Contender(OTHER, proxy, PROTECTED, pids),
            Contender(SEALED, proxy, PROTECTED, pids),
            Contender(TWO_WORKERS, two, PROTECTED, workers),
        ]
        yield {c.name: c for c in found}


def _reversed(pooler: tuple[int, tuple[int, ...]]) -> tuple[int, str, tuple[int, ...]]:
    port, pids = pooler
    return port, PLAIN, pids
