"""pgbench's selects through what stands between client and server, side by side in one run: CPU time per query, and throughput.

    .venv/bin/python -m benchmarks.pgbench [--seconds N] [--rounds N] [--clients N]

Directly; a bare uvloop byte forwarder; PgBouncer where installed; phiproxy on a database without a policy, and on one with a
policy, unprotected and protected. They take turns in rounds. CPU is that of the process between, user and system, from /proc, the
least of the rounds; throughput is their median.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from phiproxy.demo import clinic
from phiproxy.demo.postgres import EmbeddedPostgres, free_port
from phiproxy.demo.run import APPLICATION, Demo

PLAIN_DATABASE = "unprotected"
TICK = os.sysconf("SC_CLK_TCK")
BY_TAG = "SELECT ssn, full_name, phone FROM patients WHERE ssn = :ssn;\n"
BY_LITERAL = "\\set n random(100000, 999999)\nSELECT ssn, full_name, phone FROM patients WHERE ssn = ':ssn' LIMIT :n;\n"


@dataclass
class Line:
    """One way to the server: ``pids`` are the processes whose CPU is counted."""

    name: str
    port: int
    database: str
    pids: tuple[int, ...]
    script: Path | None = None
    mode: str = "prepared"
    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


def find_pgbench() -> str:
    """Return pgbench, from the path or from where Debian keeps it."""
    found = shutil.which("pgbench") or next((str(p) for p in Path("/usr/lib/postgresql").glob("*/bin/pgbench")), None)
    if found is None:
        raise SystemExit("pgbench is not installed")
    return found


def family(pid: int) -> tuple[int, ...]:
    """Return a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return (pid, *(p for child in children for p in family(int(child))))


def ticks(pids: tuple[int, ...]) -> int:
    """Return the clock ticks that these processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


@contextlib.contextmanager
def running(*command: str) -> Iterator[int]:
    """Run a process for as long as this lasts; give its number."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    if process.poll() is not None:
        raise SystemExit(f"{command[0]} has ended")
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def bouncer(home: Path, server: EmbeddedPostgres, password: str) -> Iterator[tuple[int, int] | None]:
    """Run PgBouncer in session mode, if there is one; give its process and its port."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        yield None
        return
    port, place = free_port(), home / "bouncer"
    place.mkdir()
    place.chmod(0o755)
    home.chmod(0o755)
    users, settings = place / "users.txt", place / "pgbouncer.ini"
    users.write_text(f'"{APPLICATION}" "{password}"\n', encoding="utf-8")
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = session\nunix_socket_dir =\ndefault_pool_size = 100\n",
        encoding="utf-8",
    )
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    with running(found, "-q", *as_nobody, str(settings)) as pid:
        yield pid, port


def run(line: Line, password: str, ssn: str, arguments: argparse.Namespace) -> None:
    """Let pgbench work for a while and note what it cost."""
    what = ["-S"] if line.script is None else ["-f", str(line.script), "-D", f"ssn={ssn}"]
    command = [find_pgbench(), "-n", *what, "-M", line.mode, "-c", str(arguments.clients), "-j", "1", "-T", str(arguments.seconds)]
    command += ["-h", "127.0.0.1", "-p", str(line.port), "-U", APPLICATION, line.database]
    before = ticks(line.pids)
    done = subprocess.run(command, env={**os.environ, "PGPASSWORD": password}, capture_output=True, text=True, check=False)
    used = ticks(line.pids) - before
    if done.returncode:
        raise SystemExit(f"{line.name}: {done.stderr}")
    counted = re.search(r"actually processed: (\d+)", done.stdout)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    assert counted is not None
    assert rate is not None
    line.cpu.append(used / TICK * 1e6 / int(counted[1]))
    line.rate.append(float(rate[1]))


def fill(server: EmbeddedPostgres) -> None:
    """Make pgbench's tables in the clinic, and in a database that no policy names."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {PLAIN_DATABASE}".encode())
    for database in (clinic.DATABASE, PLAIN_DATABASE):
        subprocess.run([find_pgbench(), "-i", "-q", "-s", "1", server.dsn(database)], check=True, capture_output=True)
        with psycopg.connect(server.dsn(database), autocommit=True) as owner:
            owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {APPLICATION}".encode())


def lines_of(home: Path, demo: Demo, proxy: int, forwarder: tuple[int, int], pooler: tuple[int, int] | None) -> list[Line]:
    """Return the ways that are measured."""
    by_tag, by_literal = home / "tag.sql", home / "literal.sql"
    by_tag.write_text(BY_TAG, encoding="utf-8")
    by_literal.write_text(BY_LITERAL, encoding="utf-8")
    pids = family(proxy)
    lines = []
    for mode in ("prepared", "simple"):
        lines += [
            Line(f"{mode}: direct", demo.server.port, clinic.DATABASE, (), mode=mode),
            Line(f"{mode}: byte forwarder", forwarder[1], clinic.DATABASE, (forwarder[0],), mode=mode),
            *([Line(f"{mode}: PgBouncer", pooler[1], clinic.DATABASE, (pooler[0],), mode=mode)] if pooler else []),
            Line(f"{mode}: phiproxy, no policy", demo.port, PLAIN_DATABASE, pids, mode=mode),
            Line(f"{mode}: phiproxy, unprotected", demo.port, clinic.DATABASE, pids, mode=mode),
        ]
    lines.append(Line("prepared: phiproxy, by tag, 3 columns opened", demo.port, clinic.DATABASE, pids, by_tag))
    lines.append(Line("simple: phiproxy, by literal, 3 columns opened", demo.port, clinic.DATABASE, pids, by_literal, "simple"))
    return lines


def main() -> None:
    """Set everything up, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres() as server:
        home = Path(directory)
        demo = Demo(server, home, free_port())
        demo.prepare()
        fill(server)
        port = free_port()
        script = str(Path(__file__).with_name("point_select.py"))
        with (
            demo.serving() as proxy,
            running(sys.executable, script, "--forward", str(port), str(server.port)) as forwarder,
            bouncer(home, server, demo.password) as pooler,
        ):
            _, _, ssn = demo.load()
            lines = lines_of(home, demo, proxy.pid, (forwarder, port), pooler)
            for _ in range(arguments.rounds):
                for line in lines:
                    run(line, demo.password, ssn, arguments)
    print("| way | CPU µs per query | queries per second |\n|---|---|---|")  # noqa: T201
    for line in lines:
        print(f"| {line.name} | {min(line.cpu):.1f} | {statistics.median(line.rate):.0f} |")  # noqa: T201


if __name__ == "__main__":
    main()
