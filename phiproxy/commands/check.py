"""``phiproxy check``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from phiproxy.commands.checkregistry import check_registry
from phiproxy.commands.context import (
    Configuration,
    Connection,
    busy,
    database,
    existing_layout,
    load,
    opened_kek,
    print_json,
    print_table,
    run,
)
from phiproxy.errors import PhiproxyError
from phiproxy.keys.collation import observe
from phiproxy.keys.opens import opening_roots, unopened
from phiproxy.keys.registry import read_layout
from phiproxy.net.binding import check_certificates
from phiproxy.net.catalog import read_catalog
from phiproxy.net.tls import client_offer, upstream_context
from phiproxy.net.upstream import Connector
from phiproxy.net.verifiers import open_verifiers
from phiproxy.ops.check import Finding, check_database
from phiproxy.ops.sealed import RESTORE, foreign_values
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings


def check(config: Path, *, as_json: bool) -> int:
    """Print every finding of every database; 1 when one is an error."""
    configuration = load(config)
    report: list[tuple[str, Finding]] = []
    for policy in configuration.policies:
        # measuring leakage reads whole tables
        with busy(f"checking {policy.database}"):
            report += [(policy.database, finding) for finding in run(_check(configuration, policy))]
    with busy("checking how clients log in"):
        report.append(("", run(_logins(configuration))))
    if as_json:
        print_json([{"database": name, **asdict(finding)} for name, finding in report])
    else:
        print_table("", ["database", "", "about", "finding"], [(name, f.level, f.topic, f.text) for name, f in report])
    return 1 if any(f.level == "error" for _, f in report) else 0


async def _logins(configuration: Configuration) -> Finding:
    """Say whether clients can log in as the configuration wants it: certificates of both legs, verifiers."""
    settings = configuration.settings
    try:
        offer = client_offer(settings.tls)
        if settings.auth.mode == "scram":
            await (await open_verifiers(settings, [policy.database for policy in configuration.policies])).close()
        elif settings.auth.different_certificates == "refuse":
            await check_certificates(Connector(settings.upstream, upstream_context(settings.upstream)), offer)
    except PhiproxyError as error:
        return Finding("error", "login", error.message)
    return Finding("ok", "login", f"auth.mode {settings.auth.mode}, TLS to clients: {settings.tls.mode if offer else 'disable'}")


async def _check(configuration: Configuration, policy: Policy) -> list[Finding]:
    settings = configuration.settings
    files = Finding("ok", "configuration", "both files are valid")
    try:
        async with database(settings, policy) as conn:
            layout = await existing_layout(conn, settings.service.schema_)
            names = {*(layout.table_names if layout is not None else ()), *(place[1] for place in policy.boundary(()).released)}
            catalog = await read_catalog(conn, {(c.schema, c.table) for c in policy.columns()}, names)
            if foreign := await foreign_values(conn, policy, layout, catalog, settings.service.schema_):
                return [files, *(Finding("error", "registry", f"{line}: {RESTORE}") for line in foreign)]
            if layout is None:
                layout = await read_layout(conn, settings.service.schema_)  # which says what is wrong
            keys = await _keys(settings, policy, conn)
            registry, verified = await check_registry(conn, settings, policy, catalog)
            known = verified or layout
            own = await check_database(conn, policy, known, catalog, settings.service.schema_, await observe(conn))
            return [files, *keys, *registry, *own]
    except PhiproxyError as error:
        text = error.message + (f"; {error.hint}" if error.hint else "")
        return [files, *(Finding("error", "database", line) for line in text.split("\n"))]


async def _keys(settings: Settings, policy: Policy, conn: Connection) -> list[Finding]:
    """Say whether the configured KEKs open the root keys of the registry: each is unwrapped."""
    roots = await opening_roots(conn, settings.service.schema_)
    try:
        async with opened_kek(settings, policy) as kek:
            failed, uri = await unopened(kek, policy.deployment, roots), kek.uri
    except PhiproxyError as error:
        return [Finding("error", "keys", error.message + (f"; {error.hint}" if error.hint else ""))]
    if not failed:
        return [Finding("ok", "keys", f"all {len(roots)} root keys open under {uri}")]
    return [Finding("error", "keys", f"the KEK {uri} does not open {each.text}") for each in failed]
