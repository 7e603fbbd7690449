"""keys init: once, twice, at once, against a registry that is somebody else's, and with a KEK that does not fit."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from phiproxy.errors import ConfigError, NotAuthentic, ProviderDenied
from phiproxy.keys.lifecycle import init
from phiproxy.keys.registry import Connection
from phiproxy.keys.registry_schema import TABLES
from tests.keys.fakes import DEPLOYMENT, MRN, SSN, FakeProvider, Site

EVERYTHING = "SELECT " + ", ".join(f"(SELECT jsonb_agg(to_jsonb(x) ORDER BY x::text) FROM phiproxy.{name} x)" for name in TABLES)


async def test_the_first_run_makes_everything_and_says_so(site: Site) -> None:
    done = await site.init()
    assert [(d.what, d.subject) for d in done] == [
        ("registry made", "phiproxy"),
        ("registry key made", "r:registry"),
        ("identity registered", "d:mrn as number 1"),
        ("column named", "public.patients.mrn is d:mrn"),
        ("column named", "public.visits.mrn is d:mrn"),
        ("identity registered", "c:public.patients.ssn as number 2"),
        ("column named", "public.patients.ssn is c:public.patients.ssn"),
        ("data root key made", "d:mrn"),
        ("data key made", "d:mrn"),
        ("index root key made", "d:mrn"),
        ("data root key made", "t:public.patients"),
        ("data key made", "t:public.patients"),
        ("index root key made", "t:public.patients"),
        ("collation compared", "family simple, table 1"),
        ("slot made, active", "@ of d:mrn in slot 0"),
        ("slot made, active", "@ of c:public.patients.ssn in slot 0"),
        ("slot made, active", "right(@,4) of c:public.patients.ssn in slot 1"),
    ]
    assert len(site.provider.unwraps) == 5, "each new wrap is verified by one unwrap"
    steps = site.run("SELECT count(*) FROM phiproxy.event")
    assert steps == [(len(done),)]


async def test_the_second_run_changes_nothing(site: Site) -> None:
    await site.init()
    before = site.run(EVERYTHING)
    assert await site.init() == []
    assert site.run(EVERYTHING) == before


async def test_two_at_once_are_as_one(site: Site) -> None:
    results = await asyncio.gather(*(site.init() for _ in range(4)))
    assert sorted(bool(r) for r in results) == [False, False, False, True]
    assert site.run("SELECT count(*) FROM phiproxy.root_key") == [(5,)]
    assert site.run("SELECT count(*) FROM phiproxy.data_key") == [(2,)]


async def test_two_at_once_under_a_serializable_default(site: Site) -> None:
    site.run(f"ALTER DATABASE {site.name} SET default_transaction_isolation TO serializable")
    results = await asyncio.gather(*(site.init() for _ in range(3)))
    assert sum(bool(r) for r in results) == 1


async def test_growing_the_policy_adds_only_what_is_new(site: Site) -> None:
    await site.init(MRN)
    done = await site.init(MRN, SSN)
    assert {d.subject for d in done if d.what == "identity registered"} == {"c:public.patients.ssn as number 2"}
    assert site.run("SELECT epoch FROM phiproxy.meta") == [(3,)]


async def test_another_deployment_is_refused(site: Site) -> None:
    await site.init()
    async with await site.connect() as conn:
        with pytest.raises(ConfigError, match=f"deployment {DEPLOYMENT}, the policy says other"):
            await init(conn, [MRN], "other", site.provider)


async def test_another_format_is_refused(site: Site) -> None:
    await site.init()
    site.run("UPDATE phiproxy.meta SET format = 3")
    with pytest.raises(ConfigError, match="format 2"):
        await site.init()


async def test_a_kek_that_does_not_fit_the_registry_is_found(site: Site) -> None:
    await site.init()
    site.provider = FakeProvider()
    with pytest.raises(ProviderDenied):
        await site.init()


async def test_a_failing_provider_leaves_nothing_behind(site: Site) -> None:
    site.provider.fails = ProviderDenied
    with pytest.raises(ProviderDenied):
        await site.init()
    assert site.run("SELECT count(*) FROM pg_namespace WHERE nspname = 'phiproxy'") == [(0,)]


async def test_a_tampered_key_is_found(site: Site) -> None:
    await site.init()
    site.run("UPDATE phiproxy.data_key SET max_uses = 4000000000")
    with pytest.raises(NotAuthentic, match="data_key"):
        await site.init()


async def test_lost_active_roots_are_not_replaced(site: Site) -> None:
    await site.init()
    await site.rewrite("UPDATE phiproxy.root_key SET state = 'retired' WHERE purpose <> 'registry'")
    with pytest.raises(ConfigError, match="no active one"):
        await site.init()


async def test_foreign_privileges_are_refused(site: Site) -> None:
    await site.init()
    site.server.create_role("phi_reader", "x")
    site.run("GRANT SELECT ON phiproxy.root_wrap TO phi_reader")
    with pytest.raises(ConfigError, match="role phi_reader owns or has a privilege on root_wrap"):
        await site.init()


async def test_a_role_without_privileges_is_told_which(site: Site) -> None:
    site.server.create_role("phi_poor", "x")
    async with await Connection.connect(site.server.dsn(site.name, "phi_poor", "x")) as conn:
        with pytest.raises(ConfigError, match="lacks a privilege"):
            await init(conn, [MRN], DEPLOYMENT, site.provider)


async def test_a_service_role_that_owns_its_schema_only(site: Site) -> None:
    site.server.create_role("phi_service", "x")
    site.run("CREATE SCHEMA phiproxy AUTHORIZATION phi_service")
    site.run("GRANT SELECT, UPDATE ON patients, visits TO phi_service")
    async with await Connection.connect(site.server.dsn(site.name, "phi_service", "x")) as conn:
        assert (await init(conn, [MRN, SSN], DEPLOYMENT, site.provider)).done != []
    assert site.run("SELECT DISTINCT database_user FROM phiproxy.event") == [("phi_service",)]


async def test_init_wants_its_own_transaction(site: Site) -> None:
    async with await site.connect() as conn:
        await conn.execute("SELECT 1")
        with pytest.raises(ValueError, match="outside a transaction"):
            await init(conn, [MRN], DEPLOYMENT, site.provider)


async def test_no_secret_is_in_the_database(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    real = __import__("os").urandom

    def urandom(n: int) -> bytes:
        drawn.append(real(n))
        return drawn[-1]

    monkeypatch.setattr("os.urandom", urandom)
    await site.init()
    with psycopg.connect(site.dsn) as conn:
        row = conn.execute(EVERYTHING).fetchone()
    for secret in {d for d in drawn if len(d) == 32}:
        assert secret.hex() not in str(row)
    assert len([d for d in drawn if len(d) == 32]) >= 6
