"""Dashboard and alert rules: their metrics are there, and Prometheus, which scrapes a real proxy, answers all of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Histogram

from phiproxy.demo.postgres import free_port
from phiproxy.ops.metrics import Metrics
from tests.docs.pages import ROOT
from tests.harness.server import PostgresServer
from tests.net.serving import wire_site
from tests.test_measuring import work

DASHBOARD: dict[str, Any] = json.loads((ROOT / "docker" / "grafana" / "phiproxy.json").read_text())
RULES = ROOT / "docker" / "prometheus" / "alerts.yml"


def expressions() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    shown = [
        expr.replace('job="$job",instance=~"$instance"', 'job="phiproxy"').replace("$__rate_interval", "1m") for expr in panels
    ]
    return [*shown, *rules]


def series() -> set[str]:
    names = {"up"}
    for metric in vars(Metrics()).values():
        for described in metric.describe() if hasattr(metric, "describe") else ():
            suffixes = (
                ["_total"]
                if isinstance(metric, Counter)
                else ["_bucket", "_sum", "_count"]
                if isinstance(metric, Histogram)
                else [""]
            )
            names |= {described.name + suffix for suffix in suffixes}
    return names


@pytest.mark.parametrize("expression", expressions())
def test_its_metrics_are_those_that_there_are(expression: str) -> None:
    named = set(re.findall(r"\b(phiproxy_\w+|up)\b(?=[{\[]|\s|$|\))", expression))
    assert named
    assert named <= series()


def test_every_panel_has_its_place_and_says_what_it_shows() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["title"]
        assert panel["datasource"]["uid"] == "prometheus"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_promtool_takes_the_rules() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    for arguments in (["rules", "alerts.yml"], ["config", "prometheus.yml"]):
        done = subprocess.run(["promtool", "check", *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_is_raised_for_what_it_is_about(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")

    def case(alert: str, series: str, values: str, labels: dict[str, str], at: str = "10m") -> dict[str, Any]:
        return {
            "interval": "10s",
            "input_series": [{"series": series, "values": values}],
            "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": [{"exp_labels": labels}] if labels else []}],
        }

    proxy = {"job": "phiproxy", "instance": "p:1"}
    about = 'job="phiproxy",instance="p:1"'
    worse, bad = {"severity": "critical"}, {"severity": "warning"}
    denied = f'{about},result="denied"'
    failed, closed = f'{about},outcome="failed"', f'{about},reason="closed"'
    tests = [
        case("PhiproxyDown", f"up{{{about}}}", "0x100", {**worse, **proxy}),
        case("PhiproxyDown", f"up{{{about}}}", "1x100", {}),
        case("PhiproxyValuesDoNotOpen", f"phiproxy_open_failures_total{{{about}}}", "0x50 1x50", {**worse, **proxy}),
        case(
            "PhiproxyRegistryFault", f'phiproxy_registry_faults_total{{{about},kind="row"}}', "0x50 1x50", {**worse, "kind": "row"}
        ),
        case("PhiproxyKekDenied", f"phiproxy_kek_unwraps_total{{{denied}}}", "0x50 2x50", {**worse, **proxy, "result": "denied"}),
        case("PhiproxyKeysGrowStale", f"phiproxy_key_cache_age_seconds{{{about}}}", "460x100", {**bad, **proxy}),
        case("PhiproxyEventLoopSlow", f"phiproxy_event_loop_delay_seconds{{{about}}}", "0.5x100", {**bad, **proxy}),
        case("PhiproxyEventLoopSlow", f"phiproxy_event_loop_delay_seconds{{{about}}}", "0.05x100", {}),
        case("PhiproxyLoginsFail", f"phiproxy_logins_total{{{failed}}}", "0+30x100", {**bad, "instance": "p:1"}),
        case(
            "PhiproxyServerErrors",
            f"phiproxy_upstream_errors_total{{{closed}}}",
            "0+30x100",
            {**bad, "instance": "p:1", "reason": "closed"},
        ),
        case(
            "PhiproxyJobFailed",
            f'phiproxy_jobs{{{about},database="clinic",kind="reindex",state="failed"}}',
            "0x50 1x50",
            {**bad, "database": "clinic", "kind": "reindex"},
        ),
        case("PhiproxyNearlyFull", f"phiproxy_clients{{{about}}}", "950x100", {**bad, **proxy}),
    ]
    for each in tests:
        for test in each["alert_rule_test"]:
            for alert in test["exp_alerts"]:
                alert["exp_annotations"] = _summary(test["alertname"], alert["exp_labels"])
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "10s", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


_VALUES = {"PhiproxyKeysGrowStale": "7m 40s", "PhiproxyEventLoopSlow": "500ms", "PhiproxyNearlyFull": "950"}


def _summary(name: str, labels: dict[str, str]) -> dict[str, str]:
    """Return the annotations as Prometheus fills them in."""
    (rule,) = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if rule["alert"] == name]
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: labels[match[1]], rule["annotations"]["summary"])
    return {"summary": re.sub(r"\{\{ \$value[^}]*\}\}", _VALUES.get(name, ""), text)}


def test_prometheus_answers_all_of_it(postgres_server: PostgresServer, tmp_path: Path) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    port, own = free_port(), free_port()
    config = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES)]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    arguments = [
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    with wire_site(postgres_server, tmp_path, rows=10) as site:
        proxy = site.another_proxy("monitored")
        proxy.config.write_text(proxy.config.read_text().replace("metrics: null", f"metrics: {{listen: 127.0.0.1:{port}}}"))
        with proxy, (tmp_path / "log").open("wb") as log:
            prometheus = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
            try:
                end = time.monotonic() + 240
                for _ in range(4):
                    work(proxy, site)
                    time.sleep(1.5)
                # The panels: each shows something of a proxy that works; of alerts nothing need come.
                panels = expressions()[: sum(len(panel["targets"]) for panel in DASHBOARD["panels"])]
                while missing := [expr for expr in panels if not answered(own, expr)]:
                    assert time.monotonic() < end, missing
                    work(proxy, site)
                    time.sleep(1)
                for expr in expressions()[len(panels) :]:
                    answered(own, expr)
                rules = asked(own, "/api/v1/rules")["data"]["groups"][0]["rules"]
                assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
                assert not [rule["lastError"] for rule in rules if rule.get("lastError")]
            finally:
                prometheus.terminate()
                prometheus.wait(240)


def asked(port: int, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=240) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def answered(port: int, expression: str) -> list[Any]:
    """Return what an expression gives; that it is none is an HTTPError."""
    result: list[Any] = asked(port, f"/api/v1/query?query={urllib.parse.quote(expression)}")["data"]["result"]
    return result
