"""Values of megabytes: a neighbour's statement is answered while one is sealed or opened. By order, not by a clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from phiproxy.crypto import seal
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import Connection, connect, serving, site_settings, wire_site

VALUE = "é secret " * 200_000
INSERT = "INSERT INTO notes (id, body) VALUES (%s, %s)"
SPOIL = """
UPDATE notes SET body = set_byte(body, length(body) - 1, get_byte(body, length(body) - 1) # 1) WHERE id = 4
"""
SELECT = "SELECT body FROM notes WHERE id = %s"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One protected column."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("long"), rows=1) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        yield site


@pytest.fixture(autouse=True)
def _empty(site: Site) -> None:
    """No test finds what another has left: they run in any order, and a row that were sent twice violates the primary key."""
    for database in (site.sealed, site.plain):
        with site.server.connect(database) as direct:
            direct.execute("TRUNCATE notes")


class Held:
    """A function of AES-256-GCM that does not begin before the neighbour is answered."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str) -> None:
        self._called = getattr(seal, name)
        self.begun, self.answered = threading.Event(), threading.Event()
        patch.setattr(seal, name, self._hold)

    def _hold(self, *arguments: object) -> object:
        self.begun.set()
        assert self.answered.wait(240), "the neighbour was not answered meanwhile"
        return self._called(*arguments)


async def beside(held: Held, running: asyncio.Task[object], neighbour: Connection) -> None:
    """Have the neighbour answered while the statement is held."""
    assert await asyncio.to_thread(held.begun.wait, 240)
    assert await (await neighbour.execute("SELECT 1")).fetchone() == (1,)
    assert not running.done()
    held.answered.set()
    await running


async def test_a_neighbour_is_answered_while_a_value_is_sealed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as conn, await connect(site, port) as neighbour:
        held = Held(monkeypatch, "encrypt")
        await beside(held, asyncio.create_task(conn.execute(INSERT, (1, VALUE))), neighbour)
        assert await (await conn.execute(SELECT, (1,))).fetchone() == (VALUE,)
        with site.server.connect(site.sealed) as direct:
            row = direct.execute("SELECT body FROM notes WHERE id = 1").fetchone()
        assert row is not None
        assert isinstance(row[0], bytes)
        assert row[0][:2] == b"\xf5\x50"
        assert b"secret" not in row[0]


@pytest.mark.parametrize("binary", [False, True])
async def test_a_neighbour_is_answered_while_a_value_is_opened(site: Site, monkeypatch: pytest.MonkeyPatch, binary: bool) -> None:
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as conn, await connect(site, port) as neighbour:
        number = 2 + binary
        await conn.execute(INSERT, (number, VALUE))
        held = Held(monkeypatch, "decrypt")
        cursor = conn.cursor(binary=binary)
        await beside(held, asyncio.create_task(cursor.execute(SELECT, (number,))), neighbour)
        assert await cursor.fetchone() == (VALUE,)


async def test_a_long_value_that_was_changed_shows_nothing(site: Site) -> None:
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as conn:
        await conn.execute(INSERT, (4, VALUE))
        with site.server.connect(site.sealed) as direct:
            direct.execute(SPOIL)
        with pytest.raises(Exception, match="does not open") as caught:
            await conn.execute(SELECT, (4,))
        assert "secret" not in str(caught.value)
        assert await (await conn.execute("SELECT 1")).fetchone() == (1,)
        # In the simple protocol the stored value comes in hex.
        with pytest.raises(Exception, match="does not open"):
            await conn.execute(b"SELECT body FROM notes WHERE id = 4")


async def test_a_long_value_comes_in_hex_by_the_simple_protocol(site: Site) -> None:
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as conn:
        await conn.execute(INSERT, (5, VALUE))
        cursor = await conn.execute(b"SELECT body, id, body FROM notes WHERE id = 5")
        assert await cursor.fetchone() == (VALUE, 5, VALUE)


COPIED = "é secret\t\\ or\n " * 110_000
FORMATS = ["text", "csv", "binary"]


@pytest.mark.parametrize("form", FORMATS)
async def test_a_neighbour_is_answered_while_a_field_is_copied(site: Site, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    number = 10 + FORMATS.index(form)
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as conn, await connect(site, port) as neighbour:
        copied = f"COPY (SELECT id, body FROM notes WHERE id IN ({number}, {number + 10}) ORDER BY id) TO STDOUT (FORMAT {form})"

        async def copy_in() -> None:
            async with conn.cursor() as cursor, cursor.copy(f"COPY notes (id, body) FROM STDIN (FORMAT {form})".encode()) as copy:
                if form == "csv":
                    await copy.write(f'{number},"{COPIED}"\n{number + 10},short\n')
                else:
                    copy.set_types(["int4", "text"])
                    await copy.write_row((number, COPIED))
                    await copy.write_row((number + 10, "short"))

        async def copy_out() -> bytes:
            async with conn.cursor() as cursor, cursor.copy(copied.encode()) as copy:
                return b"".join([bytes(piece) async for piece in copy])

        await beside(Held(monkeypatch, "encrypt"), asyncio.create_task(copy_in()), neighbour)
        assert await (await conn.execute(SELECT, (number,))).fetchone() == (COPIED,)
        assert await (await conn.execute(SELECT, (number + 10,))).fetchone() == ("short",)
        out = asyncio.create_task(copy_out())
        await beside(Held(monkeypatch, "decrypt"), out, neighbour)
        with site.server.connect(site.plain) as direct:  # the server's own spelling of the same
            direct.execute(INSERT, (number, COPIED))
            direct.execute(INSERT, (number + 10, "short"))
            with direct.cursor().copy(copied.encode()) as copy:
                assert out.result() == b"".join(map(bytes, copy))


async def test_a_field_that_was_changed_is_not_copied_and_the_next_is(site: Site) -> None:
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as conn:
        for number in (4, 5):
            await conn.execute(INSERT, (number, VALUE))
        with site.server.connect(site.sealed) as direct:
            direct.execute(SPOIL)

        async def copied(number: int) -> bytes:
            statement = f"COPY (SELECT body FROM notes WHERE id = {number}) TO STDOUT"
            async with conn.cursor() as cursor, cursor.copy(statement.encode()) as copy:
                return b"".join([bytes(piece) async for piece in copy])

        assert await copied(5) == VALUE.encode() + b"\n"
        with pytest.raises(Exception, match="does not open"):
            await copied(4)
        assert await copied(5) == VALUE.encode() + b"\n"


async def test_long_values_are_converted_from_and_to_the_clients_encoding(site: Site) -> None:
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as conn:
        await conn.execute("SET client_encoding TO 'LATIN1'")
        await conn.execute(INSERT, (30, VALUE))
        assert await (await conn.execute(SELECT, (30,))).fetchone() == (VALUE,)
        await conn.execute(f"INSERT INTO notes (id, body) VALUES (31, '{VALUE}')".encode("latin-1"))
        shorter = VALUE[:700_000]  # it is long only when it is sealed
        await conn.execute(f"INSERT INTO notes (id, body) VALUES (32, '{shorter}')".encode("latin-1"))
        await conn.execute("SET client_encoding TO 'UTF8'")
        for number, value in ((30, VALUE), (31, VALUE), (32, shorter)):
            assert await (await conn.execute(SELECT, (number,))).fetchone() == (value,)
