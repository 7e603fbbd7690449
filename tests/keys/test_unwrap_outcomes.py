"""What became of unwraps and data keys: counted each, told a line a minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from phiproxy.errors import DataKeyWant, ProviderDenied, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.unwrap_outcomes import TELL_EVERY, UnwrapOutcomes
from tests.keys.fakes import Clock, Site

ROOT = RootRow(3, "d:mrn", "", "data", 1, "active", ())


class Lines(list[tuple[str, Mapping[str, Any]]]):
    """What was told."""

    def tell(self, event: str, **fields: Any) -> None:
        self.append((event, fields))


def test_results_are_counted_and_a_denial_is_told_once_a_minute(clock: Clock) -> None:
    lines = Lines()
    watch = UnwrapOutcomes(lines.tell, clock)
    for error in (None, ProviderDenied("no"), ProviderDenied("no"), ProviderMisconfigured("wrong"), ProviderUnavailable("silent")):
        watch.unwrapped(ROOT, error)
    assert watch.unwraps == {"ok": 1, "denied": 3, "unavailable": 1}
    assert [event for event, _ in lines] == ["the key provider does not unwrap a root key", "the key provider does not answer"]
    assert lines[0][1] == {"root": 3, "scope": "d:mrn", "purpose": "data", "why": "no"}
    clock.now += TELL_EVERY
    watch.unwrapped(ROOT, ProviderDenied("no"))
    assert lines[-1][1]["not_told"] == 2


def test_ids_that_anybody_may_have_written_are_one_line(clock: Clock) -> None:
    lines = Lines()
    watch = UnwrapOutcomes(lines.tell, clock)
    for key_id in range(1000):
        watch.refuse(key_id, "not known")
    assert watch.refused == {"not known": 1000}
    assert [fields for _, fields in lines] == [{"data_key": "00000000", "why": "not known"}]


async def test_the_service_tells_its_watch(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (service, _):
        await service.fetch(frozenset({DataKeyWant(0xDEADBEEF)}))
        assert service.watch.refused == {"not known": 1}
        (key_id,) = site.run("SELECT id FROM phiproxy.data_key ORDER BY id LIMIT 1")[0]
        site.provider.fails = ProviderDenied
        with pytest.raises(ProviderDenied):
            await service.fetch(frozenset({DataKeyWant(int(str(key_id)))}))
        assert service.watch.unwraps == {"denied": 1}
