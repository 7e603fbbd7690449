"""A proxy in front of a server that is already there: without a policy, or with one on a table that no suite knows.

``python -m tests.conformance.front`` is the same for a process that cannot import us: it reads one line of JSON, says the proxy's
port, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from phiproxy.demo.postgres import free_port
from tests.harness.proxy import ProxyUnderTest, run_cli

POLICY = """\
database: {database}
deployment: conformance
tables:
  clinic.patients:
    columns:
      ssn:   {{type: text, indexes: [ssn], distinct: 100000000}}
      notes: {{type: text, pad: 64}}
"""
TABLE = "CREATE SCHEMA clinic CREATE TABLE patients (id serial PRIMARY KEY, ssn text, notes text)"


@dataclass(frozen=True)
class Behind:
    """The server behind the proxy; with ``policy_for`` this database gets a policy, whose service login is the superuser.

    The proxy listens on both addresses of localhost, and with ``socket_directory`` also there.
    """

    host: str
    port: int
    user: str = "postgres"
    password: str = ""
    policy_for: str = ""
    certificate: str = ""
    private_key: str = ""
    upstream_tls: str = "disable"
    socket_directory: str = ""


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def _configuration(behind: Behind, port: int) -> str:
    tls = (
        f"{{certificate: '{behind.certificate}', private_key: '{behind.private_key}'}}" if behind.certificate else "{mode: disable}"
    )
    listen = [f"127.0.0.1:{port}"]
    if _has_ipv6():
        listen.append(f"[::1]:{port}")
    if behind.socket_directory:
        listen.append(f"unix:{behind.socket_directory}/.s.PGSQL.{port}")
    return f"""\
listen: {json.dumps(listen)}
upstream: {{address: "{behind.host}:{behind.port}", tls: {behind.upstream_tls}}}
tls: {tls}
service: {{user: "{behind.user}"}}
keys: {{kek: "local:kek.json"}}
policies: [{"policy.yaml" if behind.policy_for else ""}]
limits: {{drain_timeout: 0s}}
metrics: null
"""


def _protect(behind: Behind, directory: Path, env: Mapping[str, str]) -> None:
    """Do what the documentation tells a DBA to do."""
    (directory / "policy.yaml").write_text(POLICY.format(database=behind.policy_for))
    where = {"host": behind.host, "port": behind.port, "user": behind.user, "dbname": behind.policy_for}
    with psycopg.connect(**where, password=behind.password or None, autocommit=True) as conn:  # type: ignore[arg-type]
        conn.execute(TABLE)
        config = str(directory / "phiproxy.yaml")
        run_cli("keys", "init", "-c", config, env=env, check=True)
        conn.execute(run_cli("ddl", "-c", config, env=env, check=True).stdout)


@contextmanager
def in_front_of(behind: Behind) -> Iterator[ProxyUnderTest]:
    """Run a proxy in front of that server."""
    with tempfile.TemporaryDirectory(prefix="phiproxy-front-") as name:
        directory, port = Path(name), free_port()
        env = {"PHIPROXY_SERVICE_PASSWORD": behind.password or "none is asked for"}
        config = directory / "phiproxy.yaml"
        config.write_text(_configuration(behind, port))
        if behind.policy_for:
            _protect(behind, directory, env)
        with ProxyUnderTest(config, port, directory / "proxy.log", env) as proxy:
            yield proxy
            log = proxy.log_path.read_text("utf-8", "replace")
            assert proxy.running, f"the proxy ended:\n{log[-3000:]}"
            assert "Traceback" not in log, f"the proxy met something unforeseen:\n{log[-3000:]}"


def main() -> None:
    """Be the proxy of another process until it closes our standard input."""
    with in_front_of(Behind(**json.loads(sys.stdin.readline()))) as proxy, contextlib.suppress(KeyboardInterrupt):
        print(proxy.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
