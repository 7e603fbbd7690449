"""``phiproxy ddl``."""

from __future__ import annotations

import sys
from pathlib import Path

from phiproxy.commands.context import Configuration, database, load, run, survey
from phiproxy.errors import ConfigError
from phiproxy.ops.ddl import render_ddl
from phiproxy.ops.leakage import stored_complaints
from phiproxy.ops.physical import read_physical
from phiproxy.ops.sealed import rows_of, type_of
from phiproxy.policy.bind import assemble
from phiproxy.policy.inherit import inherited_columns
from phiproxy.policy.model import Policy
from phiproxy.policy.types import BYTEA_OID


def ddl(config: Path, only: str | None) -> int:
    """Print the DDL of one database, or of all with psql's connect command between them; nothing when one is refused."""
    configuration = load(config)
    policies = configuration.policies if only is None else (configuration.policy_of(only),)
    texts: list[str] = []
    complaints: list[str] = []
    for policy in policies:
        try:
            text = run(_ddl(configuration, policy))
        except ConfigError as error:
            complaints.append(error.message + (f"; {error.hint}" if error.hint else ""))
        else:
            texts.append(text if len(policies) == 1 else f"\\connect {_quoted(policy.database)}\n{text}")
    if complaints:
        raise ConfigError("\n".join(complaints))
    sys.stdout.write("\n".join(texts))
    return 0


async def _ddl(configuration: Configuration, policy: Policy) -> str:
    settings = configuration.settings
    async with database(settings, policy) as conn:
        layout, catalog = await survey(settings, policy, conn)
        columns = policy.columns()
        physical = await read_physical(conn, [(c.schema, c.table) for c in [*columns, *inherited_columns(columns, catalog)]])
        protection = assemble(policy, layout, settings.service.schema_, catalog.types)
        leaks = await stored_complaints(conn, columns, protection, catalog)
        plain = {(c.schema, c.table) for c in columns if type_of((c.schema, c.table, c.name), catalog) not in (None, BYTEA_OID)}
        rows = {place: await rows_of(conn, place) for place in sorted(plain) if place in physical and physical[place].has_rows}
    return render_ddl(policy, layout, catalog, physical, settings.service.schema_, leaks, rows)


def _quoted(name: str) -> str:
    """Quote as psql's meta-commands do."""
    return '"' + name.replace('"', '""') + '"'
