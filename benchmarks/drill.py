"""Long work over a large table with an application at work on it: how fast it goes, and what the application notices.

python -m benchmarks.drill [--rows N] [--columns N] [--rate N] [--jobs JOB,JOB] [--minutes N]        (make drill, make drill ARGS=…)

Tables full of plaintext are encrypted, reindexed, recrypted, taken from under compromised keys, and decrypted: one of many rows,
and those of the two applications of tests/applications. These work on theirs all the while, through the proxy and on a twin, and
compare what they see. Sessions of the drill's own search and change the large table, so that each statement can be timed, and, as
long as that is plain, a writer past the proxy makes 20 000 changes a minute. No statement of any of them may fail; at the end every
value is compared with what was written last. After each job it is looked at on the server whether something readable is left, or
something under a key that was answered for.

The rate of a fill stands beside what the server makes of ``UPDATE t SET c = c || ''`` over as many columns of a copy of the table
with the same indexes, before and after, and beside a loop that only seals. All is done in one run, under the same load. At the end
stands what was to be reached, and whether it was; where not, the drill has failed.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.fills import sealed_alone
from benchmarks.job_phases import Owner, phases, rewrite_in_sql
from benchmarks.left_behind import nothing_left
from benchmarks.measures import percentile
from benchmarks.report import targets_table
from benchmarks.site import (
    CHECKOUT,
    INDEXES,
    PLAIN,
    PROTECTED,
    ROLE,
    SETTINGS,
    TEN_COLUMNS,
    THREE,
    Site,
    copied,
    phiproxy,
    row,
    say,
)
from benchmarks.targets import Job, of_jobs
from phiproxy.demo.postgres import EmbeddedPostgres
from tests.applications.both import DJANGO, SQLALCHEMY, AtWork, make_tables, rows_of
from tests.integration.test_ehr import POLICY as APPLICATIONS_POLICY

QUIET = 10.0
"""Seconds that the application is measured for without any other work, before each job."""
PAST = 20_000 / 60
"""Changes per second past the proxy."""
LANES = 4
"""Each row is written by one session only: two through the proxy, one past it, and rows that nobody changes."""
COLUMNS = ("ssn", "full_name", "diagnosis")
PERSONS = 500
"""Patients of each of the applications."""
APPLICATIONS = [*SQLALCHEMY.values(), *DJANGO.values()]
"""Their tables."""
POLICY = APPLICATIONS_POLICY.replace("{database}", PROTECTED) + "  public.people:\n    columns:\n"
COLUMN = "      {}: {{type: text, indexes: [{}], accept_leakage: nobody in here exists}}\n"
KEK = ["respond", "--kek", "local:kek.json", "--reason", "drill", "--json"]
JOBS = {
    "encrypt": [["encrypt", "--json"]],
    "reindex": [["keys", "rotate", "--index", "public.people.ssn", "--json"]],
    "recrypt": [["keys", "rotate"], ["recrypt", "--json"]],
    "respond": [["respond", "--key", "{key}", "--reason", "drill", "--json"]],
    "respond-kek": [KEK],
    "decrypt": [["decrypt", *(f"public.{table}" for table in ("people", *APPLICATIONS)), "--reorder", "--json"]],
}
MOST_USED = b"SELECT encode(substring(ssn, 6, 4), 'hex') FROM people GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
"""The data key that most values are under."""
SHORTEST = 3.0
"""Seconds: a shorter phase is told of with the next one."""
INDEXED = "".join(line + "\n" for line in INDEXES.splitlines() if " people " in line)


@dataclass
class Application:
    """Sessions through the proxy, and how long each of their statements took (seconds); the longest since somebody looked."""

    dsn: str
    rows: int
    changed: dict[int, str] = field(default_factory=dict)
    longest: float = 0.0
    took: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(lane,)) for lane in range(2)]

    def _run(self, lane: int) -> None:
        try:
            with psycopg.connect(self.dsn, autocommit=True) as conn:
                while not self._stop.is_set():
                    number = 1 + lane + LANES * secrets.randbelow(self.rows // LANES)
                    ssn = self.changed.get(number, str(row(number)[1]))
                    found = self._timed(conn, "SELECT id FROM people WHERE ssn = %s", (ssn,))
                    if found != [(number,)]:
                        self.errors.append(f"a search for person {number} gave {len(found)} rows")
                    fresh = f"F{secrets.token_hex(6)}"
                    self._timed(conn, "UPDATE people SET ssn = %s WHERE id = %s RETURNING id", (fresh, number))
                    self.changed[number] = fresh
                    self._timed(
                        conn, "UPDATE people SET visits = visits WHERE id = %s RETURNING id", (1 + secrets.randbelow(self.rows),)
                    )
                    time.sleep(0.005)
        except psycopg.Error as error:
            self.errors.append(f"{type(error).__name__} (SQLSTATE {error.sqlstate})")

    def _timed(
        self, conn: psycopg.Connection[tuple[object, ...]], query: str, values: tuple[object, ...]
    ) -> list[tuple[object, ...]]:
        began = time.monotonic()
        rows = conn.execute(query.encode(), values).fetchall()
        self.took.append(time.monotonic() - began)
        self.longest = max(self.longest, self.took[-1])
        return rows

    def __enter__(self) -> Application:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def told(self) -> tuple[float, str]:
        """Return the 99th percentile since this was asked last (seconds), and say how long statements took."""
        took, self.took = self.took, []
        if len(took) < 100:
            return 0.0, f"{len(took)} statements"
        p99 = percentile(took, 0.99)
        half, longest = percentile(took, 0.5) * 1e3, max(took) * 1e3
        return p99, f"{len(took)} statements, p50 {half:.1f} ms, p99 {p99 * 1e3:.1f} ms, longest {longest:.0f} ms"


class Past:
    """A writer past the proxy, until the server takes plaintext no more."""

    def __init__(self, dsn: str, rows: int) -> None:
        self._dsn, self._rows = dsn, rows
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.changed: dict[int, str] = {}

    def _run(self) -> None:
        began, done = time.monotonic(), 0
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            while not self._stop.is_set():
                number = 3 + LANES * secrets.randbelow(self._rows // LANES)
                fresh = f"P{secrets.token_hex(6)}"
                try:
                    conn.execute("UPDATE people SET ssn = %s WHERE id = %s", (fresh, number))
                except (psycopg.errors.DatatypeMismatch, psycopg.errors.CheckViolation, psycopg.errors.FeatureNotSupported):
                    return
                self.changed[number] = fresh
                done += 1
                self._stop.wait(max(0.0, began + done / PAST - time.monotonic()))

    def __enter__(self) -> Past:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def tell(text: str) -> None:
    """Print a line of the result at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Load, run each job, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--columns", type=int, default=len(COLUMNS), choices=range(1, len(COLUMNS) + 1), help="how many are sealed")
    parser.add_argument("--jobs", default=",".join(JOBS), help="which, in this order; default: %(default)s")
    parser.add_argument("--minutes", type=float, default=180, help="a command that takes longer has failed; default: %(default)s")
    parser.add_argument("--rate", type=int, default=0, help="rows per second that a job writes at most; default: no limit")
    chosen = parser.parse_args()
    jobs, columns = chosen.jobs.split(","), COLUMNS[: chosen.columns]
    if unknown := set(jobs) - JOBS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(settings=SETTINGS) as server:
        site = Site(server, Path(directory), rows=chosen.rows, scale=1, settings="compute: {{engine: embedded}}\n")
        site.make_databases()
        for database in (PLAIN, PROTECTED):
            make_tables(server.dsn(database), PERSONS)
            with psycopg.connect(server.dsn(database), autocommit=True) as owner:
                owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}".encode())
                owner.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE}".encode())
        with psycopg.connect(server.dsn(PROTECTED), autocommit=True) as owner:
            owner.execute(f"GRANT {server.superuser} TO phiproxy".encode())
            owner.execute(b"GRANT SET ON PARAMETER session_replication_role TO phiproxy")
            say(f"loading {chosen.rows} rows")
            with owner.cursor().copy(b"COPY people FROM STDIN") as copy:
                copy.write(copied(chosen.rows))
            owner.execute(INDEXED.encode())
            owner.execute(b"VACUUM ANALYZE people")
            site.make_keys(POLICY + "".join(COLUMN.format(column, column) for column in columns))
            with site.proxy() as (port, (proxy, *_)):
                protected, plain = site.dsn(port, PROTECTED), site.dsn(server.port, PLAIN)
                with (
                    AtWork(protected, plain, PERSONS) as applications,
                    Application(protected, chosen.rows) as application,
                    Past(site.dsn(server.port, PROTECTED), chosen.rows) as past,
                ):
                    done = [_job(site, owner, application, name, (port, proxy), chosen, columns) for name in jobs]
                    told = applications.end()
                _compare(site, protected, application, past)
                _compare_applications(told, rows_of(protected), rows_of(plain))
    judged = of_jobs(done)
    tell(f"\n{targets_table(judged)}")
    if missed := sum(row.met is False for row in judged):
        sys.exit(f"{missed} of {len(judged)} targets are missed")


def _job(
    site: Site,
    owner: Owner,
    application: Application,
    name: str,
    proxy: tuple[int, int],
    chosen: argparse.Namespace,
    columns: Sequence[str],
) -> Job:
    """Run the commands of a job, tell of each of its phases, and return what is judged of it.

    ``proxy``: its port and its process; ``chosen``: the options.
    """
    say(name)
    owner.execute(b"VACUUM people")  # as autovacuum has done it where jobs are not minutes apart
    application.told()
    time.sleep(QUIET)
    quiet, said = application.told()
    tell(f"{name}\n  application before: {said}")
    in_sql = list[tuple[float, float]]()
    if name == "encrypt":
        in_sql = [_in_sql(owner, site.rows, columns)]
        tell(f"  sealed in a loop that does nothing else: {1 / sealed_alone(len(columns)):,.0f} rows/s")
        application.told()
    began, fill, filling, wait = time.monotonic(), (0.0, (0.0, 0.0)), None, None
    config = ["-c", str(site.home / f"phiproxy-{proxy[0]}.yaml")]
    if name == "respond-kek":
        _add_kek(site, config, *proxy)
    key = str(owner.execute(MOST_USED).fetchall()[0][0]) if name == "respond" else ""
    report = ["--report", str(site.home)] if name.startswith("respond") else []
    for arguments in JOBS[name]:
        limit = ["--rate", str(chosen.rate)] if chosen.rate and "--json" in arguments else []
        given = [each.format(key=key) for each in arguments]
        for phase, seconds, used, held in phases(owner, [*given, *report, *limit, *config], tell, chosen.minutes):
            longest, application.longest = application.longest, 0.0
            if phase == SWITCH or wait is not None:  # one that was held is over after the phase that held it
                wait = max(wait or 0.0, longest, held)
            if seconds < SHORTEST and phase not in LONG.get(name, ()):
                continue
            p99, said = application.told()
            pace = f", {site.rows / seconds:,.0f} rows/s" if phase in LONG.get(name, ()) else ""
            against = f" ({p99 / quiet:.1f} times)" if p99 and quiet else ""
            tell(f"  {phase}: {seconds:.1f} s{pace}; application: {said}{against}")
            if phase in LONG.get(name, ())[:1]:
                fill, filling = (seconds, (used.job, used.server)), p99 / quiet if p99 and quiet else None
    tell(f"  all: {time.monotonic() - began:.1f} s")
    tell(f"  {nothing_left(owner, name, columns, key)}")
    if name == "encrypt":
        in_sql.append(_in_sql(owner, site.rows, columns))
    return Job(name, wait, filling, _compared_rates(site.rows, in_sql, *fill) if in_sql else None)


def _add_kek(site: Site, config: Sequence[str], port: int, pid: int) -> None:
    """Add a key to the file, which proxies must have before anything is wrapped under it."""
    subprocess.run(phiproxy(*KEK, *config), cwd=CHECKOUT, check=False, capture_output=True)
    os.kill(pid, signal.SIGHUP)
    log = site.home / f"proxy-{port}.log"
    while "reloaded" not in (said := log.read_text("utf-8")):
        if "reload failed" in said:
            raise SystemExit("the proxy does not take the file with the new key")
        time.sleep(0.1)


def _compared_rates(rows: int, in_sql: Sequence[tuple[float, float]], seconds: float, cpu: tuple[float, float]) -> float:
    """Tell of a fill, in so many seconds with so many of CPU of job and server, beside UPDATE in SQL: its seconds, and of CPU.

    Returns its rate, in that of UPDATE in SQL.
    """
    for each, busy in in_sql:
        tell(f"  UPDATE in SQL: {rows / each:,.0f} rows/s, {busy / rows * 1e6:.1f} µs of CPU for each")
    by_clock, busy = (sum(values) / len(values) for values in zip(*in_sql, strict=True))
    tell(f"  the fill has {by_clock / seconds:.2f} of the rate of UPDATE in SQL, under the same load")
    job, server = (each / rows * 1e6 for each in cpu)
    tell(
        f"  CPU for each row: {job:.1f} µs of the job, {server:.1f} µs of the server; with a core for each that is"
        f" {busy / max(cpu):.2f} of the rate of UPDATE in SQL"
    )
    return float(by_clock / seconds)


SWITCH = "switching"
LONG = {
    "encrypt": ["sealing public.people", "comparing public.people", "comparing again public.people"],
    "decrypt": ["sealing public.people", "comparing public.people", "comparing again public.people"],
    "reindex": ["filling slot 1 of c:public.people.ssn"],
    "recrypt": ["sealing anew"],
    "respond": ["sealing anew"],
    "respond-kek": ["filling new slots of all indexes", "sealing anew", "clearing old slots of all indexes"],
}
"""Phases that go through all rows."""


def _in_sql(owner: Owner, rows: int, columns: Sequence[str]) -> tuple[float, float]:
    table = f"id integer PRIMARY KEY, {THREE}, {TEN_COLUMNS}"
    return rewrite_in_sql(owner, columns, copied(rows), table, INDEXED.replace(" people ", " copied "))


def _compare(site: Site, dsn: str, application: Application, past: Past) -> None:
    """End with an error where a statement failed, a write was lost or a value is another one."""
    with psycopg.connect(dsn) as conn:
        stored = conn.execute("SELECT id, ssn, full_name, diagnosis FROM people ORDER BY id").fetchall()
    changed = {**application.changed, **past.changed}
    wrong = [n for n, *values in stored if (changed.get(n, row(n)[1]), *row(n)[2:4]) != tuple(values)]
    for error in application.errors:
        sys.stderr.write(f"{error}\n")
    if wrong or application.errors or len(stored) != site.rows:
        missing = site.rows - len(stored)
        sys.exit(f"{len(wrong)} values are wrong, {missing} rows are missing, {len(application.errors)} statements failed")
    tell(f"all {len(stored)} rows are right, and no statement failed; {len(past.changed)} of them were changed past the proxy")


def _compare_applications(told: Iterable[Mapping[str, Any]], stored: object, twin: object) -> None:
    """End with an error where something differed for the applications, or they have stored something else than in the twin."""
    wrong = [text for each in told for text in each["wrong"]]
    for text in wrong:
        sys.stderr.write(f"{text}\n")
    if wrong or stored != twin:
        what = "the same" if stored == twin else "not the same"
        sys.exit(f"{len(wrong)} steps of the applications were not as in the twin, and what is stored is {what}")
    for each in told:
        steps, slowest = sum(each["done"].values()), each["slowest"]
        tell(f"an application has done {steps} steps as in its twin, the longest of which took {slowest * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
