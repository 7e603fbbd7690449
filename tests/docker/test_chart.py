"""The Helm chart: rendered by Helm itself, judged by Kubernetes' own schemas; and what of it runs is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import psycopg
import pytest
import yaml
from helm_python import Chart, HelmError

from phiproxy import __version__
from phiproxy.policy.load import load_settings
from phiproxy.sql.policy_files import load_policies
from tests.docs.pages import ROOT
from tests.harness.proxy import command, environment
from tests.harness.server import PostgresServer
from tests.net.serving import wire_site

CHART = ROOT / "docker" / "kubernetes"
POLICY = "database: clinic\ndeployment: chart\ntables:\n  public.patients:\n    columns: {ssn: {type: text}}\n"
VALUES: dict[str, Any] = {"policies": {"clinic.yaml": POLICY}}


def rendered(**values: Any) -> list[dict[str, Any]]:
    manifests = Chart.load(str(CHART)).render({**VALUES, **values}, name="clinic-proxy", namespace="clinic")
    return [part for text in manifests.values() for part in yaml.safe_load_all(text) if part]


def one(parts: list[dict[str, Any]], kind: str, name: str = "clinic-proxy") -> dict[str, Any]:
    (found,) = [part for part in parts if part["kind"] == kind and part["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("version", ["1.26", "1.30", "1.34"])
def test_kubernetes_takes_all_of_it(version: str) -> None:
    parts = rendered(serviceMonitor={"enabled": True})
    foreign = [part for part in parts if part["kind"] in ("Certificate", "ServiceMonitor")]  # cert-manager's, Prometheus operator's
    own = [part for part in parts if part not in foreign]
    assert len(foreign) == 2
    kinds = ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"]
    assert sorted({part["kind"] for part in own}) == kinds
    for part in own:
        kubernetes_validate.validate(part, version, strict=True)


def test_what_is_switched_off_is_not_there() -> None:
    off = {"enabled": False}
    parts = rendered(podDisruptionBudget=off, networkPolicy=off, tls={"certManager": off}, upstreamCaSecretName="")
    assert {part["kind"] for part in parts} == {"ConfigMap", "Deployment", "Service", "ServiceAccount"}
    assert "upstream-ca" not in json.dumps(one(parts, "Deployment"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 0},
        {"policies": {}},
        {"policies": {"clinic.txt": "x"}},
        {"config": {"listen": "0.0.0.0:1"}},
        {"tls": {"certManager": {"issuer": {"kind": "Nobody"}}}},
        {"nonsense": 1},
        {"service": {"port": 70000}},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(HelmError):
        Chart.load(str(CHART)).validate_schema({**VALUES, **wrong})
    Chart.load(str(CHART)).validate_schema(VALUES)


def test_the_configuration_in_it_is_read(tmp_path: Path) -> None:
    for name, text in one(rendered(drainTimeout=45), "ConfigMap")["data"].items():
        (tmp_path / name).write_text(text)
    settings = load_settings(tmp_path / "phiproxy.yaml")
    assert settings.limits.drain_timeout == 45
    assert settings.tls.mode == "require"
    assert [policy.database for policy in load_policies(settings)] == ["clinic"]


def test_a_pod_drains_within_its_grace_period_and_is_ready_when_the_proxy_is() -> None:
    pod = one(rendered(drainTimeout=45), "Deployment")["spec"]["template"]["spec"]
    proxy, reloader = pod["containers"]
    before = float(proxy["lifecycle"]["preStop"]["exec"]["command"][2].partition("sleep(")[2].rstrip(")"))
    assert before + 45 < pod["terminationGracePeriodSeconds"]
    assert proxy["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert proxy["livenessProbe"]["httpGet"]["path"] == "/livez"
    for container in (proxy, reloader):
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["image"] == f"phiproxy:{__version__}"
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in proxy["volumeMounts"]} == volumes


def test_the_charts_version_is_that_of_the_program() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_the_reloader_has_another_policy_read(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """As in a pod: it knows the proxy by its command line only, and never signals a worker."""
    with wire_site(postgres_server, tmp_path, rows=1) as site:
        site.config.write_text(site.config.read_text() + "workers: 2\n")
        log = (tmp_path / "log").open("w+")
        env = {**environment(site.env), "PHIPROXY_FILES": str(tmp_path), "PHIPROXY_LOOK_EVERY": "0.2"}
        process = subprocess.Popen(command("serve", "-c", str(site.config)), stdout=log, stderr=log, env=env, cwd=ROOT)
        source = one(rendered(), "ConfigMap", "clinic-proxy-reloader")["data"]["reloader.py"]
        source = source.replace(
            "def main()",
            f"every = proxies\ndef proxies():\n    return [p for p in every() if p == {process.pid}]\n\n\ndef main()",
        )
        (tmp_path / "reloader.py").write_text(source)
        reloader = subprocess.Popen([sys.executable, str(tmp_path / "reloader.py")], env=env, stdout=subprocess.PIPE, text=True)
        try:
            _until(lambda: _answers(site.proxy_dsn), log)
            policy = tmp_path / "policy.yaml"
            # as kubelet does it: the new file is complete before it has the name
            (tmp_path / "new").write_text(policy.read_text() + "# another\n")
            os.replace(tmp_path / "new", policy)
            _until(lambda: '"reloaded"' in (tmp_path / "log").read_text(), log)
        finally:
            for each in (reloader, process):
                each.terminate()
                each.wait(240)
            log.close()
        assert (tmp_path / "log").read_text().count('"reloaded"') == 1
        assert reloader.stdout is not None
        with reloader.stdout:
            assert reloader.stdout.read() == f"SIGHUP to {process.pid}\n"


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


def _until(condition: Any, log: Any) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, Path(log.name).read_text()
        time.sleep(0.1)
