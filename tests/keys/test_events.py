"""The registry's events are read on from where they were read last."""

from __future__ import annotations

import pytest

from phiproxy.keys import events
from phiproxy.keys.events import events_since
from phiproxy.keys.registry import record_event
from tests.keys.fakes import Site


async def test_events_come_in_their_order_and_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.init()
    monkeypatch.setattr(events, "AT_ONCE", 2)
    async with await site.connect() as conn:
        first = await events_since(conn, "phiproxy", 0)
        assert (len(first), first[0].what) == (2, "registry made")
        last = first[-1].number
        while more := await events_since(conn, "phiproxy", last):
            assert [event.number for event in more] == sorted({event.number for event in more} - {last})
            last = more[-1].number
        await record_event(conn, "phiproxy", "open", "identity 7", ("a", None))
        (event,) = await events_since(conn, "phiproxy", last)
        assert (event.what, event.subject, event.before, event.after) == ("open", "identity 7", "a", None)
        assert event.at.tzinfo is not None
