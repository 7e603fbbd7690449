"""Listening sockets: ports in use, IPv6, and the files of Unix sockets."""

from __future__ import annotations

import asyncio
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from phiproxy.errors import ConfigError
from phiproxy.net import tasks
from phiproxy.net.sockets import close, close_all, given, keep_alive, listen_on, listening, readable
from phiproxy.policy.setting_values import Address
from tests.harness.server import PostgresServer
from tests.net.serving import bare_settings, dsn, serving, until


async def test_a_port_in_use(postgres_server: PostgresServer) -> None:
    before = tasks.running()
    async with serving(bare_settings(postgres_server)) as (_, port):
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            async with serving(bare_settings(postgres_server, listen=[f"127.0.0.1:{free_port()}", f"127.0.0.1:{port}"])):
                pass
    await until(lambda: tasks.running() <= before, "the first of two sockets was left open")


async def test_a_unix_socket(postgres_server: PostgresServer, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/.s.PGSQL.6432"
    if len(address) > 100:
        pytest.skip("this directory's name is too long for a socket")
    settings = bare_settings(postgres_server, listen=[address])
    for _ in range(2):  # the second finds the file of the first
        async with serving(settings) as (proxy, _):
            assert proxy.addresses == [Address(path=f"{tmp_path}/.s.PGSQL.6432")]
            conninfo = dsn(postgres_server, 6432).replace("host=127.0.0.1", f"host={tmp_path}")
            async with await psycopg.AsyncConnection.connect(conninfo) as conn:
                await conn.execute("SELECT 1")
            with pytest.raises(ConfigError, match="cannot listen"):
                async with serving(settings):
                    pass
        assert not socket_files(tmp_path), "the file was left behind"


def socket_files(directory: Path) -> list[Path]:
    """Return the files of Unix sockets in a directory."""
    return list(directory.glob(".s.*"))


@pytest.mark.parametrize("permissions", [0o777, 0o770, 0o600])
def test_the_file_has_the_permissions_that_were_asked_for(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "s"
    sock = listening(Address(path=str(path)), permissions)
    assert stat.S_IMODE(path.stat().st_mode) == permissions
    close(sock)
    assert not path.exists()


def test_the_file_of_a_dead_process_is_replaced_and_of_a_living_one_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    program = f"import socket; s = socket.socket(socket.AF_UNIX); s.bind({str(path)!r}); s.listen()"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert path.is_socket(), "the dead process left no file: nothing is tested"
    sock = listening(Address(path=str(path)))
    with pytest.raises(ConfigError, match=r"cannot listen on unix:.*: Address already in use"):
        listening(Address(path=str(path)))
    # Whoever has taken the place meanwhile keeps it.
    path.unlink()
    other = listening(Address(path=str(path)))
    close(sock)
    assert path.is_socket()
    close(other)
    assert not path.exists()


def test_what_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("a file of somebody's")
    with pytest.raises(ConfigError, match="cannot listen"):
        listening(Address(path=str(path)))
    assert path.read_text() == "a file of somebody's"


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
async def test_ipv6_on_both_legs(postgres_server: PostgresServer) -> None:
    """Two proxies in a row: the second reaches the first by IPv6."""
    async with (
        serving(bare_settings(postgres_server, listen=["[::1]:0"])) as (inner, inner_port),
        serving(bare_settings(postgres_server, listen=["[::1]:0"], upstream={"address": f"[::1]:{inner_port}"})) as (_, port),
    ):
        assert inner.addresses == [Address("::1", inner_port)]
        conninfo = dsn(postgres_server, port).replace("host=127.0.0.1", "host=::1")
        async with await psycopg.AsyncConnection.connect(conninfo) as conn:
            await conn.execute("SELECT 1")
            await conn.close()


def test_all_addresses_or_none() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addresses = [Address("127.0.0.1", port), Address("127.0.0.1", taken.getsockname()[1])]
        with pytest.raises(ConfigError, match="cannot listen"):
            listen_on(addresses)
    sockets = listen_on([Address("127.0.0.1", port), Address("127.0.0.1", 0)])
    first, second = given([Address("127.0.0.1", port), Address("127.0.0.1", 0)], sockets)
    assert first == Address("127.0.0.1", port)
    assert second.port == sockets[1].getsockname()[1] > 0
    close_all(sockets)
    assert [sock.fileno() for sock in sockets] == [-1, -1]


def test_nothing_is_set_on_a_unix_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        keep_alive(one)
        one.sendall(b"x")
        assert other.recv(1) == b"x"


async def test_waiting_for_something_to_read() -> None:
    one, other = socket.socketpair()
    with one, other:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await readable(other)
        one.sendall(b"x")
        await readable(other)


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes() -> None:
    program = """
import resource
from phiproxy.net.sockets import allow_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
print(allow_descriptors(50), allow_descriptors(200), resource.getrlimit(resource.RLIMIT_NOFILE)[0], allow_descriptors(1000))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == "100 200 200 300\n"
