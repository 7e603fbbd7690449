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


@pytest.mark.parametrize("ahead", [1, 10**9, 10**40])
async def test_behind_a_number_that_there_is_not_they_come_all_again(site: Site, ahead: int) -> None:
    """The registry was restored since, or a record of the log is not genuine: no event is left out for that."""
    await site.init()
    async with await site.connect() as conn:
        every = await events_since(conn, "phiproxy", 0)
        last = every[-1].number
        assert await events_since(conn, "phiproxy", last) == []
        assert await events_since(conn, "phiproxy", last + ahead) == every
