"""``phiproxy check``."""

from dataclasses import asdict
from pathlib import Path

from phiproxy.commands.check_engine import check_engine
from phiproxy.commands.check_jobs import check_jobs
from phiproxy.commands.check_registry import check_registry
from phiproxy.commands.command_context import (
    Configuration,
    Connection,
    busy,
    database,
    existing_layout,
    load,
    opened_kek,
    print_json,
    print_table,
)
from phiproxy.errors import PhiproxyError
from phiproxy.keys.layout_rows import read_layout
from phiproxy.keys.registered_collation import observe
from phiproxy.keys.unwrap_check import opening_roots, unopened
from phiproxy.net.catalog_reader import read_catalog
from phiproxy.net.channel_binding import check_certificates
from phiproxy.net.pooling_check import refuse_transaction_pooling
from phiproxy.net.role_members import unknown_roles
from phiproxy.net.scram_verifiers import open_verifiers
from phiproxy.net.tls import client_offer, upstream_context
from phiproxy.net.upstream import Connector
from phiproxy.ops.database_check import Finding, Level, check_database
from phiproxy.ops.stored_values import RESTORE, foreign_values
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings


async def check(config: Path, *, as_json: bool) -> int:
    """Print every finding of every database; 1 when one is an error."""
    report = await findings(load(config))
    if as_json:
        print_json([{"database": name, **asdict(finding)} for name, finding in report])
    else:
        print_table("", ["database", "", "about", "finding"], [(name, f.level, f.topic, f.text) for name, f in report])
    return 1 if any(f.level == "error" for _, f in report) else 0


async def findings(configuration: Configuration) -> list[tuple[str, Finding]]:
    """Return every finding, with the database that it is about."""
    report: list[tuple[str, Finding]] = []
    for policy in configuration.policies:
        # measuring leakage reads whole tables
        with busy(f"checking {policy.database}"):
            report += [(policy.database, finding) for finding in await _check(configuration, policy)]
    with busy("checking how clients log in"):
        report.append(("", await _logins(configuration)))
    return report


async def _logins(configuration: Configuration) -> Finding:
    """Say whether clients can log in as the configuration wants it: certificates of both legs, verifiers."""
    settings = configuration.settings
    try:
        await refuse_transaction_pooling(settings, configuration.policies[0].database)
        offer = client_offer(settings.tls)
        if settings.auth.mode == "scram":
            await (await open_verifiers(settings, [policy.database for policy in configuration.policies])).close()
        elif settings.auth.different_certificates == "refuse":
            await check_certificates(Connector(settings.upstream, upstream_context(settings.upstream)), offer)
    except PhiproxyError as error:
        return Finding("error", "login", error.message)
    idle = settings.limits.idle_timeout
    said = (
        f"auth.mode {settings.auth.mode}, TLS to clients: {settings.tls.mode if offer else 'disable'}, "
        f"TLS to the server: {settings.upstream.tls}, idle connections are {f'ended after {idle:g} s' if idle else 'not ended'}"
    )
    return Finding("ok", "login", said)


async def _check(configuration: Configuration, policy: Policy) -> list[Finding]:
    settings = configuration.settings
    files = Finding("ok", "configuration", "both files are valid")
    try:
        async with database(settings, policy) as conn:
            layout = await existing_layout(conn, settings.service.schema_)
            names = {
                *(layout.table_names if layout is not None else ()),
                *(column_name[1] for column_name in policy.boundary(()).released),
            }
            catalog = await read_catalog(conn, {(c.schema, c.table) for c in policy.columns()}, names)
            if foreign := await foreign_values(conn, policy, layout, catalog, settings.service.schema_):
                return [files, *(Finding("error", "registry", f"{line}: {RESTORE}") for line in foreign)]
            if layout is None:
                layout = await read_layout(conn, settings.service.schema_)  # which says what is wrong
            keys = await _keys(settings, policy, conn)
            registry, verified = await check_registry(conn, settings, policy, catalog)
            current_layout = verified or layout
            own = await check_database(conn, policy, current_layout, catalog, settings.service.schema_, await observe(conn))
            engine = await check_engine(settings, policy, conn)
            jobs = await check_jobs(conn, settings.service.schema_)
            roles = await _roles(policy, conn)
            return [files, *keys, *registry, *own, *roles, *jobs, *engine]
    except PhiproxyError as error:
        text = error.message + (f"; {error.hint}" if error.hint else "")
        return [files, *(Finding("error", "database", line) for line in text.split("\n"))]


async def _roles(policy: Policy, conn: Connection) -> list[Finding]:
    """Name the roles of rules that are not there: a rule with a misspelled name holds for nobody. Tokens may have any."""
    tokens = policy.access.tokens if policy.access is not None else None
    level: Level = "error" if tokens is None or tokens.roles is None else "warning"
    return [Finding(level, "access", text) for text in await unknown_roles(conn, policy)]


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
