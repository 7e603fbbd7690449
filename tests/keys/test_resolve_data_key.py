"""phiproxy open: a value, a dump of the registry, a KEK, and nothing else."""

from __future__ import annotations

import json

import pytest

from phiproxy.crypto.seal import ColumnSpec, draw_record, make_sealer
from phiproxy.errors import ProviderDenied, SealError, WriteKeyWant
from phiproxy.keys.inventory import RegistryDump, export, load_export
from phiproxy.keys.resolve_data_key import open_value
from tests.keys.fakes import DEPLOYMENT, Clock, FakeProvider, Site


async def written(site: Site, clock: Clock, tenant: str = "") -> tuple[bytes, RegistryDump]:
    """Return one stored value and a dump that has been through JSON."""
    await site.init()
    async with site.service(clock, tenant=tenant) as (service, ring):
        await service.fetch(frozenset({WriteKeyWant("d:mrn", 1)}))
        spec = ColumnSpec(DEPLOYMENT, tenant, "d:mrn", 1, 16)
        value = make_sealer(spec)(b"MRN-1", draw_record(ring.reserve("d:mrn", 1)), b"t" * 16)
    async with await site.connect() as conn:
        return value, load_export(json.loads(json.dumps(await export(conn))))


@pytest.mark.parametrize("tenant", ["", "acme"])
async def test_a_value_opens_from_the_dump_and_from_the_registry(site: Site, clock: Clock, tenant: str) -> None:
    value, dump = await written(site, clock, tenant)
    assert await open_value(value, dump.layout, dump, site.provider) == b"MRN-1"
    async with site.registry() as registry:
        assert await open_value(value, await registry.layout(), registry, site.provider) == b"MRN-1"


async def test_what_does_not_open(site: Site, clock: Clock) -> None:
    value, dump = await written(site, clock)
    for position, reason in (
        (0, "not an envelope"),
        (6, "not known"),
        (10, "identity"),
        (20, "does not open"),
        (-1, "does not open"),
    ):
        changed = bytearray(value)
        changed[position] ^= 0x40
        with pytest.raises(SealError, match=reason):
            await open_value(bytes(changed), dump.layout, dump, site.provider)
    with pytest.raises(ProviderDenied):
        await open_value(value, dump.layout, dump, FakeProvider())
