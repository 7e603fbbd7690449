"""The layout as it is stored and as it verifies."""

from __future__ import annotations

from phiproxy.keys.layout_rows import unchanged_and_held, unchanged_layout
from tests.keys.fakes import DEPLOYMENT, MRN, SSN, Site


async def test_the_layout_is_what_was_registered(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        layout = await registry.layout()
    assert (layout.deployment, layout.epoch) == (DEPLOYMENT, 2)
    assert {i.identity: (i.number, i.scope, i.type_name) for i in layout.identities.values()} == {
        "d:mrn": (1, "d:mrn", "varchar(12)"),
        "c:public.patients.ssn": (2, "t:public.patients", "text"),
    }
    assert layout.columns == {MRN.columns[0]: 1, MRN.columns[1]: 1, SSN.columns[0]: 2}
    assert [(s.number, s.expression, s.generation, s.state, s.normaliser) for s in layout.identities[2].slots] == [
        (0, "@", 1, "active", 1),
        (1, "right(@,4)", 1, "active", 1),
    ]


async def test_a_layout_that_is_as_it_was_is_not_verified_again(site: Site) -> None:
    await site.init()
    async with site.registry() as registry, await site.connect() as conn:
        await conn.set_autocommit(True)
        trust = registry.trust
        assert await unchanged_layout(conn, trust) is None, "nothing was verified yet"
        first = await registry.layout()
        assert await unchanged_layout(conn, trust) is first
        # whatever of it is another
        for change, back in (
            ("UPDATE phiproxy.slot SET state = 'building' WHERE number = 1", "UPDATE phiproxy.slot SET state = 'active'"),
            ("UPDATE phiproxy.meta SET epoch = epoch + 1", "UPDATE phiproxy.meta SET epoch = epoch - 1"),
            ("UPDATE phiproxy.counter SET value = value + 1", "UPDATE phiproxy.counter SET value = value - 1"),
            ("INSERT INTO phiproxy.clear_column VALUES ('a', 'b', 'c')", "DELETE FROM phiproxy.clear_column"),
        ):
            site.run(change)
            assert await unchanged_layout(conn, trust) is None
            site.run(back)
            assert await unchanged_layout(conn, trust) is first
        site.run("UPDATE phiproxy.slot SET state = 'building' WHERE number = 1")
        assert (await registry.layout()).distrusted == {MRN.columns[0], MRN.columns[1]}
        site.run("UPDATE phiproxy.slot SET state = 'active'")
        later = await registry.layout()
        await trust.watermark.raise_to(later.counter + 1)
        assert await unchanged_layout(conn, trust) is None, "a later state was seen: this is a registry that was rolled back"


async def test_a_registry_of_an_older_version_is_verified_each_time(site: Site) -> None:
    await site.init()
    site.run("DROP TABLE phiproxy.clear_column")
    async with site.registry() as registry, await site.connect() as conn:
        assert SSN.columns[0] in (await registry.layout()).columns
        assert await unchanged_layout(conn, registry.trust) is None


async def test_the_same_question_tells_of_a_hold(site: Site) -> None:
    await site.init()
    async with site.registry() as registry, await site.connect() as conn:
        await conn.set_autocommit(True)
        assert await unchanged_and_held(conn, registry.trust) == (None, True), "nothing was verified yet"
        first = await registry.layout()
        assert await unchanged_and_held(conn, registry.trust) == (first, False)
        site.run("INSERT INTO phiproxy.hold (ends_at, names) VALUES (now(), '{patients}')")
        assert await unchanged_and_held(conn, registry.trust) == (first, True)
        site.run("UPDATE phiproxy.meta SET epoch = epoch + 1")
        assert await unchanged_and_held(conn, registry.trust) == (None, True)
        site.run("DELETE FROM phiproxy.hold")
        assert await unchanged_and_held(conn, registry.trust) == (None, False)
        site.run("UPDATE phiproxy.meta SET epoch = epoch - 1; DROP TABLE phiproxy.hold")
        assert await unchanged_and_held(conn, registry.trust) == (first, True), "of an older version"
