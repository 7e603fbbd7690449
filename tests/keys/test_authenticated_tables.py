"""Every table of the registry is authenticated, or has no meaning; a row reads as the same text whatever the settings are."""

from __future__ import annotations

from psycopg import sql

from phiproxy.keys.authenticated_tables import AUTHENTICATED, DATA_KEY, META, ROOT_KEY, any_of, of_key, read_rows
from phiproxy.keys.registry_schema import TABLES
from tests.keys.fakes import DEPLOYMENT, Site

ALL = sql.SQL("true")
WITHOUT = {"event", "proxy", "announcement", "manifest", "counter", "job_progress", "observation", "hold"}
NOT_AUTHENTICATED = {"meta": {"one", "epoch"}, "data_key": {"used", "format"}, "root_key": {"format"}}


async def test_every_column_with_a_meaning_is_authenticated(site: Site) -> None:
    await site.init()
    assert set(TABLES) - WITHOUT == set(AUTHENTICATED)
    for name, of in AUTHENTICATED.items():
        columns = {str(c) for (c,) in site.run("SELECT column_name FROM information_schema.columns WHERE table_schema = 'phiproxy'"
                                               " AND table_name = %s", (name,))}  # fmt: skip
        read = " ".join((*of.key, *of.fields)).replace('"', "").replace("'", "")
        missing = {
            column for column in columns if column not in read.replace("t.", " ").replace(")", " ").replace(",", " ").split()
        }
        assert missing == NOT_AUTHENTICATED.get(name, set())


async def test_a_row_is_the_same_text_whatever_the_settings_are(site: Site) -> None:
    await site.init()
    found = []
    for settings in (
        "SET TimeZone = 'UTC'",
        "SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'SQL, DMY'; SET bytea_output = 'escape'",
    ):
        async with await site.connect() as conn:
            await conn.execute(settings.encode())
            found.append([await read_rows(conn, "phiproxy", of, ALL) for of in AUTHENTICATED.values()])
    assert found[0] == found[1]


async def test_rows_by_key_and_without_their_root(site: Site) -> None:
    await site.init()
    async with await site.connect() as conn:
        (meta,) = await read_rows(conn, "phiproxy", META, of_key(META))
        assert meta.row.fields[:2] == ("2", DEPLOYMENT)
        keys = await read_rows(conn, "phiproxy", DATA_KEY, ALL)
        (one,) = await read_rows(conn, "phiproxy", DATA_KEY, of_key(DATA_KEY), keys[0].row.key)
        assert one == keys[0]
        roots = {r.row.fields[0]: r for r in await read_rows(conn, "phiproxy", ROOT_KEY, ALL)}
        assert one.group == roots[one.row.fields[0]].group
        assert await read_rows(conn, "phiproxy", DATA_KEY, any_of("t.id"), ([int(one.row.key[0])],)) == [one]
    site.run("ALTER TABLE phiproxy.data_key DROP CONSTRAINT data_key_root_id_fkey")
    site.run("UPDATE phiproxy.data_key SET root_id = root_id + 999")
    async with await site.connect() as conn:
        assert {read.group for read in await read_rows(conn, "phiproxy", DATA_KEY, ALL)} == {""}
