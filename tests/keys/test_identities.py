"""Who gets which number: names, renames, conflicts, and when a slot may be active at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from phiproxy.errors import ConfigError
from phiproxy.keys.identities import label
from phiproxy.keys.lifecycle import init
from phiproxy.keys.registry import Connection
from phiproxy.policy.registry_layout import WantedIdentity
from tests.keys.fakes import MRN, SSN, Site


def column(name: str, *expressions: str, identity: str | None = None, table: str = "patients") -> WantedIdentity:
    place = ("public", table, name)
    return WantedIdentity(identity or f"c:{label(place)}", f"t:public.{table}", "text", expressions or ("@",), (place,))


async def slots(site: Site, identity: str = "c:public.patients.ssn") -> list[tuple[object, ...]]:
    return site.run(
        "SELECT slot, expression, generation, state FROM phiproxy.slot JOIN phiproxy.identity USING (number)"
        " WHERE identity = %s ORDER BY slot",
        (identity,),
    )


def test_labels_are_quoted_as_postgresql_does() -> None:
    assert label(("public", "patients", "ssn")) == "public.patients.ssn"
    assert label(("My", "user", 'a"b')) == '"My"."user"."a""b"'


async def test_numbers_are_the_lowest_unused(site: Site) -> None:
    await site.init(MRN)
    await site.rewrite("INSERT INTO phiproxy.identity VALUES (3, 'd:other', 'd:other', 'text')")
    await site.init(MRN, column("ssn"), column("name"))
    assert site.run("SELECT number, identity FROM phiproxy.identity ORDER BY 1") == [
        (1, "d:mrn"),
        (2, "c:public.patients.ssn"),
        (3, "d:other"),
        (4, "c:public.patients.name"),
    ]


async def test_a_renamed_column_keeps_its_identity(site: Site) -> None:
    await site.init(SSN)
    site.run("ALTER TABLE patients RENAME ssn TO social")
    await site.rewrite("UPDATE phiproxy.column_name SET \"column\" = 'social'")
    assert await site.init(column("social", "@", "right(@,4)")) == []
    assert site.run("SELECT identity FROM phiproxy.identity") == [("c:public.patients.ssn",)]


async def test_a_column_renamed_behind_our_back_is_taken_over_with_its_id(site: Site) -> None:
    await site.init(SSN)
    site.run("ALTER TABLE patients RENAME ssn TO social")
    done = await site.init(column("social", "@", identity="c:public.patients.ssn"))
    assert [d.what for d in done] == ["column named"]
    assert site.run('SELECT "column", number FROM phiproxy.column_name') == [("social", 1)]
    assert site.run('SELECT "from", "to" FROM phiproxy.event WHERE what = \'column renamed\'') == [
        ("public.patients.ssn", "public.patients.social")
    ]


async def test_an_identity_of_another_existing_column_is_refused(site: Site) -> None:
    await site.init(SSN)
    with pytest.raises(ConfigError, match=r"belongs to the column public\.patients\.ssn"):
        await site.init(column("name", identity="c:public.patients.ssn"))
    site.run("ALTER TABLE patients RENAME ssn TO old_ssn; ALTER TABLE patients ADD ssn bytea")
    await site.rewrite("UPDATE phiproxy.column_name SET \"column\" = 'old_ssn'")
    with pytest.raises(ConfigError, match=r"belongs to the column public\.patients\.old_ssn"):
        await site.init(column("ssn"))


async def test_a_registered_column_does_not_change_its_identity(site: Site) -> None:
    await site.init(SSN)
    for identity in ("c:another", "d:ssn"):
        with pytest.raises(ConfigError, match=r"is registered as c:public\.patients\.ssn"):
            await site.init(column("ssn", identity=identity))
    await site.init(SSN, MRN)
    with pytest.raises(ConfigError, match=r"is registered as c:public\.patients\.ssn"):
        await site.init(replace(MRN, columns=(*MRN.columns, SSN.columns[0])))
    with pytest.raises(ConfigError, match="is registered as d:mrn"):
        await site.init(column("mrn"))


async def test_a_domain_grows(site: Site) -> None:
    await site.init(MRN)
    site.run("CREATE TABLE labs (mrn bytea)")
    done = await site.init(replace(MRN, columns=(*MRN.columns, ("public", "labs", "mrn"))))
    assert [d.subject for d in done] == ["public.labs.mrn is d:mrn"]


async def test_another_type_is_refused_and_the_scope_never_changes(site: Site) -> None:
    await site.init(SSN)
    with pytest.raises(ConfigError, match="registered with type text, the policy says date"):
        await site.init(replace(SSN, type_name="date"))
    assert await site.init(replace(SSN, scope="t:public.people")) == []
    assert site.run("SELECT scope FROM phiproxy.identity") == [("t:public.patients",)]


async def test_twice_in_the_policy_is_refused(site: Site) -> None:
    with pytest.raises(ConfigError, match="stands twice"):
        await site.init(SSN, SSN)


async def test_slots_keep_their_numbers_whatever_the_order(site: Site) -> None:
    await site.init(column("ssn", "@", "right(@,4)"))
    assert await site.init(column("ssn", "right(@,4)", "@")) == []
    await site.init(column("ssn", "lower(@)", "@"))
    assert await slots(site) == [(0, "@", 1, "active"), (1, "right(@,4)", 1, "active"), (2, "lower(@)", 1, "active")]


async def test_a_dropped_slot_is_not_given_again(site: Site) -> None:
    await site.init(column("ssn"))
    await site.rewrite("UPDATE phiproxy.slot SET state = 'dropped'")
    await site.init(column("ssn"))
    assert await slots(site) == [(0, "@", 1, "dropped"), (1, "@", 1, "active")]


async def test_a_slot_over_values_is_built_first(site: Site) -> None:
    await site.init(column("ssn"))
    site.run("INSERT INTO patients (ssn) VALUES (NULL)")
    await site.init(column("ssn", "@", "lower(@)"))
    site.run("INSERT INTO patients (ssn) VALUES ('\\x00')")
    await site.init(column("ssn", "@", "lower(@)", "upper(@)"))
    assert [s[3] for s in await slots(site)] == ["active", "active", "building"]


async def test_one_column_of_a_domain_with_values_is_enough(site: Site) -> None:
    site.run("INSERT INTO visits (mrn) VALUES ('\\x00')")
    await site.init(MRN)
    assert [s[3] for s in await slots(site, "d:mrn")] == ["building"]


async def test_rows_in_plaintext_are_values(site: Site) -> None:
    await site.init(column("name"))
    assert [s[3] for s in await slots(site, "c:public.patients.name")] == ["active"]
    site.run("INSERT INTO patients (name) VALUES (NULL)")
    await site.init(column("name", "@", "lower(@)"))
    assert [s[3] for s in await slots(site, "c:public.patients.name")] == ["active", "building"]


async def test_values_in_a_partition_are_seen(site: Site) -> None:
    site.run(
        "CREATE TABLE parts (k int, ssn bytea) PARTITION BY LIST (k); CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1)"
    )
    site.run("INSERT INTO parts VALUES (1, '\\x00')")
    await site.init(column("ssn", table="parts"))
    assert [s[3] for s in await slots(site, "c:public.parts.ssn")] == ["building"]


async def test_a_column_that_is_not_there_yet_is_empty(site: Site) -> None:
    await site.init(column("later", table="absent"))
    assert [s[3] for s in await slots(site, "c:public.absent.later")] == ["active"]


async def test_row_security_does_not_hide_values(site: Site) -> None:
    site.server.create_role("phi_rls", "x")
    site.run("CREATE SCHEMA phiproxy AUTHORIZATION phi_rls; GRANT SELECT, UPDATE ON patients TO phi_rls")
    site.run("ALTER TABLE patients ENABLE ROW LEVEL SECURITY")
    site.run("INSERT INTO patients (ssn) VALUES ('\\x00')")
    role = site.server.dsn(site.name, "phi_rls", "x")
    async with await Connection.connect(role) as conn:
        with pytest.raises(ConfigError, match="lacks a privilege"):
            await init(conn, [SSN], "clinic-test", site.provider)


async def test_a_writer_that_is_not_done_is_waited_for(site: Site) -> None:
    async with await site.connect() as writer:
        await writer.execute("INSERT INTO patients (ssn) VALUES ('\\x00')")
        waiting = asyncio.ensure_future(site.init(SSN))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await writer.commit()
        await waiting
    assert {s[3] for s in await slots(site)} == {"building"}


async def test_the_numbers_end(site: Site) -> None:
    await site.init(column("ssn"))
    await site.rewrite("INSERT INTO phiproxy.slot SELECT 1, n, 'e' || n, 1, NULL, 1, 'active' FROM generate_series(1, 254) n")
    with pytest.raises(ConfigError, match="no number left"):
        await site.init(column("ssn", "@", "left(@,9)"))


async def test_a_column_that_is_to_be_renamed_has_both_names_until_it_is(site: Site) -> None:
    names = (("public", "patients", "ssn"), ("public", "patients", "social"))
    both = replace(column("ssn"), columns=names)
    await site.init(column("ssn"))
    assert [d.what for d in await site.init(both)] == ["column named"]
    assert await site.init(both) == []
    site.run("ALTER TABLE patients RENAME ssn TO social")
    assert await site.init(column("social", identity="c:public.patients.ssn")) == []
    site.run("ALTER TABLE patients RENAME social TO ssn; ALTER TABLE patients ADD other bytea")
    with pytest.raises(ConfigError, match="belongs to the column"):
        await site.init(replace(both, columns=(*names, ("public", "patients", "other"))))
