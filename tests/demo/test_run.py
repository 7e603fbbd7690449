"""``phiproxy demo`` over a clinic that is full of plaintext; tests/integration/test_demo.py runs the usual one."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from phiproxy.demo import run
from phiproxy.demo.run import USUAL_PORT, _port
from phiproxy.errors import PhiproxyError
from tests.harness.proxy import ROOT, environment

# What is shown does not depend on how many there are, which is most of what it costs.
DEMO = """
import sys
from phiproxy.cli import main
from phiproxy.demo import clinic
from tests.harness.clusters import copy_clusters
clinic.patients.__defaults__ = (60, clinic.SEED)
copy_clusters()
sys.exit(main())
"""


@pytest.mark.slow
def test_a_clinic_full_of_plaintext_is_observed_and_encrypted(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", DEMO, "demo", "--once", "--existing", "--port", "0"],
        env=environment({"TMPDIR": str(tmp_path), "COLUMNS": "150"}), cwd=ROOT,
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
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


# What ends it is asked for where it waits, in front of a server and a proxy that are none.
WAITING = """
import signal, sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from phiproxy.demo import run
class Demo(run.Demo):
    serving = lambda self: nullcontext(SimpleNamespace(poll=lambda: None))
    load = lambda self: (0, 0, "")
    prepare = recorded = report = lambda *_, **__: None
run.Demo, run.EmbeddedPostgres = Demo, lambda: nullcontext(SimpleNamespace(dsn=lambda *_: ""))
run.Show.everything = run.Show.audited = lambda *_: None
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell has started behind itself ignores it
sys.exit(run.main(once=False, port=0, directory=Path(sys.argv[1])))
"""


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_waits_until_it_is_told_to_end(tmp_path: Path, sign: signal.Signals) -> None:
    command = [sys.executable, "-u", "-c", WAITING, str(tmp_path / "home")]
    with subprocess.Popen(command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("Serving until" in line for line in process.stdout)
        process.send_signal(sign)
        assert "stopping" in process.stdout.read()
    assert process.returncode == 0


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
