"""``phiproxy decrypt``: sealed columns are in clear again, while their tables are in use."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from phiproxy.commands.command_context import database, load
from phiproxy.commands.encrypt import print_look, refuse, with_room
from phiproxy.commands.jobs import job_site, report_end, start
from phiproxy.jobs.chosen_columns import are_fields, sealed_columns
from phiproxy.jobs.conversion import look_at_fields, look_back
from phiproxy.jobs.encrypt import read_tables
from phiproxy.keys.layout_rows import read_layout


async def decrypt(
    config: Path, only: str | None, names: Sequence[str], options: Mapping[str, Any], *, dry_run: bool, as_json: bool
) -> int:
    """Decrypt the named tables and columns; ``dry_run`` only says what would be done. 1 where something keeps it from that."""
    configuration = load(config)
    policy, schema = configuration.policy_of(only), configuration.settings.service.schema_
    async with database(configuration.settings, policy) as conn:
        layout = await read_layout(conn, schema)
        catalog = await read_tables(conn, policy)
        wanted = sealed_columns(policy, layout, catalog, names)
        look = look_at_fields if are_fields(wanted) else partial(look_back, reorder=bool(options.get("reorder")))
        seen = await look(conn, policy, layout, catalog, wanted, schema)
        seen, needs = await with_room(conn, seen, configuration, options)
    if dry_run:
        print_look(wanted, seen, needs, (), as_json=as_json)
        return 1 if seen.obstacles else 0
    refuse(seen)
    target = ", ".join(".".join(name) for name in wanted)
    async with job_site(configuration, policy) as site:
        job = await start(site, "decrypt", target, {**options, "columns": [list(name) for name in wanted]}, as_json=as_json)
    report_end(job, as_json=as_json)
    if not as_json:
        if are_fields(wanted):
            sys.stdout.write("the fields are in clear, and observed while the policy lists them: take them out of it\n")
            return 0
        released = "".join(f"  {schema_name}.{table}: released: [{column}]\n" for schema_name, table, column in wanted)
        sys.stdout.write("the columns are in clear, and observed while the policy lists them; to let them go, write there:\n")
        sys.stdout.write(released)
    return 0
