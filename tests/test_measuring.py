"""What /metrics says of a proxy that has worked; and Prometheus itself, which scrapes it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from phiproxy.demo.postgres import free_port
from phiproxy.measuring import Measuring
from phiproxy.net.tasks import spawn
from tests.harness import waiting
from tests.harness.proxy import ProxyUnderTest
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import asleep, connect, listener_of, serving, site_settings, until, wire_site


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with wire_site(postgres_server, tmp_path_factory.mktemp("measuring"), rows=10) as site:
        yield site


@pytest.fixture(autouse=True)
def _password(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])


def work(proxy: ProxyUnderTest, site: Site) -> None:
    with psycopg.connect(proxy.dsn(site.sealed, site.role, site.password), autocommit=True) as conn:
        conn.execute("DELETE FROM notes")
        for number in range(3):
            conn.execute("INSERT INTO notes VALUES (%s, %s)", (number, f"note {number}"))
        assert len(conn.execute("SELECT id, body FROM notes").fetchall()) == 3
        assert len(conn.execute("SELECT id, body FROM notes WHERE body = 'note 1'").fetchall()) == 1
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute("SELECT upper(body) FROM notes")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.dsn(site.sealed, site.role, "wrong"))


def told(port: int) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=240) as answer:
        text = answer.read().decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_are_told_of(site: Site, workers: int) -> None:
    port = free_port()
    proxy = site.another_proxy(f"jobs{workers}")
    config = proxy.config.read_text().replace("metrics: null", f"metrics: {{listen: 127.0.0.1:{port}}}")
    proxy.config.write_text(config + f"workers: {workers}\n")
    with proxy:
        site.cli("keys", "rotate")
        assert "is done" in site.cli("recrypt")
        done = [job for job in json.loads(site.cli("jobs", "--json")) if (job["kind"], job["state"]) == ("recrypt", "done")]

        def all_done() -> bool:
            """Whether each worker has looked since the job ended: what it says of open jobs is of when it looked last."""
            try:
                said = told(port)
            except URLError:  # its port is open before it answers for metrics
                return False
            rows = sum(value for name, value in said.items() if name[0] == "phiproxy_job_rows")
            return (said.get(("phiproxy_jobs", site.sealed, "recrypt", "done"), 0), rows) == (len(done), 0)

        waiting.until(all_done, "a job is open")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_counted(site: Site, workers: int) -> None:
    port = free_port()
    proxy = site.another_proxy(f"counted{workers}")
    config = proxy.config.read_text().replace("metrics: null", f"metrics: {{listen: 127.0.0.1:{port}}}")
    proxy.config.write_text(config + f"workers: {workers}\n")
    with proxy:
        work(proxy, site)
        wanted = {
            ("phiproxy_logins_total", "ok"): 1,
            ("phiproxy_logins_total", "failed"): 1,
            ("phiproxy_statements_total", "refused", "refused"): 1,
            # each once: what is rewritten is not forwarded too
            ("phiproxy_statements_total", "rewritten", ""): 6,
            ("phiproxy_statements_total", "forwarded", ""): 0,
            ("phiproxy_rows_opened_total", site.sealed, "public.notes.body"): 4,
            ("phiproxy_values_stored_total", site.sealed, "public.notes.body"): 3,
            ("phiproxy_clients",): 0,
        }
        # prometheus_client gives labels in their own order, which is the metric's or, of several workers, the alphabet's
        end = time.monotonic() + 120
        while True:
            samples = told(port)
            by_set = {(name, *sorted(labels)): value for (name, *labels), value in samples.items()}
            missing = {k: v for k, v in wanted.items() if by_set.get((k[0], *sorted(k[1:]))) != v}
            if not missing:
                break
            assert time.monotonic() < end, (missing, samples)
            time.sleep(0.2)
        of_seconds = [
            value for (name, *labels), value in samples.items() if name == "phiproxy_statement_seconds_count" and "total" in labels
        ]
        assert sum(of_seconds) >= 6
        assert sum(v for (name, *_), v in samples.items() if name == "phiproxy_kek_unwraps_total") >= 2
        assert samples["phiproxy_kek_unwrap_seconds_count",] >= 2
        assert samples["phiproxy_key_cache_age_seconds",] > 0
        refusals = [(labels, value) for (name, *labels), value in samples.items() if name == "phiproxy_refusals_total"]
        assert [value for _, value in refusals] == [1]


async def test_a_loop_that_is_held_up_is_seen(site: Site) -> None:
    async with serving(site_settings(site)) as (proxy, _):
        measuring = Measuring(proxy.metrics, listener_of(proxy), proxy.databases.values())
        watching = [spawn(measuring.watch(), "metrics"), spawn(measuring.watch_loop(), "loop")]
        await asyncio.sleep(0.3)
        time.sleep(0.4)  # noqa: ASYNC251 - which is what is to be seen
        await until(lambda: proxy.metrics.loop_delay._value.get() > 0.3, "it was not seen")
        assert proxy.metrics.loop_delay._value.get() < 60, "in seconds"
        for task in watching:
            task.cancel()
        await asyncio.wait(watching)


async def test_sessions_by_state(site: Site) -> None:
    async with serving(site_settings(site)) as (proxy, port):
        measuring = Measuring(proxy.metrics, listener_of(proxy), proxy.databases.values())
        async with await connect(site, port), await connect(site, port) as second, await connect(site, port) as third:
            await second.execute("BEGIN")
            sleeping = asyncio.create_task(third.execute("SELECT pg_sleep(600)"))
            await asleep(site.server, third)
            measuring.take()
            states = {state: proxy.metrics.sessions.labels(state)._value.get() for state in ("idle", "in_transaction", "active")}
            assert states == {"idle": 1, "in_transaction": 1, "active": 1}
            await third.cancel_safe(timeout=240)
            with pytest.raises(psycopg.errors.QueryCanceled):
                await sleeping


def test_prometheus_scrapes_it(site: Site, tmp_path: Path) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    port, own = free_port(), free_port()
    proxy = site.another_proxy("scraped")
    proxy.config.write_text(proxy.config.read_text().replace("metrics: null", f"metrics: {{listen: 127.0.0.1:{port}}}"))
    scrape = {"job_name": "phiproxy", "scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    arguments = [
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    with proxy, (tmp_path / "log").open("wb") as log:
        work(proxy, site)
        prometheus = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
        try:
            end = time.monotonic() + 120
            while (found := query(own, 'phiproxy_statements_total{verdict="refused",reason="refused"}')) != [1.0]:
                assert time.monotonic() < end, (found, (tmp_path / "log").read_text())
                time.sleep(0.5)
            while query(own, "up") != [1.0]:  # a scrape of a second's patience may fail at times
                assert time.monotonic() < end
                time.sleep(0.5)
            (median,) = query(own, 'histogram_quantile(0.5, sum by (le) (phiproxy_statement_seconds_bucket{phase="total"}))')
            assert 0 < median < 10
        finally:
            prometheus.terminate()
            prometheus.wait(240)


def query(port: int, expression: str) -> list[float]:
    from urllib.parse import quote  # noqa: PLC0415

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={quote(expression)}", timeout=240) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return []
    return [float(each["value"][1]) for each in found]
