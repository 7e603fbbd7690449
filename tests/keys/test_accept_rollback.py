"""A rollback is accepted with a reason, and then no older state is."""

from __future__ import annotations

import pytest

from phiproxy.errors import NotAuthentic
from phiproxy.keys.accept_rollback import accept_rollback
from phiproxy.keys.anchoring import verify
from phiproxy.keys.counter_file import Watermark
from phiproxy.keys.registry_checked_on_read import Trust
from tests.keys.fakes import Site


async def test_the_counter_is_above_whatever_anybody_saw(site: Site) -> None:
    await site.init()
    key = (await site.trust()).key
    seen = Watermark(key.anchor)
    await seen.raise_to(1_000_000)
    trust = Trust("phiproxy", key, seen)
    async with await site.connect() as conn:
        assert [fault.kind for fault in await verify(trust, conn)] == ["rollback"]
        before, after = await accept_rollback(conn, trust, "restored monday's backup")
    assert before < 1_000_000 < after
    async with await site.connect() as conn:
        assert await verify(trust, conn) == []
        again = await accept_rollback(conn, trust, "once more")
    assert again == (after, again[1])
    assert again[1] > after
    assert site.run('SELECT subject, "from", "to" FROM phiproxy.event WHERE what = \'rollback accepted\' ORDER BY id LIMIT 1') == [
        ("restored monday's backup", str(before), str(after))
    ]


async def test_what_does_not_verify_is_not_accepted(site: Site) -> None:
    await site.init()
    trust = await site.trust()
    site.run("UPDATE phiproxy.slot SET state = 'dropped' WHERE number = 1")
    async with await site.connect() as conn:
        with pytest.raises(NotAuthentic, match="slot"):
            await accept_rollback(conn, trust, "never mind")
