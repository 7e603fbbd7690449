"""``phiproxy demo``: an embedded PostgreSQL, a local KEK, a clinic behind the proxy, and the same query from both sides.

Everything is done with the commands that a DBA would use, on files that stay readable in the demo's directory while it runs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import quote

import psycopg
from psycopg import sql

from phiproxy.demo import clinic
from phiproxy.demo.binaries import Runner
from phiproxy.demo.postgres import EmbeddedPostgres, free_port
from phiproxy.demo.show import Show
from phiproxy.errors import PhiproxyError

APPLICATION = "clinic_app"
START_PATIENCE = 30.0
USUAL_PORT = 6432

# Each line says why the proxy's own role needs it; nothing else is granted to it.
ROLES = """\
CREATE ROLE phiproxy LOGIN PASSWORD {service};
CREATE ROLE clinic_app LOGIN PASSWORD {application};
-- the registry's schema is made by the proxy's role, and belongs to it
GRANT CONNECT, CREATE ON DATABASE clinic TO phiproxy;
GRANT CONNECT ON DATABASE clinic TO clinic_app;
"""
GRANTS = """\
-- keys init locks the protected tables against writers while it looks whether they are empty; check counts distinct tags
GRANT SELECT, UPDATE ON patients, visits TO phiproxy;
GRANT SELECT, INSERT, UPDATE, DELETE ON patients, visits TO clinic_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO clinic_app;
"""


class Demo:
    """One run: where its files are, its server and its proxy."""

    def __init__(self, server: EmbeddedPostgres, directory: Path, port: int) -> None:
        self.server = server
        self.directory = directory
        self.port = port
        self.password = secrets.token_urlsafe(12)

    @property
    def config(self) -> Path:
        """The demo's phiproxy.yaml."""
        return self.directory / "phiproxy.yaml"

    @property
    def log(self) -> Path:
        """What the proxy says."""
        return self.directory / "proxy.log"

    @property
    def uri(self) -> str:
        """The application's way in, through the proxy."""
        return f"postgresql://{APPLICATION}:{quote(self.password)}@127.0.0.1:{self.port}/{clinic.DATABASE}"

    @property
    def direct(self) -> str:
        """The thief's way in, past the proxy."""
        return self.server.dsn(clinic.DATABASE)

    def prepare(self) -> None:
        """Make roles, tables, files, keys and guards."""
        service = secrets.token_urlsafe(18)
        with psycopg.connect(self.server.dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(clinic.DATABASE)))
            for statement in ROLES.split(";\n"):
                if statement.strip():
                    admin.execute(sql.SQL(statement).format(service=sql.Literal(service), application=sql.Literal(self.password)))
        with psycopg.connect(self.direct, autocommit=True) as owner:
            owner.execute(clinic.schema().encode())
            owner.execute(GRANTS)
        self._write("service.password", service)
        self._write("policy.yaml", clinic.POLICY)
        self._write("phiproxy.yaml", clinic.CONFIG.format(port=self.port, server_port=self.server.port, directory=self.directory))
        self.command("keys", "init")
        with psycopg.connect(self.direct, autocommit=True) as owner:
            owner.execute(self.command("ddl").encode())

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)

    def command(self, *arguments: str) -> str:
        """Run a phiproxy command on the demo's files and return what it prints; PhiproxyError with its complaint."""
        done = subprocess.run(
            [sys.executable, "-m", "phiproxy", *arguments, "-c", str(self.config)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise PhiproxyError(f"phiproxy {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    @contextlib.contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the proxy; it is stopped on leaving, and does not outlive a demo that was killed."""
        # The same user, whatever runs PostgreSQL: the key file is ours.
        serve = Runner().command(Path(sys.executable), "-m", "phiproxy", "serve", "-c", str(self.config), parent=os.getpid())
        with self.log.open("wb") as out:
            # A session of its own: Ctrl-C in the terminal is for the demo, which then ends the proxy in order.
            process = subprocess.Popen(serve, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        try:
            self._wait(process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()

    def ended(self) -> PhiproxyError:
        """Say with the proxy's own last words that it is not there."""
        last = self.log.read_text("utf-8", errors="replace").strip().rpartition("\n")[2]
        return PhiproxyError(f"the proxy has ended: {last.removeprefix('phiproxy: ')}")

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise self.ended()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise PhiproxyError("the proxy did not listen in time")

    def load(self) -> tuple[int, int, str]:
        """Load the patients through the proxy; return how many patients and visits, and the last one's SSN."""
        people = list(clinic.patients())
        with psycopg.connect(self.uri) as app, app.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO patients (mrn, ssn, full_name, date_of_birth, phone, address, notes, city)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
                [(p.mrn, p.ssn, p.full_name, p.date_of_birth, p.phone, p.address, p.notes, p.city) for p in people],
                returning=True,
            )
            ids = []
            while True:
                row = cursor.fetchone()
                assert row is not None
                ids.append(row[0])
                if not cursor.nextset():
                    break
            visits = [(i, p.mrn, *visit) for i, p in zip(ids, people, strict=True) for visit in p.visits]
            cursor.executemany(
                "INSERT INTO visits (patient_id, mrn, visited_on, diagnosis, room) VALUES (%s, %s, %s, %s, %s)", visits
            )
        with psycopg.connect(self.direct, autocommit=True) as owner:
            owner.execute("ANALYZE")
        return len(people), len(visits), people[-1].ssn


def main(once: bool, port: int, directory: Path | None) -> int:  # noqa: FBT001 - as the command line calls it
    """Run the demo and return the exit status.

    ``once`` ends after showing it; ``port`` 0 takes a free one, and so does the usual one when it is taken; ``directory`` keeps the
    files there.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # the second: a terminal that is closed
        signal.signal(number, _interrupted)
    show = Show()
    port = _port(port)
    made = directory is None
    home = Path(tempfile.mkdtemp(prefix="phiproxy-demo-")) if directory is None else directory.resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        show.step("starting PostgreSQL")
        with EmbeddedPostgres() as server:
            demo = Demo(server, home, port)
            show.step(f"keys, policy and tables (files in {home})")
            demo.prepare()
            with demo.serving() as proxy:
                patients, visits, ssn = demo.load()
                show.step(f"{patients} synthetic patients and {visits} visits loaded through the proxy")
                show.everything(demo.uri, demo.direct, ssn, demo.config)
                if not once:
                    show.waiting()
                    while proxy.poll() is None:
                        time.sleep(0.5)
                    raise demo.ended()
    except KeyboardInterrupt:
        show.step("stopping")
    finally:
        if made:
            shutil.rmtree(home, ignore_errors=True)
    return 0


def _port(wanted: int) -> int:
    """Return the port to listen on; the usual one gives way when somebody has it, one that was asked for does not."""
    if wanted == 0:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            if wanted == USUAL_PORT:
                return free_port()
            # said now: whoever listens there would be taken for the proxy
            raise PhiproxyError(f"127.0.0.1:{wanted} cannot be listened on: {error.strerror}") from None
    return wanted


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
