"""``phiproxy check``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from phiproxy.commands.checkregistry import check_registry
from phiproxy.commands.context import Configuration, busy, database, load, print_json, print_table, run, survey
from phiproxy.errors import PhiproxyError
from phiproxy.keys.collation import observe
from phiproxy.net.binding import check_certificates
from phiproxy.net.tls import client_offer, upstream_context
from phiproxy.net.upstream import Connector
from phiproxy.net.verifiers import open_verifiers
from phiproxy.ops.check import Finding, check_database
from phiproxy.policy.model import Policy


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
            layout, catalog = await survey(settings, policy, conn)
            registry, verified = await check_registry(conn, settings, policy, catalog)
            known = verified or layout
            own = await check_database(conn, policy, known, catalog, settings.service.schema_, await observe(conn))
            return [files, *registry, *own]
    except PhiproxyError as error:
        text = error.message + (f"; {error.hint}" if error.hint else "")
        return [files, *(Finding("error", "database", line) for line in text.split("\n"))]
