"""A primary and its standby, which is promoted: a real failover, on one machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from phiproxy.demo.postgres import EmbeddedPostgres, free_port
from phiproxy.postgres import postmaster
from tests.harness.mortal_server import kill_postgres
from tests.harness.server import PostgresServer

# Acknowledged is what the standby has: the others' settings are made for speed.
SETTINGS = {
    "wal_level": "replica",
    "hot_standby": "on",
    "synchronous_commit": "on",
    "wal_keep_size": "512MB",
    "max_wal_senders": "5",
    "wal_receiver_timeout": "5s",
    "max_standby_streaming_delay": "120s",  # who reads at the standby is not ended for a slow machine
}


@dataclass
class Replicas:
    """``primary`` and ``standby`` as they are at first."""

    own: EmbeddedPostgres
    primary: PostgresServer
    standby: PostgresServer
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def promote(self) -> None:
        """Make the standby a primary, and wait until it is."""
        with self.standby.connect() as conn:
            conn.execute("SELECT pg_promote(true, 120)")

    def kill_primary(self) -> None:
        """As a power failure would: nothing is said or written any more."""
        kill_postgres(self.own)

    def stop_primary(self) -> None:
        """As an administrator would before a switch-over."""
        assert self.own._process is not None
        self.own._process.send_signal(signal.SIGINT)
        self.own._process.wait(240)

    def restart_as_standby(self) -> None:
        """Start what was the primary as a standby of what was the standby; it must have been stopped in order."""
        (self.own.data / "standby.signal").touch()
        self.own._who.own(self.own.data / "standby.signal")
        postmaster.write_settings(self.own.data, {"primary_conninfo": _conninfo(self.standby), "synchronous_standby_names": ""})
        with self.own.log_path.open("ab") as log:
            arguments = ["-p", str(self.own.port), "-c", f"unix_socket_directories={self.own.directory}"]
            self.own._process = postmaster.launch(self.own._who, self.own.bindir, self.own.data, *arguments, output=log)
        _wait(self.primary, self.own.log_path)


def _conninfo(server: PostgresServer) -> str:
    return f"host={server.host} port={server.port} user={server.superuser} password={server.password} application_name=standby"


@contextmanager
def replicas(*, synchronous: bool = True, settings: dict[str, str] | None = None) -> Iterator[Replicas]:
    """Run both; with ``synchronous`` the primary waits for the standby at each COMMIT. ``settings`` are others of both."""
    with EmbeddedPostgres(settings={**SETTINGS, **(settings or {})}) as own:
        assert own._process is not None
        postmaster.stop(own._process)
        data = own.directory / "standby"
        shutil.copytree(own.data, data, ignore=shutil.ignore_patterns("postmaster.pid", "postmaster.opts"), symlinks=True)
        data.chmod(0o700)
        primary = PostgresServer(own.host, own.port, own.superuser, own.password, own.log_path, own.bindir)
        standby = PostgresServer(own.host, free_port(), own.superuser, own.password, own.directory / "standby.log", own.bindir)
        (data / "standby.signal").touch()
        postmaster.write_settings(data, {"primary_conninfo": _conninfo(primary)})
        for path in (data, *data.rglob("*")):
            own._who.own(path)
        if synchronous:
            postmaster.write_settings(own.data, {"synchronous_standby_names": "standby"})
        assert own._launch(last=True)
        both = Replicas(own, primary, standby, data)
        try:
            assert standby.log_path is not None
            with standby.log_path.open("wb") as log:
                arguments = ["-p", str(standby.port), "-c", f"unix_socket_directories={own.directory}"]
                both.process = postmaster.launch(own._who, own.bindir, data, *arguments, output=log)
            _wait(standby, standby.log_path)
            yield both
        finally:
            if both.process is not None:
                with suppress(ProcessLookupError):
                    postmaster.stop(both.process)


def _wait(server: PostgresServer, log: Path, patience: float = 120) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError:
            assert time.monotonic() < end, log.read_text("utf-8", "replace")[-2000:]
            time.sleep(0.1)
        else:
            return
