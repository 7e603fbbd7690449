"""``phiproxy demo`` as a user runs it: from a command line, once and until it is told to end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo import clinic
from phiproxy.demo.postgres import free_port
from tests.harness.proxy import ROOT, environment, run_cli

pytestmark = pytest.mark.slow


def leftovers(temporary: Path) -> list[str]:
    return sorted(path.name for path in temporary.iterdir())


def processes(marker: str) -> dict[int, str]:
    """Return the living processes whose command line has ``marker``, by process id."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if marker in line and str(os.getpid()) != entry.parent.name:
            found[int(entry.parent.name)] = line
    return found


def children(marker: str) -> list[str]:
    """Return the command lines of living processes that name ``marker``."""
    return list(processes(marker).values())


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A TMPDIR of this test's own: what is left in it was left by the demo. The server's user must be able to reach it."""
    path = Path(tempfile.mkdtemp(prefix="demo-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


FEW, MANY = 50, 150
# What a shell has started behind itself ignores SIGINT, and so would the demo. What it costs is mostly what it loads: of the usual
# thousand patients it is run by .ci/run.
WITH_PATIENTS = """
import signal
import sys
from phiproxy.cli import main
from phiproxy.demo import clinic
from tests.harness.clusters import copy_clusters
signal.signal(signal.SIGINT, signal.default_int_handler)
clinic.patients.__defaults__ = ({count}, clinic.SEED)
copy_clusters()
{changed}
sys.exit(main())
"""


def demo(count: int, *arguments: str, changed: str = "") -> list[str]:
    """Return the command line of a demo with so many patients."""
    return [sys.executable, "-c", WITH_PATIENTS.format(count=count, changed=changed), "demo", *arguments]


def test_once_shows_everything_and_leaves_nothing(temporary: Path) -> None:
    env = environment({"TMPDIR": str(temporary), "COLUMNS": "100"})
    once = demo(MANY, "--once", "--port", str(free_port()))
    done = subprocess.run(once, env=env, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    out = done.stdout
    assert re.search(rf"\b{MANY} synthetic patients", out)
    through, direct = out.split("straight from the database")
    assert "Jessica Monroe" in through
    assert "Jessica Monroe" not in direct
    assert "\\xf55001" in direct
    born = [p for p in clinic.patients(MANY) if p.date_of_birth.year == 1980][:2]
    assert born
    assert all(f"found: {p.full_name}, {p.date_of_birth}" in direct for p in born)
    assert not any(str(p.date_of_birth) in direct.partition("WHERE")[0] for p in clinic.patients(4))
    assert "Index Cond" in direct
    assert "0A000" in direct
    assert "hint:" in direct
    assert "psql" in direct
    assert len(re.findall(r"  found: .*son.*, ", direct)) >= 3
    own = direct.split("The audit log")[1]
    assert "dr.quinn as clinic_app" in own
    assert "refused" in own.split("report:")[0]
    (report,) = temporary.iterdir()  # of which the demo says where it lies
    assert str(report) in own
    page = report.read_text()
    assert ">proven<" in page
    assert "dr.quinn (clinic_app)" in page
    assert "Jessica" not in page
    report.unlink()
    temporary.rmdir()


# Where it only has to live and to end, what it loads and shows in between is left out too.
SHOWING_NOTHING = """
from phiproxy.demo.run import Demo
from phiproxy.demo.show import Show
Show.everything = lambda self, through, *_: self._plain(f'  psql "{through}"')
Demo.report = Demo.recorded = Show.audited = lambda *_: None
Demo.load = lambda *_: (0, 0, '')
"""


@contextmanager
def running(
    temporary: Path, tmp_path: Path, changed: str = SHOWING_NOTHING
) -> Iterator[tuple[subprocess.Popen[bytes], Path, Path, str]]:
    """Run the demo until it serves: the process, its output, its directory and the URI that it prints."""
    log, home = tmp_path / "out", temporary / "home"
    with log.open("wb") as out:
        process = subprocess.Popen(
            demo(FEW, "--port", "0", "--dir", str(home), changed=changed),
            stdout=out,
            stderr=out,
            env=environment({"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}),
            cwd=ROOT,
        )
    try:
        end = time.monotonic() + 300
        while "Serving until" not in log.read_text() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.1)
        found = re.search(r'psql "?(postgresql://[^\s"]+)', log.read_text())
        assert found, log.read_text()
        yield process, log, home, found[1]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def gone(temporary: Path) -> bool:
    """Wait until no process names the directory any longer."""
    end = time.monotonic() + 240
    while children(str(temporary)) and time.monotonic() < end:
        time.sleep(0.1)
    return not children(str(temporary))


def test_serves_until_it_is_told_to_end(temporary: Path, tmp_path: Path) -> None:
    """By SIGTERM; tests/demo/test_run.py has the other signals."""
    with running(temporary, tmp_path, "") as (process, log, home, uri):
        with psycopg.connect(uri) as conn:
            assert conn.execute("SELECT count(*) FROM patients WHERE full_name IS NOT NULL").fetchone() == (FEW,)
            row = conn.execute("SELECT count(*) FROM patients p JOIN visits v ON v.mrn = p.mrn").fetchone()
            assert row is not None
            assert row[0] >= FEW
            query = "SELECT date_of_birth FROM patients WHERE extract(year FROM date_of_birth) = %s"
            born = next(clinic.patients(1)).date_of_birth
            assert (born,) in conn.execute(query, (born.year,)).fetchall()
        assert run_cli("check", "-c", str(home / "phiproxy.yaml")).returncode == 0
        explained = run_cli("explain", "-c", str(home / "phiproxy.yaml"), "SELECT notes FROM patients WHERE ssn = $1")
        assert explained.returncode == 0, explained.stderr
        assert "substring" in explained.stdout
        assert next(clinic.patients(1)).full_name.encode() not in (home / "proxy.log").read_bytes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0
        assert "Traceback" not in log.read_text()
        assert leftovers(temporary) == ["home"]
        assert {"phiproxy.yaml", "policy.yaml", "kek.json"} <= {p.name for p in home.iterdir()}
        assert gone(temporary)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(uri, connect_timeout=2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent's death is a signal on Linux only")
def test_nothing_outlives_a_demo_that_was_killed(temporary: Path, tmp_path: Path) -> None:
    with running(temporary, tmp_path) as (process, _, _, _):
        assert len(children(str(temporary))) >= 3
        process.kill()
        process.wait()
        assert gone(temporary)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_a_proxy_that_ends_ends_the_demo(temporary: Path, tmp_path: Path) -> None:
    with running(temporary, tmp_path) as (process, log, _, _):
        for pid in processes(f"serve -c {temporary}"):
            with suppress(ProcessLookupError):  # it went with another one
                os.kill(pid, signal.SIGKILL)
        assert process.wait(240) == 1
        assert "the proxy has ended" in log.read_text()
        assert gone(temporary)


def test_a_port_in_use_is_one_line(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        done = run_cli("demo", "--once", "--port", str(port), env={"TMPDIR": str(temporary)})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert str(port) in done.stderr
    assert leftovers(temporary) == []
    temporary.rmdir()
