"""compose.yaml: its form, its files, and its jobs run one after the other beside a PostgreSQL, as the containers would run them.

OpenBao has no place here: the KEK is a file instead. ``tests/containers`` has it where a Docker engine answers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
import yaml

from phiproxy.demo.postgres import free_port
from phiproxy.policy.load import load_settings
from phiproxy.sql.policy_files import load_policies
from tests.docs.pages import ROOT
from tests.harness.proxy import ProxyUnderTest, run_cli
from tests.harness.server import PostgresServer
from tests.net.certificates import Pair, tls_server

DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())


def test_it_has_the_form_of_a_compose_file() -> None:
    """The schema is that of the Compose specification (Apache-2.0)."""
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    validator.validate({key: value for key, value in COMPOSE.items() if key != "name"})  # which is younger than the schema
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**COMPOSE, "services": {"x": {"imagge": "y"}}})


def test_what_it_names_is_there() -> None:
    services, volumes = COMPOSE["services"], COMPOSE["volumes"]
    for service in services.values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (DOCKER / source).exists() if source.startswith(".") else source in volumes, mount
        for needed in service.get("depends_on", ()):
            assert needed in services
        if "build" in service:
            assert f" AS {service['build']['target']}\n" in (DOCKER / "Dockerfile").read_text()
    assert services["postgres"]["image"] == "postgres:17"
    targets = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"][0][
        "targets"
    ]
    assert targets == ["phiproxy:9187"]


def test_jobs_wait_for_one_another() -> None:
    order = ["prepare", "postgres", "openbao-unseal", "init", "tables", "check", "phiproxy"]

    def before(name: str) -> set[str]:
        direct = set(COMPOSE["services"][name].get("depends_on", ()))
        return direct.union(*(before(each) for each in direct))

    for earlier, later in zip(order, order[2:], strict=False):
        assert earlier in before(later) or (earlier, later) == ("postgres", "init") or earlier == "postgres"
    assert set(order[:-1]) <= before("phiproxy")


def test_its_configuration_is_read() -> None:
    settings = load_settings(DOCKER / "compose" / "phiproxy.yaml")
    assert settings.kek_uri.startswith("vault:")
    assert settings.upstream.tls == "verify-full"
    assert settings.auth.mode == "scram"
    assert [policy.database for policy in load_policies(settings)] == ["clinic"]


@pytest.mark.parametrize("script", sorted((DOCKER / "compose").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_read_by_a_shell(script: Path) -> None:
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """What the job ``prepare`` leaves: SECRETS and CONFIG."""
    for name in ("secrets", "config"):
        (tmp_path / name).mkdir()
    again = [
        sys.executable,
        str(DOCKER / "compose" / "prepare.py"),
        str(tmp_path / "secrets"),
        str(tmp_path / "config"),
        str(DOCKER / "compose"),
    ]
    subprocess.run(again, check=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    subprocess.run(again, check=True)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for path in tmp_path.rglob("*"):  # they were given to the users of the images
        os.chown(path, os.getuid(), os.getgid())
    return tmp_path


@pytest.fixture
def server(prepared: Path) -> Iterator[PostgresServer]:
    with tls_server(Pair(prepared / "secrets" / "postgres.pem", prepared / "secrets" / "postgres.key")) as server:
        yield server


def test_compose_up(server: PostgresServer, prepared: Path) -> None:
    secrets, config = prepared / "secrets", prepared / "config"
    server.create_database("clinic")
    env = {"PATH": f"{server.bindir or ''}:{os.environ['PATH']}", "PGHOST": server.host, "PGPORT": str(server.port)}
    env |= {"PGUSER": server.superuser, "PGPASSWORD": server.password, "SECRETS": str(secrets), "POSTGRES_USER": server.superuser}
    subprocess.run(["sh", str(DOCKER / "compose" / "clinic.sh")], env=env, check=True)
    port = free_port()
    text = (config / "phiproxy.yaml").read_text()
    for old, new in {
        "listen: 0.0.0.0:6432": f"listen: 127.0.0.1:{port}",
        "postgres:5432": f"localhost:{server.port}",
        "/secrets/": f"{secrets}/",
    }.items():
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"keys: .*", "keys: {kek: local:kek.json}", text)
    text = re.sub(r"metrics: .*", "metrics: null", text)
    (config / "phiproxy.yaml").write_text(text)
    init = COMPOSE["services"]["init"]["entrypoint"][2]
    assert init == "phiproxy keys init && phiproxy ddl > /var/lib/phiproxy/phi.sql"
    named = {"PHIPROXY_CONFIG": str(config / "phiproxy.yaml")}
    run_cli("keys", "init", env=named, check=True)
    assert "anchor:" in (config / "phiproxy.yaml").read_text()
    (prepared / "phi.sql").write_text(run_cli("ddl", env=named, check=True).stdout)
    done = subprocess.run(
        ["psql", "-qv", "ON_ERROR_STOP=1", "-d", "clinic", "-f", str(prepared / "phi.sql")],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_cli("check", env=named, check=True)
    with ProxyUnderTest(config / "phiproxy.yaml", port, prepared / "log"):
        conninfo = {
            "host": "localhost", "hostaddr": "127.0.0.1", "port": port, "dbname": "clinic", "user": "clinic_app",
            "password": (secrets / "app.password").read_text(), "sslmode": "verify-full", "sslrootcert": str(secrets / "ca.pem"),
        }  # fmt: skip
        with psycopg.connect(**conninfo, autocommit=True) as conn:  # type: ignore[arg-type]
            conn.execute("INSERT INTO patients (ssn, full_name, notes) VALUES ('123-45-6789', 'Ada', 'allergic')")
            assert conn.execute("SELECT notes FROM patients WHERE right(ssn, 4) = '6789'").fetchall() == [("allergic",)]
    assert "sslmode=verify-full" in (DOCKER / "README.md").read_text()


def test_the_entrypoint_of_the_image_is_what_the_services_command() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["phiproxy"]' in dockerfile
    assert "USER 65532:65532" in dockerfile.partition(" AS phiproxy\n")[2].partition(" AS phiproxy-compute")[0]
    assert "HEALTHCHECK" in dockerfile
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE))
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for names in copied:
        for name in names.split():
            assert (ROOT / name).exists()
            assert f"!{name}" in ignored
    assert shutil.which("sh")
