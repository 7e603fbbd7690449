"""``phiproxy demo``: an embedded PostgreSQL, a local KEK, a clinic behind the proxy, and the same query from both sides.

Everything is done with the commands that a DBA would use, on files that stay readable in the demo's directory while it runs.
"""

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

from phiproxy.audit.search import Wanted, found, in_words
from phiproxy.demo import clinic
from phiproxy.demo.existing import GRANTS as EXISTING
from phiproxy.demo.existing import Application, ask, encrypt
from phiproxy.demo.postgres import EmbeddedPostgres, free_port
from phiproxy.demo.show import END_USER, Show
from phiproxy.errors import ConfigError, own_words
from phiproxy.postgres.binaries import Runner

APPLICATION = "clinic_app"
ENDING = 60.0  # seconds: a proxy that is told twice ends at once, but wipes its engine first, which a busy machine takes long for
START_PATIENCE = 120.0
USUAL_PORT = 6432
# Of the audit log, so many are shown.
RECORDS = 6

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
    """One run: its directory with phiproxy.yaml and the proxy's log, and the ways in: the application's, and past the proxy."""

    def __init__(self, server: EmbeddedPostgres, directory: Path, port: int) -> None:
        self.server = server
        self.directory = directory
        self.port = port
        self.password = secrets.token_urlsafe(12)
        self.config, self.log = directory / "phiproxy.yaml", directory / "proxy.log"
        self.uri = f"postgresql://{APPLICATION}:{quote(self.password)}@127.0.0.1:{port}/{clinic.DATABASE}"
        self.direct = server.dsn(clinic.DATABASE)

    def prepare(self, *, existing: bool = False) -> None:
        """Make roles, tables, files, keys and guards; ``existing``: the tables are full of plaintext, and stay so for now."""
        service = secrets.token_urlsafe(18)
        with psycopg.connect(self.server.dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(clinic.DATABASE)))
            for statement in ROLES.split(";\n"):
                if statement.strip():
                    admin.execute(sql.SQL(statement).format(service=sql.Literal(service), application=sql.Literal(self.password)))
        with psycopg.connect(self.direct, autocommit=True) as owner:
            owner.execute(clinic.schema().encode())
            owner.execute(GRANTS)
            if existing:
                owner.execute(EXISTING)
        self._write("service.password", service)
        self._write("policy.yaml", clinic.POLICY)
        ports = {"port": self.port, "server_port": self.server.port}
        self._write("phiproxy.yaml", clinic.CONFIG.format(**ports, directory=self.directory, binaries=self.server.bindir))
        if existing:
            self.load(self.direct)
        self.command("keys", "init")
        if not existing:
            with psycopg.connect(self.direct, autocommit=True) as owner:
                owner.execute(self.command("ddl").encode())

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)

    def command(self, *arguments: str) -> str:
        """Run a phiproxy command on the demo's files and return what it prints; ConfigError with its complaint."""
        done = subprocess.run(
            [sys.executable, "-m", "phiproxy", *arguments, "-c", str(self.config)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ConfigError(f"phiproxy {' '.join(arguments)}: {own_words(done.stderr.strip())}")
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
                    process.wait(ENDING)
                process.kill()  # what it leaves behind then, the next engine wipes

    def ended(self) -> ConfigError:
        """Say with the proxy's own last words that it is not there."""
        last = self.log.read_text("utf-8", errors="replace").strip().rpartition("\n")[2]
        return ConfigError(f"the proxy has ended: {own_words(last)}")

    def recorded(self) -> list[str]:
        """Return in words the last records of the application's session, whose results were shown."""
        wanted = Wanted(who=END_USER, kinds=frozenset({"execution", "refused"}))
        return [in_words(record) for record in found(self.directory / "audit", wanted)][-RECORDS:]

    def report(self, home: Path | None) -> Path:
        """Write the report, and return where: in a directory, or, where that is None, in a file that outlives the demo.

        ConfigError where the log is not proven.
        """
        if home is None:
            descriptor, name = tempfile.mkstemp(prefix="phiproxy-demo-report-", suffix=".html")
            os.close(descriptor)
            path = Path(name)
        else:
            path = home / "report.html"
        self.command("report", "--html", str(path))
        return path

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise self.ended()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise ConfigError("the proxy did not listen in time")

    def load(self, uri: str | None = None) -> tuple[int, int, str]:
        """Load the patients, through the proxy by default; return how many patients and visits, and the last one's SSN."""
        people = list(clinic.patients())
        with psycopg.connect(uri or self.uri) as app, app.cursor() as cursor:
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


def _second_act(demo: Demo, show: Show) -> str:
    """Observe a clinic full of plaintext, and encrypt it while an application is at work; returns a patient's SSN."""
    person = next(clinic.patients(1))
    show.plaintext(demo.direct)
    show.step("an application goes through the proxy, and its statements are observed")
    ask(demo.uri, person.ssn, person.full_name)
    show.report(lambda: demo.command("observe", "report"))
    show.step("the tables are encrypted, and the application goes on")
    with Application(demo.uri, person.ssn) as application:
        told = encrypt(demo.config)
    if application.failures:
        raise ConfigError(f"a statement has failed meanwhile: {own_words(application.failures[0])}")
    show.encrypted(told, application.statements, application.slowest)
    return person.ssn


def main(once: bool, port: int, directory: Path | None, existing: bool = False) -> int:  # noqa: FBT001, FBT002 - as the command line calls it
    """Run the demo and return the exit status.

    ``existing`` begins with a clinic full of plaintext; ``once`` ends after showing it; ``port`` 0 takes a free one, and so does
    the usual one when it is taken; ``directory`` keeps the files there.
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
            demo.prepare(existing=existing)
            with demo.serving() as proxy:
                if existing:
                    ssn = _second_act(demo, show)
                else:
                    patients, visits, ssn = demo.load()
                    show.step(f"{patients} synthetic patients and {visits} visits loaded through the proxy")
                show.everything(demo.uri, demo.direct, ssn, demo.config)
                show.audited(demo.recorded(), demo.report(home if not made else None))
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
            raise ConfigError(f"127.0.0.1:{wanted} cannot be listened on: {error.strerror}") from None
    return wanted


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
