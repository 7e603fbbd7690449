"""Records sent to an OpenTelemetry collector, which reads them with OpenTelemetry's own messages."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from structlog.testing import capture_logs

from phiproxy.audit.destinations import Refused, Unavailable
from phiproxy.audit.group_commit import AuditLog
from phiproxy.audit.otlp_logs import OtlpCollector, OtlpTarget
from phiproxy.audit.reading import records
from phiproxy.audit.records import line_of, numbered
from tests.audit.test_group_commit import durable, start
from tests.net.certificates import Authority


class Collector(ThreadingHTTPServer):
    """Takes logs, or answers as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[ExportLogsServiceRequest] = []
        self.connections: set[Any] = set()
        self.status, self.rejected, self.closes = 200, 0, False
        self.answers: bytes | None = None
        self.after = ""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        scopes = (scope for r in self.requests for resource in r.resource_logs for scope in resource.scope_logs)
        return [json.loads(log.body.string_value) for scope in scopes for log in scope.log_records]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        collector = cast("Collector", self.server)
        collector.connections.add(self.client_address)
        data = self.rfile.read(int(self.headers["Content-Length"]))
        assert (self.path, self.headers["Content-Type"]) == ("/v1/logs", "application/x-protobuf")
        answer = ExportLogsServiceResponse()
        answer.partial_success.rejected_log_records = collector.rejected
        if collector.status == 200 and not collector.rejected:
            collector.requests.append(ExportLogsServiceRequest.FromString(data))
        body = answer.SerializeToString() if collector.answers is None else collector.answers
        self.send_response(collector.status)
        if collector.after:
            self.send_header("Retry-After", collector.after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = collector.closes

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    serving = Collector()
    yield serving
    serving.shutdown()
    serving.server_close()


def lines(count: int = 2) -> Sequence[bytes]:
    return [numbered(line_of("login", {"login": "Zoë", "outcome": "28P01"}), number) for number in range(count)]


def client(collector: Collector, scheme: str = "http", ca_file: str | None = None) -> OtlpCollector:
    return OtlpCollector(OtlpTarget(f"{scheme}://localhost:{collector.server_port}/", ca_file, 120.0), "one")


def test_records_are_the_bodies_of_logs(collector: Collector) -> None:
    sender, sent = client(collector), lines()
    sender.write(sent)
    sender.write(sent)
    sender.close()
    assert collector.bodies == [json.loads(line) for line in (*sent, *sent)]
    assert len(collector.connections) == 1, "one connection for all"
    resource = collector.requests[0].resource_logs[0]
    assert {a.key: a.value.string_value for a in resource.resource.attributes} == {
        "service.name": "phiproxy", "service.instance.id": "one",
    }  # fmt: skip
    log = resource.scope_logs[0].log_records[0]
    assert {a.key: a.value.string_value for a in log.attributes} == {
        "phiproxy.audit.kind": "login", "db.response.status_code": "28P01",
    }  # fmt: skip
    assert log.time_unix_nano % 1000 == 0
    assert abs(log.time_unix_nano / 1e9 - time.time()) < 60


def test_what_is_not_taken_is_said(collector: Collector) -> None:
    sender = client(collector)
    collector.status = 503
    with pytest.raises(Unavailable, match="answers 503"):
        sender.write(lines())
    collector.status, collector.rejected = 200, 2
    with pytest.raises(Refused, match="has refused 2 records"):
        sender.write(lines())
    collector.rejected = 0
    sender.write(lines())
    sender.close()
    assert len(collector.bodies) == 2


@pytest.mark.parametrize("beside_files", [True, False])
async def test_an_answer_that_is_none_is_said_and_counted_and_the_next_records_are_sent(
    collector: Collector, tmp_path: Path, *, beside_files: bool
) -> None:
    target = {"endpoint": f"http://localhost:{collector.server_port}", "ca_file": None, "timeout": 120.0}
    log = AuditLog(start(tmp_path if beside_files else None, otlp=target), on_failure="refuse", interval=60)
    await log.open({})
    collector.answers = b"<html>Log in</html>"
    with capture_logs() as logged:
        assert await durable(log, log.event("login", {"number": 1})) is beside_files
        assert await durable(log, log.event("login", {"number": 2})) is beside_files
        async with asyncio.timeout(60):
            while log.undelivered.get("otlp", 0) < 2:
                await asyncio.sleep(0.02)
        assert log.failing is not beside_files
        collector.answers = None
        if not beside_files:
            async with asyncio.timeout(60):
                while log.failing:
                    await asyncio.sleep(0.02)
        assert await durable(log, log.event("login", {"number": 3}))
        await log.close()
    assert 3 in [record.get("number") for record in collector.bodies]
    said = [(entry["event"], entry.get("why")) for entry in logged if entry.get("destination") == "otlp"]
    assert said == [
        ("audit records do not arrive", "the collector's answer is not of OTLP"), ("audit records arrive again", None),
    ]  # fmt: skip


async def test_beside_files_records_wait_for_a_collector_that_is_away(collector: Collector, tmp_path: Path) -> None:
    target = {"endpoint": f"http://localhost:{collector.server_port}", "ca_file": None, "timeout": 120.0}
    log = AuditLog(start(tmp_path, otlp=target), on_failure="refuse", interval=60)
    await log.open({})
    collector.status = 503
    for number in range(3):
        assert await durable(log, log.event("login", {"number": number}))
    async with asyncio.timeout(60):
        while "otlp" not in log.undelivered:
            await asyncio.sleep(0.02)
    collector.status = 200
    async with asyncio.timeout(60):
        while len([record for record in collector.bodies if record["kind"] == "login"]) < 3:
            await asyncio.sleep(0.02)
    assert [record["number"] for record in collector.bodies if record["kind"] == "login"] == [0, 1, 2]
    assert log.undelivered["otlp"] == 0
    await log.close()


def test_only_what_otlp_says_is_worth_it_is_sent_again(collector: Collector) -> None:
    sender = client(collector)
    for status in (429, 502, 503, 504):
        collector.status, collector.after = status, "7"
        with pytest.raises(Unavailable) as away:
            sender.write(lines())
        assert away.value.after == 7
    collector.after = "Wed, 21 Oct 2026 07:28:00 GMT"
    with pytest.raises(Unavailable) as away:
        sender.write(lines())
    assert away.value.after == 0
    for status in (307, 400, 401, 413, 500):
        collector.status = status
        with pytest.raises(Refused) as refused:
            sender.write(lines())
        assert refused.value.lost == 2
    sender.close()


def test_many_records_are_sent_in_several_requests(collector: Collector) -> None:
    sender, sent = client(collector), lines(2500)
    sender.write(sent)
    assert [len(r.resource_logs[0].scope_logs[0].log_records) for r in collector.requests] == [1000, 1000, 500]
    assert collector.bodies == [json.loads(line) for line in sent]
    collector.rejected = 2
    with pytest.raises(Refused) as refused:
        sender.write(sent)
    assert refused.value.lost == 6
    sender.close()


def test_a_connection_that_was_closed_is_made_anew(collector: Collector) -> None:
    collector.closes = True
    sender = client(collector)
    for _ in range(3):
        sender.write(lines())
    assert len(collector.bodies) == 6
    sender.close()
    collector.shutdown()
    collector.server_close()
    with pytest.raises(ConnectionRefusedError):
        sender.write(lines())


def test_over_tls_only_a_certificate_of_the_authority_is_believed(collector: Collector, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "collectors")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.issue("collector")
    context.load_cert_chain(pair.certificate, pair.key)
    collector.socket = context.wrap_socket(collector.socket, server_side=True)
    with closing(client(collector, "https", str(authority.certificate))) as sender:
        sender.write(lines())
    assert len(collector.bodies) == 2
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        client(collector, "https").write(lines())


async def test_beside_files_and_without_them(collector: Collector, tmp_path: Path) -> None:
    target = {"endpoint": f"http://localhost:{collector.server_port}", "ca_file": None, "timeout": 120.0}
    for directory in (tmp_path, None):
        before = len(collector.bodies)
        log = AuditLog(start(directory, otlp=target), on_failure="refuse", interval=60)
        await log.open({})
        assert await durable(log, log.event("login", {"number": 7}))
        if directory is None:
            collector.status = 503
            assert not await durable(log, log.event("login", {"number": 8}))
            assert log.failing
            collector.status = 200
        await log.close()
        assert {record["kind"] for record in collector.bodies[before:]} >= {"proxy.started", "login", "proxy.stopped"}
    assert [record["number"] for record in records(tmp_path) if record["kind"] == "login"] == [7]
