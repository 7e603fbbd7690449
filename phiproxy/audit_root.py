"""The audit root of a configuration: whose registry holds it, and the keys that are derived from it."""

from collections.abc import Sequence

from phiproxy.audit.audit_keys import AuditKeys
from phiproxy.database_keys import keks_of, provider_of
from phiproxy.errors import ConfigError, ProviderMisconfigured
from phiproxy.keys.open_registry import trusted
from phiproxy.keys.provider import AUDIT_SCOPE
from phiproxy.keys.registry import Registry
from phiproxy.keys.root_cache import unwrap_root
from phiproxy.net.service_login import connect_service, service_pool
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings


def audit_policy(settings: Settings, policies: Sequence[Policy]) -> Policy:
    """Return the policy whose database's registry holds the audit root; ConfigError when there is none."""
    named = settings.audit.database
    policy = next((policy for policy in policies if named in (None, policy.database)), None)
    if policy is None:
        text = f"no policy is there for audit.database {named!r}" if named else "audit needs a policy: its key is in a registry"
        raise ConfigError(text, hint="the audit log is signed under a key of that registry")
    return policy


async def audit_keys(settings: Settings, policies: Sequence[Policy]) -> AuditKeys:
    """Unwrap the audit root and derive its keys; ConfigError when there is none, ProviderError when it does not open."""
    policy = audit_policy(settings, policies)
    kek = await keks_of(settings, policy, await provider_of(settings))
    try:
        async with await connect_service(settings, policy.database) as conn:
            trust = await trusted(conn, settings, policy, kek)
        async with service_pool(settings, policy.database) as pool:
            root = await Registry(pool, trust).root_at(AUDIT_SCOPE, "", "audit")
        if root is None:
            raise ProviderMisconfigured(
                f"the registry of {policy.database} has no audit key", hint="`phiproxy keys init` makes it, now that audit is on"
            )
        return AuditKeys.derive(await unwrap_root(kek, policy.deployment, root), policy.deployment)
    finally:
        await kek.close()
