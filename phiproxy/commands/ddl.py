"""``phiproxy ddl``."""

import sys
from pathlib import Path

from phiproxy.commands.command_context import Configuration, database, load, survey
from phiproxy.errors import ConfigError
from phiproxy.ops.ddl_script import render_ddl
from phiproxy.ops.leakage import stored_complaints
from phiproxy.ops.physical_tables import read_physical
from phiproxy.ops.stored_values import rows_of, type_of
from phiproxy.policy.bind import assemble
from phiproxy.policy.column_states import clear_fields
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.inheritance import inherited_columns
from phiproxy.policy.model import Policy
from phiproxy.wire.oids import BYTEA_OID


async def ddl(config: Path, only: str | None) -> int:
    """Print the DDL of one database, or of all with psql's connect command between them; nothing when one is refused."""
    configuration = load(config)
    policies = configuration.policies if only is None else (configuration.policy_of(only),)
    texts: list[str] = []
    complaints: list[str] = []
    for policy in policies:
        try:
            text = await _ddl(configuration, policy)
        except ConfigError as error:
            complaints.append(error.message + (f"; {error.hint}" if error.hint else ""))
        else:
            texts.append(text if len(policies) == 1 else f"\\connect {quote_ident(policy.database, always=True)}\n{text}")
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
        open_yet = clear_fields(policy, layout, catalog)
        leaks = await stored_complaints(conn, policy.columns_and_fields(), protection, catalog, open_yet)
        plain = {c.registered_name[:2] for c in columns if type_of(c.registered_name, catalog) not in (None, BYTEA_OID)}
        rows = {
            table_name: await rows_of(conn, table_name)
            for table_name in sorted(plain)
            if table_name in physical and physical[table_name].has_rows
        }
    return render_ddl(policy, layout, catalog, physical, settings.service.schema_, leaks, rows)
