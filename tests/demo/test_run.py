"""``phiproxy demo`` as a newcomer runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo import clinic, run
from phiproxy.demo.run import USUAL_PORT, _port
from phiproxy.errors import PhiproxyError

DEMO = [sys.executable, "-m", "phiproxy", "demo"]


@pytest.mark.slow
def test_once_shows_everything_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "100"}
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [*DEMO, "--once", "--port", "0"], capture_output=True, text=True, timeout=500, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "1000 synthetic patients" in out
    through, direct = out.split("straight from the database")
    assert "Jessica Monroe" in through
    assert "Jessica Monroe" not in direct
    assert "\\xf55001" in direct
    born = [p for p in clinic.patients() if p.date_of_birth.year == 1980][:2]
    assert all(f"found: {p.full_name}, {p.date_of_birth}" in direct for p in born)
    assert not any(str(p.date_of_birth) in direct.partition("WHERE")[0] for p in clinic.patients(4))
    assert "Index Cond" in direct
    assert "0A000" in direct
    assert "hint:" in direct
    assert "psql" in direct
    own = direct.split("The audit log")[1]
    assert "dr.quinn as clinic_app" in own
    assert "refused" in own.split("report:")[0]
    (report,) = tmp_path.glob("phiproxy-*")
    assert str(report) in own
    page = report.read_text()
    assert ">proven<" in page
    assert "dr.quinn (clinic_app)" in page
    assert "Jessica" not in page


@pytest.mark.slow
def test_a_clinic_full_of_plaintext_is_observed_and_encrypted(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "150"}
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [*DEMO, "--once", "--existing", "--port", "0"], capture_output=True, text=True, timeout=500, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    before, observed = done.stdout.split("phiproxy observe report")
    assert "Jessica Monroe" in before
    assert "works            3  SELECT count(*) FROM visits WHERE diagnosis = $1" in observed
    observed, after = observed.split("phiproxy encrypt")
    assert "statements were held for" in after
    assert "none failed" in after
    through, direct = after.split("straight from the database")
    assert "Jessica Monroe" in through
    assert "Jessica Monroe" not in direct.partition("SELECT full_name")[0]


@pytest.mark.slow
def test_it_serves_until_told_and_keeps_the_directory_that_was_named(tmp_path: Path) -> None:
    home = tmp_path / "clinic"
    process = subprocess.Popen([*DEMO, "--port", "0", "--dir", str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    uri = ""
    for line in process.stdout:
        if line.strip().startswith("psql"):
            uri = line.split('"')[1]
        if "Serving until" in line:
            break
    with psycopg.connect(uri) as app:
        assert app.execute("SELECT count(*) FROM patients WHERE full_name IS NOT NULL").fetchone() == (1000,)
    assert b"Jessica" not in (home / "proxy.log").read_bytes()
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    process.stdout.close()
    assert (home / "policy.yaml").exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(uri, connect_timeout=2)


def test_the_usual_port_gives_way_and_another_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _port(USUAL_PORT) > 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        with pytest.raises(PhiproxyError, match=str(wanted)):
            _port(wanted)
        monkeypatch.setattr(run, "USUAL_PORT", wanted)
        assert _port(wanted) not in (0, wanted)
    assert _port(0) != 0
