"""The demo's second act: a clinic full of plaintext is observed, and encrypted while an application is at work.

Everything is done with the commands that a DBA would use; the application is one thread that reads and writes through the proxy.
"""

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from phiproxy.errors import ConfigError, own_words

# The tables belong to the application, as they would; for the time of the job the proxy may act as it.
GRANTS = """\
ALTER TABLE patients OWNER TO clinic_app;
ALTER TABLE visits OWNER TO clinic_app;
GRANT CREATE ON SCHEMA public TO clinic_app;
GRANT clinic_app TO phiproxy;
GRANT SET ON PARAMETER session_replication_role TO phiproxy;
"""
# What an application asks: some of it no index answers.
STATEMENTS = (
    "SELECT id, full_name, city FROM patients WHERE ssn = %s",
    "SELECT count(*) FROM patients p JOIN visits v USING (mrn) WHERE p.ssn = %s",
    "SELECT id FROM patients WHERE lower(full_name) = lower(%s)",
    "SELECT count(*) FROM visits WHERE diagnosis = %s",
    "SELECT upper(notes) FROM patients WHERE ssn = %s",
)


class Application:
    """Somebody at work: ``with Application(uri, ssn) as application:``. What fails is kept."""

    def __init__(self, uri: str, ssn: str) -> None:
        self._uri, self._ssn = uri, ssn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.statements = 0
        self.slowest = 0.0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        with psycopg.connect(self._uri, autocommit=True) as app:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    app.execute("UPDATE patients SET phone = %s WHERE ssn = %s", (f"(555) {self.statements:07}", self._ssn))
                    app.execute("SELECT phone FROM patients WHERE ssn = %s", (self._ssn,)).fetchall()
                except psycopg.Error as failed:
                    self.failures.append(str(failed))
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.statements += 2
                time.sleep(0.05)


def ask(uri: str, ssn: str, name: str) -> None:
    """Send what an application asks, a few times each."""
    with psycopg.connect(uri, autocommit=True) as app:
        for statement in STATEMENTS:
            value = name if "full_name" in statement.partition("WHERE")[2] else "I10" if "diagnosis" in statement else ssn
            for _ in range(3):
                app.execute(statement.encode(), (value,)).fetchall()


def encrypt(config: Path) -> str:
    """Run ``phiproxy encrypt``, its progress bar on this terminal, and return what it prints; ConfigError with its complaint."""
    command = [sys.executable, "-m", "phiproxy", "encrypt", "-c", str(config)]
    on_terminal = sys.stderr.isatty()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=None if on_terminal else subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"phiproxy encrypt: {own_words((done.stderr or 'it has failed').strip())}")
    return done.stdout
