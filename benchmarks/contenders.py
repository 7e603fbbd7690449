"""The ways to the server that are measured side by side, and what stands between on each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.site import PLAIN, PROTECTED, Site

DIRECT = "PostgreSQL directly"
FORWARDER = "byte forwarder (uvloop)"
BOUNCER = "PgBouncer"
NO_POLICY = "phiproxy, no policy"
OTHER = "phiproxy, policy on other tables"
SEALED = "phiproxy, encrypted"
AUDITED = "phiproxy, encrypted, audited"
AUDITED_IN_MEMORY = "phiproxy, encrypted, audited in memory"
MEMORY = Path("/dev/shm")  # noqa: S108 - directories of its own are made in it
"""A file system in memory, where a sync takes nothing: what is left is the proxy's own part of an audit log."""

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
        audited, auditing = stack.enter_context(site.proxy(log=site.home / "audit"))
        logs = stack.enter_context(TemporaryDirectory(dir=MEMORY)) if MEMORY.is_dir() else None
        in_memory = stack.enter_context(site.proxy(log=Path(logs))) if logs is not None else None
        forwarder, forwarding = stack.enter_context(site.forwarder())
        pooler = stack.enter_context(site.pooler())
        found = [
            Contender(DIRECT, site.server.port, PLAIN),
            Contender(FORWARDER, forwarder, PLAIN, forwarding),
            *([Contender(BOUNCER, *_reversed(pooler))] if pooler else []),
            Contender(NO_POLICY, proxy, PLAIN, pids),
            Contender(OTHER, proxy, PROTECTED, pids),
            Contender(SEALED, proxy, PROTECTED, pids),
            Contender(AUDITED, audited, PROTECTED, auditing),
            *([Contender(AUDITED_IN_MEMORY, in_memory[0], PROTECTED, in_memory[1])] if in_memory else []),
        ]
        yield {c.name: c for c in found}


def _reversed(pooler: tuple[int, tuple[int, ...]]) -> tuple[int, str, tuple[int, ...]]:
    port, pids = pooler
    return port, PLAIN, pids
