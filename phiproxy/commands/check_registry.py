"""What ``check`` says of the key registry: whether it is as phiproxy has left it, and has the keys that values are under."""

from psycopg import sql

from phiproxy.commands.command_context import Connection, opened_kek
from phiproxy.errors import PhiproxyError
from phiproxy.keys.anchoring import verify
from phiproxy.keys.layout_rows import verified_layout
from phiproxy.keys.open_registry import trusted
from phiproxy.keys.registry_schema import table
from phiproxy.ops.database_check import Finding
from phiproxy.ops.stored_key_ids import key_ids
from phiproxy.ops.stored_values import type_of
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.model import Policy
from phiproxy.policy.registry_layout import Layout
from phiproxy.policy.settings import Settings
from phiproxy.wire.oids import BYTEA_OID

TOPIC = "registry"
_RESTORE = "docs/restore-the-registry.md"


async def check_registry(
    conn: Connection, settings: Settings, policy: Policy, catalog: Catalog
) -> tuple[list[Finding], Layout | None]:
    """Verify the registry under its key, and compare stored values' data keys with it; returns its layout where it can be had.

    Raises psycopg.Error.
    """
    unknown = await _unknown_keys(conn, settings.service.schema_, policy, catalog)
    try:
        async with opened_kek(settings, policy) as kek:
            trust = await trusted(conn, settings, policy, kek)
        faults = await verify(trust, conn)
        findings = [Finding("error", TOPIC, f"{fault.what} {fault.why}: {_RESTORE}") for fault in faults]
        if policy.database not in settings.keys.anchor:
            findings.append(
                Finding("warning", TOPIC, f"keys.anchor does not pin this registry ({trust.key.anchor}): run `phiproxy keys init`")
            )
        if not faults:
            findings.append(Finding("ok", TOPIC, "every row of the key registry is as phiproxy has left it"))
        async with trust.reading(conn) as view:
            return [*findings, *unknown], await verified_layout(view)
    except PhiproxyError as error:
        text = error.message + (f"; {error.hint}" if error.hint else "")
        return [Finding("error", TOPIC, text), *unknown], None


async def _unknown_keys(conn: Connection, schema: str, policy: Policy, catalog: Catalog) -> list[Finding]:
    """Name the data keys that stored values are under and the registry does not have: it is older than the values."""
    query = sql.SQL("SELECT id FROM {}").format(table(schema, "data_key"))
    stored_keys = {key_id for (key_id,) in await (await conn.execute(query)).fetchall()}
    findings = []
    for column in policy.columns():
        if type_of((column.schema, column.table, column.name), catalog) != BYTEA_OID:
            continue
        met = await key_ids(conn, column.schema, column.table, column.name)
        if met is None:
            text = f"{column.label}: not compared with the registry's keys, the service role does not see its rows"
            findings.append(Finding("warning", TOPIC, text))
        elif met - stored_keys:
            names = ", ".join(f"{key_id:08x}" for key_id in sorted(met - stored_keys))
            text = f"{column.label} has values under data keys that the registry does not have ({names}): it is older than they are"
            findings.append(Finding("error", TOPIC, f"{text}; {_RESTORE}"))
    return findings
