"""Another configuration while a proxy runs (SIGHUP): it is seen to fit, and then taken. Where it does not fit, nothing changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from phiproxy.audit_service import AuditService
from phiproxy.database_snapshot import Snapshot
from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.net.channel_binding import check_certificates
from phiproxy.net.listener import Listener
from phiproxy.net.scram_login import Authenticator
from phiproxy.net.tls import Offer, client_offer
from phiproxy.net.upstream import Connector
from phiproxy.ops.logs import tell_of_restart
from phiproxy.policy.load import load_settings
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings
from phiproxy.served_database import ServedDatabase
from phiproxy.sql.policy_files import load_policies

log = structlog.get_logger("phiproxy")


@dataclass(frozen=True, slots=True)
class Reloadable:
    """What another configuration must fit, and what goes on with it."""

    settings: Settings
    databases: Mapping[str, ServedDatabase]
    auth: Authenticator | None
    connector: Connector | None
    audit: AuditService | None
    listener: Listener | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Another configuration, read and found to fit."""

    settings: Settings
    tls: Offer | None
    databases: tuple[tuple[ServedDatabase, Policy, Snapshot], ...]


async def reload(proxy: Reloadable, path: Path | None) -> None:
    """Read policies and certificates again. What is wrong is logged, and the proxy goes on as it was."""
    try:
        settings = load_settings(path) if path is not None else proxy.settings
        take(proxy, await prepare(proxy, settings, load_policies(settings)))
        tell_of_restart(proxy.settings, settings)
    except PhiproxyError as error:
        log.error("reload failed, nothing changed", complaints=error.message.split("\n"))
        return
    log.info("reloaded")


async def prepare(proxy: Reloadable, settings: Settings, policies: Sequence[Policy]) -> Prepared:
    """See whether another configuration fits, and whether its KEKs open, and change nothing yet; PhiproxyError when not."""
    if {policy.database for policy in policies} != set(proxy.databases):
        # Sessions of such a database are open already, and go on without the policy, or with it.
        raise ConfigError("a policy for another database than before, or one less: that needs a restart")
    if settings.auth != proxy.settings.auth:
        raise ConfigError("auth is another than before: how clients log in changes with a restart only")
    tls = client_offer(settings.tls)
    if proxy.connector is not None and certificates_matter(settings):
        await check_certificates(proxy.connector, tls)
    for policy in policies:
        await proxy.databases[policy.database].see_kek(settings, policy)
    fitting = [(proxy.databases[policy.database], policy) for policy in policies]
    databases = tuple([(database, policy, await database.fit(policy)) for database, policy in fitting])
    if proxy.auth is not None:
        proxy.auth.verifiers.reload()  # the last that may fail, since it takes what it reads
    return Prepared(settings, tls, databases)


def take(proxy: Reloadable, prepared: Prepared) -> None:
    """Go on with a configuration that fits."""
    for database, policy, snapshot in prepared.databases:
        database.take(policy, snapshot)
    if proxy.audit is not None:
        proxy.audit.policies_taken([policy for _, policy, _ in prepared.databases])
    if proxy.listener is not None:
        required = tls_required(prepared.settings)
        proxy.listener.settings = replace(proxy.listener.settings, tls=prepared.tls, tls_required=required)


def certificates_matter(settings: Settings) -> bool:
    """Tell whether clients would notice that proxy and server have different certificates."""
    return settings.auth.mode == "passthrough" and settings.auth.different_certificates == "refuse"


def tls_required(settings: Settings) -> bool:
    """Tell whether a client must come with TLS."""
    return settings.tls.mode in ("require", "verify-client")
