"""Opening the registry of a configuration: with the anchor that it pins and the highest counter that was seen."""

import os
from collections.abc import Callable
from typing import Any

import psycopg

from phiproxy.errors import ConfigError
from phiproxy.keys.anchoring import unlock
from phiproxy.keys.counter_file import Watermark
from phiproxy.keys.registry import as_provider_error
from phiproxy.keys.registry_checked_on_read import Fault, Trust
from phiproxy.keys.tenant_keks import Kek
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings

Tell = Callable[..., None]
"""A logger's method: an event, and its fields by name."""


async def trusted(conn: psycopg.AsyncConnection[Any], settings: Settings, policy: Policy, kek: Kek) -> Trust:
    """Open what this process believes of a registry; it is compared with the counter kept. Raises as of ``anchoring.unlock``."""
    schema, anchor = settings.service.schema_, settings.keys.anchor.get(policy.database)
    try:
        key = await unlock(conn, schema, policy.deployment, kek, anchor)
    except psycopg.Error as error:
        raise as_provider_error(error, schema) from None
    watermark = Watermark(key.anchor, settings.counter_file)
    await watermark.read()
    return Trust(schema, key, watermark)


def serving(trust: Trust, settings: Settings, policy: Policy, warn: Tell, alarm: Tell) -> Trust:
    """Let a proxy keep what it sees of the counter, and tell of what does not verify.

    Raises ConfigError when a file that the configuration names for the counter cannot be written.
    """
    path, database = settings.counter_file, policy.database
    if settings.keys.counter_file is not None and not os.access(path.parent, os.W_OK):
        raise ConfigError(f"keys.counter_file: {path.parent} cannot be written")

    def trouble(error: OSError) -> None:
        text = "the registry's counter cannot be kept: its rollback is noticed by this process only while it runs"
        warn(text, database=database, file=str(path), why=error.strerror)

    def told(fault: Fault) -> None:
        alarm("the key registry is not as it was written", database=database, kind=fault.kind, what=fault.what, why=fault.why)

    trust.alarm, trust.watermark.trouble, trust.watermark.keep = told, trouble, True
    if database not in settings.keys.anchor:
        warn("keys.anchor does not pin this registry: run phiproxy keys init", database=database, anchor=trust.key.anchor)
    return trust
