"""PostgreSQL's own regression files and isolation specs, directly and through the proxy: ``make conformance-regress``.

They come from Debian's source package of the server's version, at run time; where it cannot be had this says so and ends well. Two
servers are made alike, both with a policy on a table that no file knows, and one is reached through its proxy. Every file runs by
psql as pg_regress runs it, in the order of its schedule, in one database that is new; what psql says must be the same on both.
With a compiler, ``regress.so`` and ``isolationtester`` are built from the same source; without one the statements that need the
former fail on both, and the specs are left out.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from phiproxy.demo.postgres import EmbeddedPostgres
from phiproxy.postgres import binaries
from tests.conformance.debsource import NoSource, source_package
from tests.conformance.front import Behind, in_front_of
from tests.harness.proxy import ROOT

DATABASE = "regression"
CACHE = ROOT / "build" / "conformance"
# Differences with their reasons; what is listed and no longer differs must be taken off. Names of files and specs.
KNOWN: Mapping[str, str] = {
    "with": "an INSERT into a table that is not there is answered by the proxy, in the server's words under its own name",
}
# What pg_regress sets.
SETTINGS = {"lc_messages": "C", "lc_monetary": "C", "lc_numeric": "C", "lc_time": "C", "bytea_output": "hex"}
ENVIRONMENT = {"PGDATESTYLE": "Postgres, MDY", "PGTZ": "PST8PDT", "PGOPTIONS": "-c intervalstyle=postgres_verbose"}
# Everything else needs test_setup, and most of that what these make.
FIRST = ("test_setup", "create_index", "create_misc")


@dataclass(frozen=True)
class Way:
    """One of the two ways to a database; ``results`` is where the server may write."""

    name: str
    server: EmbeddedPostgres
    port: int
    results: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Return libpq's environment for this way."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
        login = {"PGUSER": self.server.superuser, "PGPASSWORD": self.server.password, "PGDATABASE": DATABASE}
        where = {"PGHOST": self.server.host, "PGPORT": str(self.port)}
        return {**kept, "LC_ALL": "C", "HOME": "/nonexistent", **where, **login, **more}


@dataclass(frozen=True)
class Outcome:
    """What one file gave: seconds directly and through the proxy, and the lines in which they differ."""

    name: str
    direct: float
    proxied: float
    difference: Sequence[str]


def schedule(text: str) -> list[str]:
    """Return the tests of a schedule in their order."""
    lines = (line.strip().partition(":") for line in text.splitlines() if line.startswith(("test:", "ignore:")))
    found = [name for kind, _, names in lines if kind == "test" for name in names.split()]
    return list(dict.fromkeys(found))


def normalised(output: bytes, way: Way) -> list[str]:
    """Return an output's lines without what must differ between two servers."""
    text = output.decode("utf-8", "replace").replace(str(way.results), "RESULTS")
    text = text.replace(str(way.server.directory), "SERVER")
    text = re.sub(rf"(?<!\d){way.port}(?!\d)", "PORT", text)  # not within a longer number, as results are
    return _PROCESS.sub(r"\1 PROCESS", text).splitlines()


_PROCESS = re.compile(r"\b(process|PID|pid) \d+")


def compared(name: str, ways: tuple[Way, Way], run: Callable[[Way], bytes]) -> Outcome:
    """Run something both ways."""

    def timed(way: Way) -> tuple[list[str], float]:
        begin = time.monotonic()
        return normalised(run(way), way), time.monotonic() - begin

    (direct, first), (proxied, second) = map(timed, ways)
    difference = list(difflib.unified_diff(direct, proxied, "directly", "through the proxy", lineterm="", n=2))
    return Outcome(name, first, second, difference)


def _ended(command: Sequence[str], *, patience: float, **options: object) -> bytes:
    """Run a program to its end, and return all that it said."""
    try:
        done = subprocess.run(  # type: ignore[call-overload]
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=patience, **options
        )
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"") + f"\nended after {patience:.0f} s\n".encode()
    return bytes(done.stdout)


# -- what is built -------------------------------------------------------------------------------------------------------------


def build(source: Path, log: Path) -> None:
    """Build ``regress.so`` and ``isolationtester`` in the source tree, once. Raises NoSource when that cannot be done."""
    if (source / "src/test/isolation/isolationtester").is_file():
        return
    if any(shutil.which(program) is None for program in ("gcc", "make", "perl")):
        raise NoSource("there is no compiler, or no make or perl, to build them with")
    steps = [
        ["./configure", "--without-readline", "--without-zlib", "--without-icu", "--quiet"],
        ["make", "-j2", "-s", "-C", "src/backend", "generated-headers"],
        ["make", "-j2", "-s", "-C", "src/test/regress", "regress.so"],
        ["make", "-j2", "-s", "-C", "src/test/isolation", "isolationtester"],
    ]
    with log.open("wb") as file:
        for step in steps:
            file.write(b"$ " + " ".join(step).encode() + b"\n")
            file.flush()
            if subprocess.run(step, cwd=source, stdout=file, stderr=file, check=False, timeout=900).returncode:
                raise NoSource(f"they cannot be built: see {log}")


def libraries(source: Path, server: EmbeddedPostgres, into: Path) -> None:
    """Put what C functions of the files are loaded from into a directory."""
    into.mkdir(exist_ok=True)
    built = source / "src/test/regress/regress.so"
    if built.is_file():
        shutil.copy(built, into)
    config = server.bindir / "pg_config"
    if config.is_file():
        installed = Path(subprocess.run([config, "--pkglibdir"], capture_output=True, text=True, check=True).stdout.strip())
        for name in ("refint.so", "autoinc.so"):
            if (installed / name).is_file():
                shutil.copy(installed / name, into)


# -- the two servers -----------------------------------------------------------------------------------------------------------


@contextmanager
def both_ways(directory: Path) -> Iterator[tuple[Way, Way]]:
    """Run two servers that are alike, and yield the way to the one and the way through the other's proxy."""
    with ExitStack() as cleanup:
        ways: list[Way] = []
        for name in ("directly", "through the proxy"):
            server = EmbeddedPostgres(settings={"max_prepared_transactions": "2", "timezone": "PST8PDT"})
            server.password = secrets.token_hex(12)
            cleanup.enter_context(server)
            with psycopg.connect(server.dsn(), autocommit=True) as conn:
                conn.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
                for setting, value in SETTINGS.items():
                    conn.execute(f"ALTER DATABASE {DATABASE} SET {setting} TO '{value}'")
            behind = Behind(server.host, server.port, server.superuser, server.password, policy_for=DATABASE)
            proxy = cleanup.enter_context(in_front_of(behind))
            results = directory / name.replace(" ", "-")
            for part in (results, results / "results", results / "testtablespace"):
                part.mkdir()
                binaries.runner().own(part)
            ways.append(Way(name, server, server.port if name == "directly" else proxy.port, results))
        yield ways[0], ways[1]


def regression(ways: tuple[Way, Way], source: Path, only: Sequence[str], patience: float) -> Iterator[Outcome]:
    """Run the regression files, or some with those that they need."""
    regress = source / "src/test/regress"
    names = schedule((regress / "parallel_schedule").read_text())
    names = [name for name in names if not only or name in only or name in FIRST]
    psql = shutil.which("psql", path=str(ways[0].server.bindir)) or shutil.which("psql")
    assert psql is not None, "psql is missing: install PostgreSQL's client programs"
    flags = ["-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]

    def run(way: Way, name: str) -> bytes:
        paths = {"PG_ABS_SRCDIR": regress, "PG_ABS_BUILDDIR": way.results, "PG_LIBDIR": way.results.parent / "libraries"}
        more = {**ENVIRONMENT, **{key: str(path) for key, path in paths.items()}, "PG_DLSUFFIX": ".so"}
        with (regress / "sql" / f"{name}.sql").open("rb") as script:
            return _ended([psql, *flags], patience=patience, stdin=script, env=way.environment(**more), cwd=way.results)

    for name in names:
        yield compared(name, ways, lambda way, name=name: run(way, name))  # type: ignore[misc]
        if name == FIRST[0]:
            for way in ways:
                make_visible(way.server)


def make_visible(server: EmbeddedPostgres) -> None:
    """Have the pages of the tables that test_setup has vacuumed marked as visible to all: plans of other files hang on that.

    Its own VACUUM leaves that out for tables whose rows are new to some transaction of that moment, and on either server the proxy
    looks at the catalogue, once a second: so now and then ``create_index`` had another plan on one of them.
    """
    with psycopg.connect(server.dsn(DATABASE), autocommit=True) as conn:
        for _ in range(ATTEMPTS):
            tables = conn.execute(_NOT_VISIBLE).fetchall()
            if not tables:
                return
            for (table,) in tables:
                conn.execute(f"VACUUM {table}")
            time.sleep(0.1)


ATTEMPTS = 50
_NOT_VISIBLE = """
SELECT c.oid::regclass::text FROM pg_class c
 WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relallvisible < c.relpages
"""


def isolation(ways: tuple[Way, Way], source: Path, only: Sequence[str], patience: float) -> Iterator[Outcome]:
    """Run the isolation specs."""
    specs = source / "src/test/isolation"
    names = schedule((specs / "isolation_schedule").read_text())
    tester = str(specs / "isolationtester")

    def run(way: Way, name: str) -> bytes:
        with (specs / "specs" / f"{name}.spec").open("rb") as spec:
            return _ended(
                [tester, f"dbname={DATABASE}"], patience=patience, stdin=spec, env=way.environment(**ENVIRONMENT), cwd=way.results
            )

    for name in names:
        if not only or name in only:
            yield compared(name, ways, lambda way, name=name: run(way, name))  # type: ignore[misc]


# -- the report ----------------------------------------------------------------------------------------------------------------


def report(kind: str, outcomes: Iterator[Outcome], differences: Path) -> bool:
    """Say what came of each, and return whether it is as it must be."""
    well, equal, total = True, 0, 0
    direct = proxied = 0.0
    for outcome in outcomes:
        total, direct, proxied = total + 1, direct + outcome.direct, proxied + outcome.proxied
        said = "equal" if not outcome.difference else "differs"
        if outcome.difference:
            (differences / f"{outcome.name}.diff").write_text("\n".join(outcome.difference) + "\n")
            said += f", as known: {KNOWN[outcome.name]}" if outcome.name in KNOWN else f": {differences / outcome.name}.diff"
        elif outcome.name in KNOWN:
            said += ", though a difference is known: take it off the list"
        equal += not outcome.difference
        well = well and bool(outcome.difference) == (outcome.name in KNOWN)
        print(f"{outcome.name:32} {outcome.direct:8.2f} s {outcome.proxied:8.2f} s  {said}", flush=True)
    ratio = proxied / direct if direct else 0.0
    print(
        f"{kind}: {equal} of {total} equal; {direct:.0f} s directly, {proxied:.0f} s through the proxy: {ratio:.2f} times",
        flush=True,
    )
    return well and total > 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all, or what is named."""
    parser = argparse.ArgumentParser(prog="make conformance-regress", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these files or specs (with those that the files need)")
    parser.add_argument("--kind", choices=("regression", "isolation"), help="only these")
    parser.add_argument("--patience", type=float, default=300, help="seconds for one file, one way")
    wanted = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="phi-", dir=binaries.roomy_directory(binaries.runner())) as name:
        directory = Path(name)
        directory.chmod(0o755)
        return _run(directory, wanted)


def _run(directory: Path, wanted: argparse.Namespace) -> int:
    CACHE.mkdir(parents=True, exist_ok=True)
    who = binaries.runner()
    major = binaries.version_of(binaries.find(who, directory), who)
    try:
        kept = source_package(f"postgresql-{major}", CACHE)
    except NoSource as error:
        print(f"skipped: {error}")
        return 0
    with_specs = wanted.kind != "regression"
    try:
        build(kept, CACHE / "build.log")
    except NoSource as error:
        with_specs = False
        print(f"regress.so and isolationtester are not there: {error}. The specs are left out, and what needs C functions fails.")
    source = directory / "source"  # where the server can read it
    for part in ("src/test/regress", "src/test/isolation"):
        shutil.copytree(kept / part, source / part)
    differences = CACHE / "differences"
    shutil.rmtree(differences, ignore_errors=True)
    differences.mkdir()
    with both_ways(directory) as ways:
        libraries(kept, ways[0].server, directory / "libraries")
        well = True
        if wanted.kind != "isolation":
            well = report("regression files", regression(ways, source, wanted.names, wanted.patience), differences)
        if with_specs:
            well = report("isolation specs", isolation(ways, source, wanted.names, wanted.patience), differences) and well
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
