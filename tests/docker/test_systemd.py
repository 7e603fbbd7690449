"""The unit is one that systemd understands; the hook of certbot replaces the certificate that a running proxy shows."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phiproxy.policy.settings import Limits
from tests.docs.pages import ROOT
from tests.harness.proxy import ProxyUnderTest
from tests.harness.server import PostgresServer
from tests.net.certificates import Pair, Papers
from tests.net.serving import wire_site

UNIT = ROOT / "docker" / "systemd" / "phiproxy.service"


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # verify looks for the program and for the man page, which are where somebody has installed them
    text = UNIT.read_text().replace("/opt/phiproxy/bin/phiproxy", sys.executable)
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("Documentation="))
    (tmp_path / "phiproxy.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "phiproxy.service")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "phiproxy.service").write_text(text.replace("WatchdogSec", "WatchdogSecs"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "phiproxy.service")], capture_output=True, text=True, check=False
    )
    assert "WatchdogSecs" in done.stderr


def test_it_is_hardened_and_waits_for_the_drain() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:]
    (stop,) = [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith("TimeoutStopSec=")]
    assert float(stop) > Limits().drain_timeout


def test_the_example_in_the_documentation_says_the_same() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    example = page.partition("```ini\n")[2].partition("```")[0]
    unit = UNIT.read_text().splitlines()
    for line in ("Type=notify-reload", "WatchdogSec=30", "Restart=always", "LimitNOFILE=8192"):
        assert line in example
        assert line in unit


def test_certbot_renews_the_certificate(postgres_server: PostgresServer, tmp_path: Path) -> None:
    papers = Papers.made(tmp_path)
    lineage, target = tmp_path / "live", tmp_path / "tls"
    with wire_site(postgres_server, tmp_path, rows=1) as site:
        hook(papers.proxy, lineage, target, "")
        section = f"tls: {{mode: require, certificate: {target}/server.pem, private_key: {target}/server.key}}\n"
        site.config.write_text(site.config.read_text() + section)
        with ProxyUnderTest(site.config, site.proxy.port, tmp_path / "tls.log", site.env) as proxy:
            first = shown(proxy.port)
            assert proxy.process is not None
            hook(papers.server, lineage, target, str(proxy.process.pid))
            end = time.monotonic() + 120
            while (second := shown(proxy.port)) == first:
                assert time.monotonic() < end, proxy.log_path.read_text()
                time.sleep(0.1)
    assert [ssl.PEM_cert_to_DER_cert(pair.certificate.read_text()) for pair in (papers.proxy, papers.server)] == [first, second]
    assert (target / "server.key").stat().st_mode & 0o777 == 0o600


def hook(pair: Pair, lineage: Path, target: Path, pid: str) -> None:
    """Renew as certbot does: into the lineage, and then the hook."""
    lineage.mkdir(exist_ok=True)
    (lineage / "fullchain.pem").write_bytes(pair.certificate.read_bytes())
    (lineage / "privkey.pem").write_bytes(pair.key.read_bytes())
    program = ROOT / "docker" / "certbot" / "phiproxy-deploy-hook.sh"
    env = {
        "PATH": os.environ["PATH"],
        "RENEWED_LINEAGE": str(lineage),
        "PHIPROXY_TLS_DIRECTORY": str(target),
        "PHIPROXY_OWNER": f"{os.getuid()}:{os.getgid()}",
        "PHIPROXY_PID": pid or str(_nobody()),
    }
    done = subprocess.run([str(program)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if pid else 1), done.stderr  # the first time nobody runs yet


def _nobody() -> int:
    return 2**22 + 1


def shown(port: int) -> bytes:
    """Return the certificate that the proxy shows."""
    import socket  # noqa: PLC0415

    with socket.create_connection(("127.0.0.1", port), timeout=240) as sock:
        sock.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        assert sock.recv(1) == b"S"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(sock) as secured:
            certificate = secured.getpeercert(binary_form=True)
            assert certificate is not None
            return certificate
