"""A clinic whose proxy has an audit log, and what that says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phiproxy.audit.reading import records
from tests.harness.clinic import DDL, POLICY
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site


@contextmanager
def audited_site(
    server: PostgresServer,
    directory: Path,
    settings: str,
    *,
    policy: str = POLICY,
    ddl: str = DDL,
    metrics: int | None = None,
    more: str = "",
) -> Iterator[Site]:
    """Yield a site with these settings of ``audit``, and ``more`` of the file; with metrics at a port."""
    with open_site(server, directory, policy=policy, ddl=ddl, serve=False) as site:
        listens = f"metrics: {{listen: 127.0.0.1:{metrics}}}" if metrics is not None else "metrics: null"
        site.config.write_text(f"{site.config.read_text()}audit: {{{settings}}}\n{more}".replace("metrics: null", listens))
        site.cli("keys", "init")
        site.proxy.start()
        yield site


def log_of(site: Site, **fields: object) -> list[dict[str, Any]]:
    """Return the records that have these fields, in their order."""
    found = [dict(record) for record in records(site.directory / "audit")]
    return [record for record in found if all(record.get(name) == value for name, value in fields.items())]


def last(site: Site, **fields: object) -> dict[str, Any]:
    """Return the last record that has these fields."""
    return log_of(site, **fields)[-1]


def verified(site: Site, *arguments: str) -> dict[str, Any]:
    """Return what ``audit verify`` says."""
    key = site.cli("audit", "key").strip()
    done = run_cli("audit", "verify", str(site.directory / "audit"), "--key", key, "--json", *arguments)
    result: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if result["genuine"] else 1)
    return result


def no_secret_is_in(site: Site, *secrets: str) -> None:
    """See that none of these stands in a file of the log."""
    text = b"".join(path.read_bytes() for path in (site.directory / "audit").iterdir())
    assert [secret for secret in secrets if secret.encode() in text] == []
