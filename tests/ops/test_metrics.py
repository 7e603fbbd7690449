"""Metrics and health over HTTP."""

from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from phiproxy import __version__
from phiproxy.errors import ConfigError
from phiproxy.ops.metrics import Metrics, MetricsServer
from phiproxy.policy.setting_values import Address


class Ready:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def __call__(self) -> list[str]:
        return self.reasons


@pytest.fixture
def ready() -> Ready:
    return Ready()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def server(ready: Ready, metrics: Metrics) -> Iterator[MetricsServer]:
    running = MetricsServer(Address("127.0.0.1", 0), ready, metrics)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def get(server: MetricsServer, path: str, method: str = "GET") -> tuple[int, str]:
    try:
        with urlopen(Request(f"http://127.0.0.1:{server.port}{path}", method=method), timeout=240) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health(server: MetricsServer, ready: Ready) -> None:
    assert get(server, "/livez") == (200, "alive\n")
    assert get(server, "/readyz") == (200, "ready\n")
    ready.reasons = ["PostgreSQL does not answer", "the key provider does not answer"]
    assert get(server, "/livez")[0] == 200
    assert get(server, "/readyz") == (503, "not ready: PostgreSQL does not answer; the key provider does not answer\n")
    assert get(server, "/other")[0] == 404
    assert get(server, "/livez", "POST")[0] == 405


def test_metrics(server: MetricsServer, metrics: Metrics) -> None:
    metrics.clients.set(3)
    metrics.statements.labels("refused", "no-index").inc()
    metrics.open_failures.inc(5)
    metrics.kek_unwraps.labels("denied").inc()
    status, text = get(server, "/metrics")
    assert status == 200
    for line in (
        "phiproxy_clients 3.0",
        'phiproxy_statements_total{reason="no-index",verdict="refused"} 1.0',
        'phiproxy_statements_total{reason="",verdict="forwarded"} 0.0',
        f'phiproxy_build_info{{version="{__version__}"}} 1.0',
        "phiproxy_open_failures_total 5.0",
        'phiproxy_kek_unwraps_total{result="denied"} 1.0',
    ):
        assert line in text.splitlines()


def test_a_port_in_use(server: MetricsServer, metrics: Metrics) -> None:
    second = MetricsServer(Address("127.0.0.1", server.port), list, metrics)
    with pytest.raises(ConfigError, match=rf"metrics.listen 127.0.0.1:{server.port}: Address already in use"):
        second.start()
    second.stop()


def test_no_unix_socket() -> None:
    with pytest.raises(ConfigError, match="a Unix socket is not in this version"):
        MetricsServer(Address(path="/tmp/x"), list, Metrics()).start()


def test_stop_gives_the_port_back(ready: Ready) -> None:
    first = MetricsServer(Address("127.0.0.1", 0), ready, Metrics())
    first.start()
    port = first.port
    first.stop()
    second = MetricsServer(Address("127.0.0.1", port), ready, Metrics())
    second.start()
    second.stop()


class FakeLog:
    """An audit log that has counted."""

    def __init__(self) -> None:
        self.recorded, self.failures, self.broken, self.lag = 7, 2, True, 3.5
        self.undelivered = {"syslog": 4}


def test_the_audit_log_is_counted_once(metrics: Metrics) -> None:
    log = FakeLog()
    metrics.told(log)
    metrics.told(log)
    log.recorded, log.undelivered, log.lag = 9, {"syslog": 5, "otlp": 1}, 0.0
    metrics.told(log)
    value = metrics.registry.get_sample_value
    assert value("phiproxy_audit_records_total") == 9
    assert (value("phiproxy_audit_lag_seconds"), value("phiproxy_audit_broken")) == (0.0, 1.0)
    undelivered = [value("phiproxy_audit_undelivered_total", {"destination": name}) for name in ("syslog", "otlp")]
    assert undelivered == [5, 1]
