"""docs/operations.md: its commands, and that its metrics and log lines are those that there are."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import Counter

from phiproxy.ops.metrics import Metrics
from tests.docs.pages import ROOT, Page
from tests.docs.reader import application, reading
from tests.harness.server import PostgresServer

PAGE = Page("docs/operations.md")
START = Page("docs/protect-your-table.md")


def table(title: str) -> list[str]:
    """What the first column of a section's table names, without its heads."""
    section = PAGE.text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_health_and_backup(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with reading(postgres_server, tmp_path, "clinic") as shell:
        application(postgres_server)
        titles = ("Protect your own table", "1. The proxy's own role", "2. Two files", "3. Keys, DDL and a check", "4. Serve")
        for title in titles:
            shell.walk(START.section(title))
        shell.run("for i in $(seq 600); do curl -fs http://127.0.0.1:9187/readyz >/dev/null && break; sleep 0.1; done\n")
        assert shell.walk(PAGE.section("Health")) == "alive\nready\nphiproxy_clients 0.0\n"
        shell.walk(PAGE.section("Backup and restore"))
        assert len(list(tmp_path.glob("registry-20*.json"))) == 1


def test_every_metric_is_explained() -> None:
    there = []
    for metric in vars(Metrics()).values():
        (described,) = metric.describe() if hasattr(metric, "describe") else [None]
        if described is not None:
            labels = f"{{{','.join(metric._labelnames)}}}" if metric._labelnames else ""
            there.append(described.name + ("_total" if isinstance(metric, Counter) else "") + labels)
    assert table("Metrics") == there


def test_every_line_of_the_log_is_one_that_is_written() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "phiproxy").rglob("*.py"))
    events = table("The log")
    assert len(events) > 10
    assert [event for event in events if f'"{event}"' not in code] == []
