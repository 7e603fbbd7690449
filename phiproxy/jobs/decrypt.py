"""``decrypt``: the way back, by the same steps: plain columns are filled beside sealed ones, compared, and take their place.

Until the switch the columns are protected; from it on they are in clear, and their policy entry may go.
"""

from functools import partial

from phiproxy.errors import ConfigError
from phiproxy.jobs.chosen_columns import are_fields
from phiproxy.jobs.conversion import look_at_fields, look_back
from phiproxy.jobs.conversion_sql import take_back
from phiproxy.jobs.encrypt import (
    again_where_changed,
    attempts_of,
    columns_asked_for,
    columns_in,
    columns_of,
    fill,
    settle,
    short,
    values_of,
)
from phiproxy.jobs.physical_definitions import physical_definitions
from phiproxy.jobs.plain_definitions import PlainDefinitions
from phiproxy.jobs.running import Run
from phiproxy.jobs.sealed_values import TenantValues
from phiproxy.jobs.switching import switch_tables
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.protection import ColumnName
from phiproxy.policy.registry_layout import Layout


async def run(run: Run) -> None:
    """Decrypt the job's columns, from wherever it was broken off."""
    wanted = columns_asked_for(run)
    await run.lock_tables({name[:2] for name in wanted})
    await again_where_changed(partial(_convert, run))
    await settle(run, wanted)


async def _convert(run: Run) -> None:
    site = run.site
    layout, catalog, rest = await columns_in(run, "sealed", "leaving")
    if not rest:
        return
    if are_fields(rest):
        await _convert_fields(run, layout, catalog, rest)
        return
    reorder = bool(run.job.options.get("reorder"))
    seen = await look_back(run.conn, site.policy, layout, catalog, rest, site.schema, reorder=reorder)
    if seen.obstacles:
        raise ConfigError("\n".join(seen.obstacles), hint=f"put these right; phiproxy jobs resume {run.job.id} goes on")
    values = values_of(site, layout)
    await fill(run, seen.tables, values)
    run.display.phase("switching", 0)
    constants = values if isinstance(values, TenantValues) else None  # with tenants no definition has any
    converter = PlainDefinitions((c.column for table in seen.tables for c in table.columns), constants)
    await switch_tables(run, seen, converter, values, attempts=attempts_of(run))


async def _convert_fields(run: Run, layout: Layout, catalog: Catalog, rest: list[ColumnName]) -> None:
    """Open fields in documents of which others stay sealed: documents without them take the place of those with them."""
    site = run.site
    seen = await look_at_fields(run.conn, site.policy, layout, catalog, rest, site.schema)
    if seen.obstacles:
        raise ConfigError("\n".join(seen.obstacles), hint=f"put these right; phiproxy jobs resume {run.job.id} goes on")
    values = values_of(site, layout)
    await fill(run, seen.tables, values)
    run.display.phase("switching", 0)
    constants = values if isinstance(values, TenantValues) else None
    converter = await physical_definitions(run.conn, site.policy, layout, site.schema, constants, opened=rest)
    await switch_tables(run, seen, converter, values, attempts=attempts_of(run))


async def abort(run: Run) -> None:
    """Take back what was added beside columns that are still sealed: nothing of them is in clear then."""
    site = run.site
    layout, catalog, rest = await columns_in(run, "sealed", "leaving")
    if rest:
        await run.lock_tables({name[:2] for name in rest})
        look = look_at_fields if are_fields(rest) else partial(look_back, reorder=True)
        for table in (await look(run.conn, site.policy, layout, catalog, rest, site.schema)).tables:
            await short(run, table, "taking back what was added", take_back(table, columns_of(catalog, table)))
