"""What was observed is added up over proxies, and read in order."""

from __future__ import annotations

import pytest

from phiproxy.keys import observations
from phiproxy.keys.observations import Counted, Observed, add_observed, forget_observed, read_observed, wanted_indexes
from tests.keys.fakes import Site

WORKS = Observed("SELECT ssn FROM t WHERE ssn = ?", "works", columns=("public.t.ssn",))
REFUSED = Observed("SELECT ssn FROM t WHERE name = ?", "refused", "0A000", "no index", "Add it.", ("public.t.name: name",))
OTHER = Observed("SELECT id FROM t WHERE name = ?", "refused", "0A000", "no index", "Add it.", ("public.t.name: name",))


async def test_counts_are_added_up(site: Site) -> None:
    await site.init()
    async with await site.connect() as conn:
        await conn.set_autocommit(True)
        await add_observed(conn, "phiproxy", [(WORKS, 3), (REFUSED, 1)])
        await add_observed(conn, "phiproxy", [(REFUSED, 2), (OTHER, 7)])
        counts = await read_observed(conn, "phiproxy")
        assert [(c.observed, c.sent) for c in counts] == [(OTHER, 7), (REFUSED, 3), (WORKS, 3)]
        assert counts[0].as_json()["shape"] == OTHER.shape
        assert wanted_indexes(counts) == {"public.t.name": {"name": 10}}
        assert await forget_observed(conn, "phiproxy") == 3
        assert await read_observed(conn, "phiproxy") == []


async def test_there_is_a_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.init()
    monkeypatch.setattr(observations, "MOST_SHAPES", 1)
    async with await site.connect() as conn:
        await conn.set_autocommit(True)
        await add_observed(conn, "phiproxy", [(WORKS, 1)])
        await add_observed(conn, "phiproxy", [(WORKS, 1), (OTHER, 1)])
        assert [(c.observed, c.sent) for c in await read_observed(conn, "phiproxy")] == [(WORKS, 2)]


async def test_an_older_registry(site: Site) -> None:
    await site.init()
    site.run("DROP TABLE phiproxy.observation")
    async with await site.connect() as conn:
        assert await read_observed(conn, "phiproxy") == []


def test_alike_in_all_but_the_reason() -> None:
    assert WORKS.digest != REFUSED.digest
    assert Counted(WORKS, 1).observed.digest == WORKS.digest
