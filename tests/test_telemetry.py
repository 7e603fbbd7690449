"""A collector in Python, and what a real proxy sends it: spans below those of the client, and the metrics; no value."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from phiproxy.errors import ConfigError
from phiproxy.net.statement_times import StatementTimes
from phiproxy.policy.settings import Telemetry
from phiproxy.telemetry import Sending
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.net.serving import wire_site

SECRET = "123-45-6789"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"
UNSAMPLED = f"00-{TRACE[::-1]}-{CALLER}-00"


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.status = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, body)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        self.raw.append(body)
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            self.spans += [s for r in traces.resource_spans for scope in r.scope_spans for s in scope.spans]
        else:
            assert path == "/v1/metrics"
            told = ExportMetricsServiceRequest.FromString(body)
            self.metrics |= {m.name: m for r in told.resource_metrics for scope in r.scope_metrics for m in scope.metrics}


def refused(collector: Collector) -> float:
    """Return how many statements were refused, as the collector knows."""
    if "phiproxy_statements" not in collector.metrics:
        return 0
    points = collector.metrics["phiproxy_statements"].sum.data_points
    return float(sum(p.as_double for p in points if "refused" in [a.value.string_value for a in p.attributes]))


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with wire_site(postgres_server, tmp_path_factory.mktemp("telemetry"), rows=10) as site:
        yield site


def attributes(span: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}


@pytest.mark.parametrize("workers", [1, 2])
def test_spans_and_metrics(site: Site, collector: Collector, workers: int) -> None:
    proxy = site.another_proxy(f"otlp{workers}")
    section = f"telemetry: {{endpoint: '{collector.endpoint}', interval: 500ms}}\nworkers: {workers}\n"
    proxy.config.write_text(proxy.config.read_text() + section)
    with proxy, psycopg.connect(proxy.dsn(site.sealed, site.role, site.password), autocommit=True) as conn:
        conn.execute("DELETE FROM notes")
        conn.execute(f"INSERT INTO notes VALUES (1, '{SECRET}') /*traceparent='{PARENT}'*/")
        conn.execute(f"SELECT body FROM notes WHERE body = '{SECRET}' /*traceparent='{UNSAMPLED}'*/")
        with conn.transaction():
            conn.execute(f"SET LOCAL app.traceparent = '{PARENT}'")
            for _ in range(2):
                conn.execute("SELECT body FROM notes WHERE body = %s", (SECRET,), prepare=True)
        conn.execute("SELECT 1")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute(f"SELECT upper(body) FROM notes /*traceparent='{PARENT}'*/")
        conn.close()
        until(lambda: refused(collector) == 1, "the counters did not arrive")
        assert proxy.terminate() == 0
    statements = [span for span in collector.spans if span.name == "statement"]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert {span.parent_span_id.hex() for span in statements} == {CALLER}
    told = [(attributes(span)["phiproxy.verdict"], attributes(span).get("db.query.text")) for span in statements]
    assert told[0] == ("rewritten", "INSERT INTO notes VALUES (?, …)")
    assert told.count(("rewritten", "SELECT body FROM notes WHERE body = $1")) == 2
    assert told[-1] == ("refused", "SELECT upper(body) FROM notes")
    assert ("forwarded", "SELECT ?") not in told
    about = attributes(statements[0])
    assert (about["db.system.name"], about["db.namespace"], about["db.user"]) == ("postgresql", site.sealed, site.role)
    for statement in statements:
        phases = [span for span in collector.spans if span.parent_span_id == statement.span_id]
        assert {"plan", "server"} <= {span.name for span in phases} <= {"plan", "keys", "server", "engine", "open"}
        assert all(statement.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in phases)
        assert max(span.end_time_unix_nano for span in phases) <= statement.end_time_unix_nano + 1_000_000
    assert SECRET.encode() not in b"".join(collector.raw)
    assert refused(collector) == 1
    assert collector.metrics["phiproxy_statements"].sum.is_monotonic
    histogram = collector.metrics["phiproxy_statement_seconds"].histogram.data_points[0]
    assert len(histogram.bucket_counts) == len(histogram.explicit_bounds) + 1
    assert sum(histogram.bucket_counts) == histogram.count > 0
    assert "phiproxy_clients" in collector.metrics


def test_a_collector_that_is_away_or_says_no_harms_nobody(site: Site, collector: Collector) -> None:
    collector.status = 400
    proxy = site.another_proxy("otlp-no")
    section = f"telemetry: {{endpoint: '{collector.endpoint}', interval: 200ms, ratio: 1}}\n"
    proxy.config.write_text(proxy.config.read_text() + section)
    with proxy, psycopg.connect(proxy.dsn(site.sealed, site.role, site.password), autocommit=True) as conn:
        until(lambda: "metrics cannot be sent" in proxy.log_path.read_text(), "it does not say so")
        assert conn.execute("SELECT count(*) FROM plain").fetchone() == (10,)
        conn.close()
        assert proxy.terminate() == 0


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    own = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("phiproxy.ops.otlp"):
            raise ModuleNotFoundError("No module named 'opentelemetry'", name="opentelemetry")
        return own(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    Sending(Telemetry(), None, StatementTimes())  # nothing is configured: nothing is imported
    with pytest.raises(ConfigError, match="telemetry needs opentelemetry") as failed:
        Sending(Telemetry(endpoint="http://127.0.0.1:1"), None, StatementTimes())
    assert failed.value.hint == "pip install 'phiproxy[otel]'"
