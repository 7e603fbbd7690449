"""The embedded engine: a PostgreSQL of the proxy's own, made, started, watched and ended; its files are gone when it is.

When it ends by itself, all is wiped and made anew: whoever computed there is told so (57P03), and the next statement finds another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
from collections import deque
from pathlib import Path

import structlog

from phiproxy.engine import locked_down
from phiproxy.engine.access import ADMINISTRATOR, ROLE, Access, random_credentials
from phiproxy.engine.databases import connect
from phiproxy.engine.directory import Directory, make_directory, remove_abandoned
from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.policy.settings import Compute
from phiproxy.postgres import binaries, postmaster

log = structlog.get_logger("phiproxy.engine")
# One that ends sooner is not started again at once: each time it waits twice as long, up to half a minute.
SETTLED = 10.0
FIRST_WAIT, LONGEST_WAIT = 0.1, 30.0
# Beside the sessions: the administrator of each worker, twice at a time.
SPARE_CONNECTIONS = 30
# A sort may take several times what it sorts.
TEMPORARY_FILES = 4
_SAID = 4096
# Seconds until an end is noticed where other processes live on.
WATCHED_EVERY = 0.2
# How often these are ended until they are gone.
_ORPHANS = 250
# Seconds. What was computed at when its proxy was killed may outlive it by a moment, and be in use when the next one starts.
SWEPT_EVERY = 5.0
_HBA = f"""\
local all {ADMINISTRATOR} scram-sha-256
local all {ROLE} scram-sha-256
"""


class Cluster:
    """One engine. ``major`` is the server's major version, which is looked for first.

    To be started by the thread that stays until the end, as the kernel ends PostgreSQL with it.
    """

    def __init__(self, compute: Compute, *, major: int = 0) -> None:
        self._compute = compute
        self._major = major
        self._who = binaries.runner()
        self._directory: Directory | None = None
        self._programs: Directory | None = None
        self._bindir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._output = _Output()
        self._tasks: list[asyncio.Task[None]] = []
        self._password = secrets.token_urlsafe(24)
        self._credentials = random_credentials()
        self.starts = 0

    @property
    def access(self) -> Access:
        """How it is reached: the same before and after it was started again."""
        assert self._directory is not None
        return Access(str(self._directory.path), 5432, ADMINISTRATOR, self._password, self._credentials)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Make it and start it; PhiproxyError, with PostgreSQL's reason, where that fails."""
        limits = self._compute.limits
        self._directory = await asyncio.to_thread(
            make_directory, self._compute.directory, self._who, min(limits.bytes * limits.sessions, 1 << 30)
        )
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._watch(), name="watch the engine"), loop.create_task(self._sweep(), name="sweep")]

    async def stop(self) -> None:
        """End it and remove its files; may be called twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])
        await self._end()
        for directory in (self._directory, self._programs):
            if directory is not None:
                await asyncio.to_thread(directory.remove)
        self._directory = self._programs = None

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            await asyncio.to_thread(postmaster.stop, process)
        await self._end_orphans()
        self._output.close()

    async def _end_orphans(self) -> None:
        """End the processes of a postmaster that is gone: one that computes does not notice that by itself."""
        assert self._directory is not None
        for _ in range(_ORPHANS):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(postmaster.POLL):
                    await self._output.ended.wait()
                return
            await asyncio.to_thread(postmaster.kill_orphans, self._directory.data)
        raise ConfigError("processes of an engine that ended cannot be ended")

    async def _start(self) -> None:
        directory = self._directory
        assert directory is not None
        bindir = await asyncio.to_thread(self._make, directory)
        self._output = output = _Output()
        reading, writing = os.pipe()
        await asyncio.get_running_loop().connect_read_pipe(lambda: output, os.fdopen(reading, "rb", buffering=0))
        try:
            self._process = process = postmaster.launch(
                self._who, bindir, directory.data, output=writing, inherited=(directory.lock,)
            )
        finally:
            os.close(writing)
        if not await self._is_ready(process, directory):
            await self._end()
            raise ConfigError(f"the engine does not start: {postmaster.last_words(output.text)}")
        output.forget()
        async with connect(self.access) as conn:
            temporary = TEMPORARY_FILES * self._compute.limits.bytes
            for statement in (*locked_down.lock_maintenance(), *locked_down.make_role(self.access.verifier, temporary)):
                await conn.execute(statement)
        self.starts += 1
        log.info("the engine runs", binaries=str(bindir), directory=str(directory.path))

    def _make(self, directory: Directory) -> Path:
        """Make the data directory; returns where the programs are."""
        bindir = self._found()
        password = directory.path / "password"
        password.touch(mode=0o600)
        password.write_text(self._password + "\n", encoding="ascii")
        self._who.own(password)
        options = ["-U", ADMINISTRATOR, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--no-locale"]
        done = postmaster.initdb(self._who, bindir, directory.data, *options, "--no-sync", "--no-instructions", "--wal-segsize=1")
        password.unlink()
        if done.returncode != 0:
            raise ConfigError(f"the engine cannot be made: initdb: {postmaster.last_words(done.stderr)}")
        (directory.data / "pg_hba.conf").write_text(_HBA, encoding="ascii")
        settings = {
            **locked_down.CLUSTER,
            "unix_socket_directories": str(directory.path),
            "unix_socket_permissions": "0700",
            "port": "5432",
            "max_connections": str(self._compute.limits.sessions + SPARE_CONNECTIONS),
        }
        if (binaries.version_of(bindir, self._who) or 0) >= 18:
            settings["io_method"] = "sync"  # no processes that read for others
        postmaster.write_settings(directory.data, settings)
        return bindir

    def _found(self) -> Path:
        """Find the programs, once; a copy of them is made on disk: in many a container nothing in memory may be executed."""
        if self._bindir is None:
            self._programs = programs = make_directory(binaries.roomy_directory(self._who), self._who, 0)
            self._bindir = binaries.find(self._who, programs.path, named=self._compute.binaries, major=self._major, extra="compute")
        return self._bindir

    async def _is_ready(self, process: subprocess.Popen[bytes], directory: Directory) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(postmaster.START_PATIENCE):
                while process.poll() is None:
                    if postmaster.is_ready(process, directory.data):
                        return True
                    await asyncio.sleep(postmaster.POLL)
        return False

    async def _watch(self) -> None:
        """Start it again whenever it has ended, until this is cancelled."""
        loop = asyncio.get_running_loop()
        wait = 0.0
        while True:
            begun, process = loop.time(), self._process
            assert process is not None
            while (status := process.poll()) is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCHED_EVERY):
                        await self._output.ended.wait()
                        await asyncio.to_thread(process.wait)
            wait = FIRST_WAIT if loop.time() - begun > SETTLED else min(max(2 * wait, FIRST_WAIT), LONGEST_WAIT)
            log.error("the engine ended and is started again", status=status, seconds=wait)
            while True:
                await asyncio.sleep(wait)
                try:
                    await self._again()
                    break
                except (PhiproxyError, OSError) as error:
                    wait = min(max(2 * wait, FIRST_WAIT), LONGEST_WAIT)
                    reason = error.message if isinstance(error, PhiproxyError) else error.strerror
                    log.error("the engine does not start again", why=reason, seconds=wait)

    async def _sweep(self) -> None:
        """Remove what others have left behind, beside its own directories, until this is cancelled."""
        parents = {directory.path.parent for directory in (self._directory, self._programs) if directory is not None}
        while True:
            await asyncio.sleep(SWEPT_EVERY)
            for parent in parents:
                await asyncio.to_thread(remove_abandoned, parent)

    async def _again(self) -> None:
        assert self._directory is not None
        await self._end()
        await asyncio.to_thread(self._directory.empty)
        await self._start()


class _Output(asyncio.Protocol):
    """What the engine says: the end of it is known until that is ready, then dropped. ``ended``: none of its processes lives."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None
        self._said: deque[int] | None = deque(maxlen=_SAID)

    @property
    def text(self) -> str:
        """What was said."""
        return bytes(self._said or ()).decode("utf-8", "replace")

    def forget(self) -> None:
        """Drop what was said, and what will be."""
        self._said = None

    def close(self) -> None:
        """Listen no longer."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is there."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Something was said."""
        if self._said is not None:
            self._said.extend(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The last process has closed its standard error."""
        self.ended.set()
