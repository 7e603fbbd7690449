"""Slots that waited for values to be rewritten become active once there are none that lack their tag."""

from __future__ import annotations

from phiproxy.policy.registry_layout import WantedIdentity
from tests.keys.fakes import MRN, Site
from tests.keys.test_identities import column, slots


def value(tags: int) -> str:
    """An envelope's bytes, as far as anybody looks at them here, with so many tags."""
    return f"'\\xf55001010000000001{1:04x}{tags:02x}{'00' * (16 * tags + 44)}'"


def states(found: list[tuple[object, ...]]) -> list[object]:
    return [slot[3] for slot in found]


async def filled(site: Site, *wanted: WantedIdentity) -> None:
    """An index is added to a column that holds a value without its tag."""
    await site.init(column("ssn"))
    site.run(f"INSERT INTO patients (ssn) VALUES ({value(1)})")
    await site.init(*wanted)
    assert states(await slots(site)) == ["active", "building"]


BOTH = column("ssn", "@", "lower(@)")


async def test_an_emptied_table(site: Site) -> None:
    await filled(site, BOTH)
    assert [d.what for d in await site.init(BOTH)] == []
    site.run("TRUNCATE patients")
    assert [(d.what, d.subject) for d in await site.init(BOTH)] == [
        ("slot active", "lower(@) of c:public.patients.ssn in slot 1"),
    ]
    assert states(await slots(site)) == ["active", "active"]
    assert site.run('SELECT "from", "to" FROM phiproxy.event WHERE what = \'slot active\'') == [("building", "active")]
    assert await site.init(BOTH) == []


async def test_every_value_was_written_anew(site: Site) -> None:
    await filled(site, BOTH)
    site.run(f"INSERT INTO patients (ssn) VALUES ({value(2)})")
    assert await site.init(BOTH) == []
    site.run(f"UPDATE patients SET ssn = {value(2)}")
    assert [d.what for d in await site.init(BOTH)] == ["slot active"]


async def test_the_next_generation_of_an_index_key_waits_on(site: Site) -> None:
    """Searches and unique indexes go by the slot before it."""
    await site.init(column("ssn"))
    await site.rewrite("INSERT INTO phiproxy.slot VALUES (1, 1, '@', 1, NULL, 2, 'building')")
    assert await site.init(column("ssn")) == []
    assert states(await slots(site)) == ["active", "building"]


async def test_one_column_of_a_domain_that_is_not_empty_is_enough(site: Site) -> None:
    site.run("INSERT INTO visits (mrn) VALUES ('\\x00')")
    await site.init(MRN)
    assert states(await slots(site, "d:mrn")) == ["building"]
    site.run("TRUNCATE patients")
    assert await site.init(MRN) == []
    site.run("TRUNCATE visits")
    assert [d.what for d in await site.init(MRN)] == ["slot active"]


async def test_rows_in_plaintext_are_yet_to_be_sealed(site: Site) -> None:
    await site.init(column("name"))
    site.run("INSERT INTO patients (name) VALUES (NULL)")
    wanted = column("name", "@", "lower(@)")
    await site.init(wanted)
    assert await site.init(wanted) == []
    site.run("TRUNCATE patients; ALTER TABLE patients ALTER name TYPE bytea USING NULL")
    assert [d.what for d in await site.init(wanted)] == ["slot active"]
