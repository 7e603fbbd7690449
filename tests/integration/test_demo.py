"""``phiproxy demo`` as a user runs it: from a command line, once and until it is told to end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from tests.harness.proxy import ROOT, command, environment, run_cli

pytestmark = pytest.mark.slow


def leftovers(temporary: Path) -> list[str]:
    return sorted(path.name for path in temporary.iterdir())


def children(marker: str) -> list[str]:
    """Return the command lines of living processes that name ``marker``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if marker in line and str(os.getpid()) != entry.parent.name:
            found.append(line)
    return found


@pytest.fixture
def temporary() -> Path:
    """A TMPDIR of this test's own: what is left in it was left by the demo. The server's user must be able to reach it."""
    path = Path(tempfile.mkdtemp(prefix="demo-test-", dir="/tmp"))
    path.chmod(0o755)
    return path


def test_once(temporary: Path) -> None:
    done = run_cli("demo", "--once", "--port", str(free_port()), env={"TMPDIR": str(temporary)})
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert re.search(r"\b1000 synthetic patients", out)
    assert "\\xf55001" in out
    assert "Index" in out
    assert "0A000" in out
    assert "hint:" in out
    assert "psql" in out
    assert done.stderr == ""
    assert leftovers(temporary) == []
    temporary.rmdir()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_it_is_told_to_end(temporary: Path, tmp_path: Path, sign: signal.Signals) -> None:
    port = free_port()
    log = tmp_path / "out"
    home = temporary / "home"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command("demo", "--port", str(port), "--dir", str(home)),
            stdout=out,
            stderr=out,
            env=environment({"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}),
            cwd=ROOT,
        )
    try:
        end = time.monotonic() + 90
        while "Serving until" not in log.read_text() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.1)
        text = log.read_text()
        assert "Serving until" in text, text
        found = re.search(r'psql "?(postgresql://[^\s"]+)', text)
        assert found, text
        with psycopg.connect(found[1]) as conn:
            row = conn.execute("SELECT count(*) FROM patients p JOIN visits v ON v.mrn = p.mrn").fetchone()
            assert row is not None
            assert row[0] > 1000
        assert run_cli("check", "-c", str(home / "phiproxy.yaml")).returncode == 0
        explained = run_cli("explain", "-c", str(home / "phiproxy.yaml"), "SELECT notes FROM patients WHERE ssn = $1")
        assert explained.returncode == 0, explained.stderr
        assert "substring" in explained.stdout
        process.send_signal(sign)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert "Traceback" not in log.read_text()
    assert leftovers(temporary) == ["home"]
    assert {"phiproxy.yaml", "policy.yaml", "kek.json"} <= {p.name for p in home.iterdir()}
    if sys.platform.startswith("linux"):
        assert children(str(temporary)) == []
