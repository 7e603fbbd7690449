"""An embedded PostgreSQL for the demo and the tests: made, started, stopped and removed; knows nothing of the proxy.

Loopback only, SCRAM-SHA-256 with a generated password, everything in one temporary directory, unless its data are to lie elsewhere.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from phiproxy.errors import ConfigError
from phiproxy.postgres import binaries, postmaster

# An outgoing connection may take any port of the ephemeral range, which begins at 32768 on Linux.
PORTS = (20000, 32000)
ATTEMPTS = 5
# Descriptors that keep the ports given away lately from others: until somebody listens, and again after that has ended.
KEPT = 32
_kept: deque[int] = deque()

QUIET = {
    "listen_addresses": "127.0.0.1",
    "logging_collector": "off",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "jit": "off",  # over tables as small as these, compiling a query over the catalogue takes longer than its answer
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}
# Everything PostgreSQL can be made to keep of a statement: what the leak oracle reads.
HOSTILE = {
    "log_statement": "all",
    "log_min_messages": "info",
    "log_min_error_statement": "error",
    "log_error_verbosity": "verbose",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
}


def free_port() -> int:
    """Return a port of 127.0.0.1, below the ephemeral range, that nobody has and nobody else is given for some time."""
    for _ in range(200):
        port = PORTS[0] + secrets.randbelow(PORTS[1] - PORTS[0])
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            # Bound, not listening: who looks for a free port passes it by, and a server, which sets SO_REUSEADDR too, may have it.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _kept.append(probe.detach())
        if len(_kept) > KEPT:
            os.close(_kept.popleft())
        return port
    raise ConfigError(f"no free port between {PORTS[0]} and {PORTS[1]}")


class EmbeddedPostgres:
    """One server. ``with EmbeddedPostgres() as server:`` runs it; ``hostile_log`` makes it log all it can.

    ``data_below``: where a directory for its data is made, which its user must be able to reach; the log lies on disk all the same.
    """

    host = "127.0.0.1"
    superuser = "postgres"

    def __init__(
        self, *, hostile_log: bool = False, settings: dict[str, str] | None = None, data_below: Path | None = None
    ) -> None:
        self.settings = {**QUIET, **(HOSTILE if hostile_log else {}), **(settings or {})}
        self.password = secrets.token_urlsafe(18)
        self.port = 0
        self.bindir = Path()
        self.directory = self.data = self.log_path = Path()
        self._data_below = data_below
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._process.pid if self._process else None

    def dsn(self, dbname: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """Return a URI for this server, the superuser's unless told."""
        login = f"{quote(user or self.superuser, safe='')}:{quote(password or self.password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(dbname, safe='')}"

    def start(self) -> Self:
        """Make the data directory and start the server; returns when it takes connections."""
        self._who = binaries.runner()
        self.directory = Path(tempfile.mkdtemp(prefix="phiproxy-pg-", dir=binaries.roomy_directory(self._who)))
        self.data, self.log_path = self.directory / "data", self.directory / "server.log"
        try:
            self._who.own(self.directory)
            if self._data_below is not None:
                self.data = Path(tempfile.mkdtemp(prefix="phiproxy-pg-", dir=self._data_below)) / "data"
                self._who.own(self.data.parent)
            self.bindir = binaries.find(self._who, self.directory)
            self._initdb()
            for attempt in range(ATTEMPTS):
                self.port = free_port()
                if self._launch(last=attempt == ATTEMPTS - 1):
                    return self
        except BaseException:
            self.stop()
            raise
        raise AssertionError("the last attempt raises")

    def stop(self) -> None:
        """Shut down fast, kill what does not obey, remove the directory. May be called twice."""
        process, self._process = self._process, None
        try:
            if process is not None:
                postmaster.stop(process)
        finally:
            for directory in {self.directory, self.data.parent} - {Path()}:
                shutil.rmtree(directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _initdb(self) -> None:
        password_file = self.directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password + "\n", encoding="ascii")
        self._who.own(password_file)
        common = ["-U", self.superuser, "-A", "scram-sha-256", f"--pwfile={password_file}", "-E", "UTF8", "--no-sync"]
        for locale in ("--locale=C.UTF-8", "--no-locale"):  # not every system has C.UTF-8
            done = postmaster.initdb(self._who, self.bindir, self.data, *common, locale)
            if done.returncode == 0 or "locale" not in done.stderr:
                break
        password_file.unlink()
        if done.returncode != 0:
            raise ConfigError(f"initdb failed: {postmaster.last_words(done.stderr)}")
        postmaster.write_settings(self.data, self.settings)

    def _launch(self, *, last: bool) -> bool:
        """Start the postmaster on ``self.port``; False if another process took that port meanwhile."""
        arguments = ["-p", str(self.port)]
        # A socket's path has a place for 107 bytes only; without one TCP is enough.
        room = len(str(self.directory)) < 80
        arguments += ["-c", f"unix_socket_directories={self.directory if room else ''}"]
        with self.log_path.open("wb") as log:
            self._process = postmaster.launch(self._who, self.bindir, self.data, *arguments, output=log)
        if postmaster.wait_ready(self._process, self.data):
            return True
        code, log_text = self._process.poll(), self.log_path.read_text("utf-8", "replace")
        if code is not None:
            self._process = None
            if "could not bind" in log_text and not last:
                return False
        raise ConfigError(f"PostgreSQL did not start: {postmaster.last_words(log_text)}")
