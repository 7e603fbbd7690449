"""``phiproxy init``: from the address of a database to a protected query, as somebody new does it."""

from __future__ import annotations

import io
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from phiproxy.cli import main
from phiproxy.demo.postgres import free_port
from tests.harness.forks import client_command
from tests.harness.proxy import ROOT, ProxyUnderTest, environment
from tests.harness.server import PostgresServer
from tests.net.certificates import Papers, tls_server

CLINIC = (Path(__file__).parents[2] / "phiproxy" / "demo" / "clinic.sql").read_text(encoding="utf-8")


@pytest.fixture
def clinic(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        conn.execute(CLINIC)
    yield name
    postgres_server.drop_database(name)
    with postgres_server.connect() as conn:
        if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = 'phiproxy'").fetchone():
            conn.execute("DROP OWNED BY phiproxy; DROP ROLE phiproxy")  # of role.sql


def test_from_an_address_to_a_protected_query(
    postgres_server: PostgresServer, clinic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every step that is printed is carried out as it is printed."""
    port, home = free_port(), tmp_path / "etc"
    address = postgres_server.dsn(clinic)
    assert main(["init", address, "--dir", str(home), "--listen", f"127.0.0.1:{port}"]) == 0
    out = capsys.readouterr().out
    assert "a national or social security number identifies one person" in out
    assert postgres_server.password not in out
    config = home / "phiproxy.yaml"
    config.write_text(re.sub(r"(?m)^metrics: .*$", "metrics: null", config.read_text()))
    steps = [re.sub(r"\s+#.*", "", step) for step in re.findall(r"^  \d\. (.*)$", out, re.MULTILINE)]
    steps = [part for step in steps for part in step.split("; ") if part.startswith(("psql", "phiproxy"))]
    assert [" ".join(step.split()[:2]) for step in steps] == [
        "psql -d", "phiproxy keys", "phiproxy ddl", "psql -d", "phiproxy check", "phiproxy serve",
    ]  # fmt: skip
    env = {**environment(), "PGPASSWORD": postgres_server.password, "PATH": f"{postgres_server.bindir or ''}:{os.environ['PATH']}"}
    phiproxy = " ".join(client_command(environment(), str(ROOT)))
    for step in steps[:-1]:
        line = (
            step.replace("psql", "psql -q -v ON_ERROR_STOP=1") if step.startswith("psql") else step.replace("phiproxy", phiproxy, 1)
        )
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    with ProxyUnderTest(config, port, tmp_path / "proxy.log") as proxy:
        dsn = proxy.dsn(clinic, postgres_server.superuser, postgres_server.password)
        with psycopg.connect(dsn, autocommit=True) as app:
            app.execute(
                "INSERT INTO patients (mrn, ssn, full_name, date_of_birth, notes)"
                " VALUES ('M-1', '123-45-6789', 'Ada', '1980-01-01', 'n')"
            )
            assert app.execute("SELECT notes FROM patients WHERE ssn = '123-45-6789'").fetchall() == [("n",)]
            assert app.execute("SELECT mrn FROM patients WHERE lower(full_name) = 'ada'").fetchall() == [("M-1",)]
    with postgres_server.connect(clinic) as conn:
        assert b"123-45-6789" not in bytes(conn.execute("SELECT ssn FROM patients").fetchall()[0][0])  # type: ignore[call-overload]
    assert (home / "service.password").stat().st_mode & 0o777 == 0o600


def test_what_is_there_is_not_overwritten(
    postgres_server: PostgresServer, clinic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.yaml").write_text("mine")
    assert main(["init", postgres_server.dsn(clinic), "--dir", str(tmp_path)]) == 1
    assert "holds policy.yaml already; Take another directory: --dir D" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["policy.yaml"]


def test_rows_are_told(postgres_server: PostgresServer, clinic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with postgres_server.connect(clinic) as conn:
        conn.execute("INSERT INTO patients (mrn, ssn, full_name, date_of_birth) VALUES ('M', 's', 'n', now())")
    assert main(["init", postgres_server.dsn(clinic), "--dir", str(tmp_path)]) == 0
    assert (
        "These tables hold rows in plaintext, see docs/existing-data.md before step 4: public.patients\n" in capsys.readouterr().out
    )
    assert "public.patients:  # holds rows already" in (tmp_path / "policy.yaml").read_text()


def test_an_empty_database(postgres_server: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = postgres_server.create_database()
    assert main(["init", postgres_server.dsn(name), "--dir", str(tmp_path)]) == 0
    assert "No column of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("postgresql://nobody:x@127.0.0.1:1/x", "the database cannot be asked"),
        ("postgresql://x?nonsense=1", "this is no address of a database"),
    ],
)
def test_an_address_that_leads_nowhere(address: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", address, "--dir", str(tmp_path)]) == 1
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_address_to_listen_at_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "postgresql://127.0.0.1:1/x", "--dir", str(tmp_path), "--listen", "6432"]) == 1
    assert "--listen 6432: an address is host:port" in capsys.readouterr().err


def test_it_asks_for_the_address(
    postgres_server: PostgresServer,
    clinic: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(postgres_server.dsn(clinic) + "\n"))
    assert main(["init", "--dir", str(tmp_path)]) == 0
    assert "Address of the database" in capsys.readouterr().out


def test_a_server_with_tls_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tls_server(Papers.made(tmp_path).server) as server:
        assert main(["init", server.dsn(), "--dir", str(tmp_path / "new")]) == 0
    assert "  tls: verify-full  # the server offers TLS; add ca_file" in (tmp_path / "new" / "phiproxy.yaml").read_text()
