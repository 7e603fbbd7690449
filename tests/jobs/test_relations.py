"""What a job knows of a table: what an UPDATE of it would fire, and whether it may act as its owner."""

from __future__ import annotations

import psycopg
import pytest

from phiproxy.errors import ConfigError
from phiproxy.jobs.relations import fired_by_update, parts_of, refuse_unless_owner
from tests.keys.fakes import Site


async def test_what_fires(site: Site) -> None:
    site.run("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
    for name, event, state in (
        ("a", "BEFORE UPDATE", ""),
        ("b", "AFTER INSERT", ""),
        ("c", "AFTER UPDATE OF name", "ENABLE REPLICA"),
        ("d", "AFTER INSERT OR UPDATE", "ENABLE ALWAYS"),
        ("e", "BEFORE UPDATE", "DISABLE"),
    ):
        site.run(f"CREATE TRIGGER {name} {event} ON patients FOR EACH ROW EXECUTE FUNCTION f()")
        if state:
            site.run(f"ALTER TABLE patients {state} TRIGGER {name}")
    site.run("CREATE RULE r AS ON UPDATE TO patients DO ALSO NOTHING")
    async with await site.connect() as conn:
        (part,) = await parts_of(conn, ("public", "patients"))
        assert await fired_by_update(conn, part.oid, as_replica=False) == ["a", "d", "r"]
        assert await fired_by_update(conn, part.oid, as_replica=True) == ["c", "d"]


async def test_who_may_alter_it(site: Site) -> None:
    site.server.create_role("jobs_owner", "x")
    site.server.create_role("jobs_service", "x")
    try:
        site.run("ALTER TABLE patients OWNER TO jobs_owner")
        async with await psycopg.AsyncConnection.connect(site.server.dsn(site.name, "jobs_service", "x")) as conn:
            parts = await parts_of(conn, ("public", "patients"))
            with pytest.raises(ConfigError, match="may not alter tables of jobs_owner") as refused:
                await refuse_unless_owner(conn, parts)
            assert refused.value.hint == "for the time of the job: GRANT jobs_owner TO jobs_service"
            site.run("GRANT jobs_owner TO jobs_service")
            await conn.rollback()
            await refuse_unless_owner(conn, parts)
    finally:
        site.run("DROP TABLE patients")
        with site.server.connect() as admin:
            admin.execute("DROP ROLE jobs_owner, jobs_service")
