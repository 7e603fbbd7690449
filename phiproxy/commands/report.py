"""``phiproxy report``: what is protected, with which keys, and who has seen what, in one page."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from phiproxy import __version__
from phiproxy.audit.activity import activity
from phiproxy.audit.break_glass_review import reviewable
from phiproxy.audit.report import Facts, page
from phiproxy.audit.search import spelled
from phiproxy.audit.verify import verify
from phiproxy.audit_root import audit_keys
from phiproxy.commands.audit import read_period
from phiproxy.commands.check import findings
from phiproxy.commands.command_context import Configuration, Connection, database, load, print_json, survey
from phiproxy.errors import ConfigError
from phiproxy.keys.inventory import list_keys
from phiproxy.ops.protected_columns import protected_columns
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings


async def report(config: Path, html: Path | None, since: str | None, before: str | None, *, as_json: bool) -> int:
    """Write the report as a page or print its facts; 1 when the log is not proven."""
    if html is None and not as_json:
        raise ConfigError("where to? --html FILE, or --json")
    configuration = load(config)
    facts = await _facts(configuration, since, before)
    if html is not None:
        await asyncio.to_thread(html.write_text, page(facts), encoding="utf-8")
    if as_json:
        print_json(facts.as_json())
    return 1 if facts.proof.faults else 0


async def _facts(configuration: Configuration, since: str | None, before: str | None) -> Facts:
    settings, now = configuration.settings, datetime.now(UTC)
    directory = settings.audit.directory
    if directory is None:
        raise ConfigError("the report is made from the audit log's files", hint="set audit.directory")
    first, last = read_period(since, before)
    verifiers = [(await audit_keys(settings, configuration.policies)).signer.verifier]
    rows: list[tuple[object, ...]] = []
    columns: list[tuple[object, ...]] = []
    for policy in configuration.policies:
        async with database(settings, policy) as conn:
            for root in await list_keys(conn, settings.service.schema_):
                wraps = ", ".join(f"{wrap.kek} version {wrap.version}" for wrap in root.wraps)
                data = ", ".join(f"{key.id:08x} {key.state} {key.used}/{key.max_uses}" for key in root.data_keys)
                age = root.age_seconds // 86400
                rows.append((policy.database, root.id, root.scope, root.purpose, root.state, age, wraps, data))
            columns += [(policy.database, *column) for column in await _columns(conn, policy, settings)]
    return Facts(
        period=f"{since or 'from the beginning'} to {before or now.strftime('%Y-%m-%d %H:%M UTC')}",
        made=now.strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        activity=activity(reviewable(directory, verifiers), spelled(first) if first else "", spelled(last) if last else "~"),
        proof=verify(directory, verifiers),
        findings=[(name, f.level, f.topic, f.text) for name, f in await findings(configuration)],
        keys=rows,
        columns=columns,
    )


async def _columns(conn: Connection, policy: Policy, settings: Settings) -> list[tuple[object, ...]]:
    """Return what is protected and what of it shows; nothing where the policy does not fit, of which the findings speak."""
    try:
        layout, catalog = await survey(settings, policy, conn)
        protected = await protected_columns(conn, policy, layout, catalog, settings.service.schema_)
    except ConfigError:
        return []
    said = ((f"{c.problem}; accepted: {c.accepted}" if c.accepted else c.problem) if c.problem else "" for c in protected)
    shown = zip(protected, said, strict=True)
    return [(c.column, c.type, c.state, c.index, c.values, c.distinct, c.share, text) for c, text in shown]
