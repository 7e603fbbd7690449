"""Which columns may be in clear: only what was in plaintext when it was registered, or what an operator names, and never again."""

from __future__ import annotations

import pytest

from phiproxy.errors import ConfigError
from phiproxy.keys.anchoring import verify
from phiproxy.keys.clear_columns import forbid_clear
from phiproxy.keys.layout_rows import read_layout, verified_layout
from phiproxy.policy.registry_layout import WantedIdentity
from tests.keys.fakes import Site
from tests.keys.test_identities import column

NAME, SSN = ("public", "patients", "name"), ("public", "patients", "ssn")


async def in_clear(site: Site) -> frozenset[tuple[str, str, str]]:
    trust = await site.trust()
    async with await site.connect() as conn, trust.reading(conn) as view:
        return (await verified_layout(view)).clear


async def test_a_filled_table_that_is_new(site: Site) -> None:
    site.run("INSERT INTO patients (name) VALUES ('in plaintext')")
    done = [(d.what, d.subject) for d in await site.init(column("name"), column("ssn"))]
    assert ("column left in clear", "public.patients.name") in done
    assert await in_clear(site) == {NAME}, "the other one is bytea"
    assert await site.init(column("name"), column("ssn")) == []


async def test_an_empty_table_is_made_by_ddl(site: Site) -> None:
    await site.init(column("name"))
    assert await in_clear(site) == frozenset()
    site.run("INSERT INTO patients (name) VALUES ('in plaintext')")
    await site.init(column("name"))
    assert await in_clear(site) == frozenset(), "it is not new any more"
    await site.init(column("name"), clear=[NAME])  # type: ignore[arg-type]
    assert await in_clear(site) == {NAME}


async def test_what_is_not_in_plaintext_cannot_be_let_be(site: Site) -> None:
    site.run("ALTER TABLE patients ADD CONSTRAINT phi_guard_ssn CHECK (ssn IS NULL)")
    with pytest.raises(ConfigError, match=r"public\.patients\.ssn is not a column in plaintext"):
        await site.init(column("ssn"), clear=[SSN])  # type: ignore[arg-type]


async def test_bytea_is_told_by_its_guard(site: Site) -> None:
    site.run("INSERT INTO patients (ssn) VALUES ('\\x00')")
    wanted = WantedIdentity("c:public.patients.ssn", "t:public.patients", "bytea", (), (SSN,))
    await site.init(wanted)
    assert await in_clear(site) == {SSN}
    site.run("TRUNCATE patients; ALTER TABLE patients ADD CONSTRAINT phi_guard_ssn CHECK (ssn IS NULL)")
    with pytest.raises(ConfigError, match="not a column in plaintext"):
        await site.init(wanted, clear=[SSN])  # type: ignore[arg-type]


async def test_sealed_is_for_good(site: Site) -> None:
    site.run("INSERT INTO patients (name) VALUES ('in plaintext')")
    await site.init(column("name"))
    for _ in range(2):  # two proxies may notice it
        async with site.registry() as registry, registry.changing() as change:
            await forbid_clear(change, [NAME])
    assert await in_clear(site) == frozenset()
    async with await site.connect() as conn:
        assert await verify(await site.trust(), conn) == []


async def test_a_renamed_column_takes_it_along_and_a_sealed_one_gets_nothing(site: Site) -> None:
    site.run("INSERT INTO patients (name) VALUES ('in plaintext')")
    await site.init(column("name"), column("ssn"))
    site.run("ALTER TABLE patients RENAME name TO full_name; ALTER TABLE patients RENAME ssn TO number")
    site.run("ALTER TABLE patients ALTER number TYPE text USING 'x'")
    moved = [
        WantedIdentity(f"c:public.patients.{old}", "t:public.patients", "text", ("@",), (("public", "patients", new),))
        for old, new in (("name", "full_name"), ("ssn", "number"))
    ]
    await site.init(*moved)
    assert await in_clear(site) == {("public", "patients", "full_name")}


async def test_a_row_that_somebody_adds_or_takes_away(site: Site) -> None:
    """What is added is not believed; that one is missing makes its column protected."""
    site.run("INSERT INTO patients (name) VALUES ('in plaintext')")
    await site.init(column("name"), column("ssn"))
    site.run("INSERT INTO phiproxy.clear_column VALUES ('public', 'patients', 'ssn')")
    assert await in_clear(site) == {NAME}
    site.run("DELETE FROM phiproxy.clear_column")
    assert await in_clear(site) == frozenset()
    async with await site.connect() as conn:
        (fault,) = await verify(await site.trust(), conn)
    assert (fault.what, fault.why) == ("clear_column ('public', 'patients', 'name')", "is missing")


async def test_a_registry_of_an_older_version_has_no_such_table(site: Site) -> None:
    await site.init(column("ssn"))
    site.run("DROP TABLE phiproxy.clear_column, phiproxy.observation")
    async with await site.connect() as conn:
        assert (await read_layout(conn)).clear == frozenset()
        assert await verify(await site.trust(), conn) == []
    site.run("INSERT INTO patients (name) VALUES ('in plaintext')")
    await site.init(column("ssn"), column("name"))
    assert await in_clear(site) == {NAME}
