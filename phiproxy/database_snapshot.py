"""What was read of one database at one moment: catalogue and registry, and what its policy protects by them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from phiproxy.keys.layout_rows import unchanged_layout, verified_layout
from phiproxy.keys.registry_checked_on_read import Trust
from phiproxy.net.catalog_reader import CatalogReader
from phiproxy.policy.bind import bind
from phiproxy.policy.boundary import guarded_tables
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.model import Policy
from phiproxy.policy.protection import Protection
from phiproxy.policy.registry_layout import Layout
from phiproxy.policy.settings import Settings


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was read of a database at one moment."""

    catalog: Catalog
    layout: Layout
    protection: Protection
    reader: CatalogReader


async def read_layout(conn: psycopg.AsyncConnection[Any], trust: Trust) -> Layout:
    """Read what the registry numbers; NotAuthentic where it cannot be believed."""
    unchanged = await unchanged_layout(conn, trust)
    if unchanged is not None:
        return unchanged
    async with trust.reading(conn) as view:
        return await verified_layout(view)


async def read_snapshot(
    conn: psycopg.AsyncConnection[Any],
    settings: Settings,
    policy: Policy,
    layout: Layout,
    *,
    whole: bool = False,
    also: Callable[[int], Sequence[str]] | None = None,
) -> Snapshot:
    """Read the catalogue and bind; ConfigError for whatever does not fit.

    ``whole``: with all relations that there are; ``also`` as of ``CatalogReader``.
    """
    reader = CatalogReader(also)
    catalog = await reader.read(conn, guarded_tables(policy, layout), None if whole else layout.table_names)
    return Snapshot(catalog, layout, bind(policy, layout, catalog, settings.service.schema_), reader)
