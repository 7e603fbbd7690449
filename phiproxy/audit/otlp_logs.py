"""Records for an OpenTelemetry collector: log records of OTLP over HTTP, each with the record as its body. Blocking.

The collector confirms what it has taken. Its protocol's messages come from the extra ``otel``; the SDK's own exporter of logs is
not used, since it is not stable yet, and retries behind our back.
"""

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection as Connection
from http.client import HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_INFO, LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from phiproxy import __version__
from phiproxy.audit.checkpoints import TIME_FORMAT
from phiproxy.audit.destinations import Refused, Unavailable

_HEADERS: Final = {"Content-Type": "application/x-protobuf", "User-Agent": f"phiproxy/{__version__}"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What a collector says may be long; of no more than this is looked at how many it has refused.
_MOST: Final = 64 * 1024
# Of a request: a collector refuses what is larger than it is set to take (20 MB), and sent again that would be as large.
_AT_ONCE: Final = 1000
# What OTLP says is worth another attempt (its specification, OTLP/HTTP, "Retryable Response Codes").
_LATER: Final = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class OtlpTarget:
    """A collector: ``endpoint`` is its base URL, to which ``/v1/logs`` is added."""

    endpoint: str
    ca_file: str | None
    timeout: float


class OtlpCollector:
    """Records as log records of OTLP, over a connection that is kept and made anew where it is gone."""

    name = "otlp"

    def __init__(self, target: OtlpTarget, proxy: str) -> None:
        self._target, self._url = target, urlsplit(target.endpoint.rstrip("/") + "/v1/logs")
        self._resource = Resource(attributes=[_named("service.name", "phiproxy"), _named("service.instance.id", proxy)])
        self._connection: Connection | None = None

    def write(self, lines: Sequence[bytes]) -> None:
        """Send records, and see that all are taken; OSError where they are not."""
        lost, why = 0, ""
        for first in range(0, len(lines), _AT_ONCE):
            some = lines[first : first + _AT_ONCE]
            try:
                self._send(some)
            except Refused as error:  # the others may be taken
                lost, why = lost + (error.lost or len(some)), str(error)
        if lost:
            raise Refused(why, lost)

    def _send(self, lines: Sequence[bytes]) -> None:
        scope = ScopeLogs(log_records=[_log_record(line) for line in lines])
        scope.scope.name, scope.scope.version = "phiproxy.audit", __version__
        request = ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=self._resource, scope_logs=[scope])])
        body = request.SerializeToString()
        kept = self._connection is not None
        try:
            status, after, answer = self._post(body)
        except OSError:
            if not kept:
                raise
            status, after, answer = self._post(body)  # the collector has closed a connection that was idle
        if status in _LATER:
            raise Unavailable(f"the collector answers {status}", float(after) if after.isdecimal() else 0)
        if status != 200:
            raise Refused(f"the collector answers {status}")
        try:
            refused = ExportLogsServiceResponse.FromString(answer).partial_success.rejected_log_records
        except DecodeError:
            raise Refused("the collector's answer is not of OTLP") from None
        if refused:
            raise Refused(f"the collector has refused {refused} records", refused)

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        """Return the status, when the collector would be asked again, and what it says."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request("POST", self._url.path, body, _HEADERS)
            response = self._connection.getresponse()
            return response.status, response.getheader("Retry-After", ""), response.read(_MOST)
        except (OSError, HTTPException) as error:
            self.close()
            if isinstance(error, OSError):
                raise
            raise OSError(f"the collector does not speak HTTP: {type(error).__name__}") from None

    def _connect(self) -> Connection:
        host, port, timeout = self._url.hostname or "", self._url.port, self._target.timeout
        if self._url.scheme == "http":
            return Connection(host, port or 80, timeout=timeout)
        context = ssl.create_default_context(cafile=self._target.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return HTTPSConnection(host, port or 443, timeout=timeout, context=context)

    def close(self) -> None:
        """Close the connection; the next records open another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _named(name: str, value: str) -> KeyValue:
    return KeyValue(key=name, value=AnyValue(string_value=value))


def _log_record(line: bytes) -> LogRecord:
    record = json.loads(line)
    since = datetime.strptime(record["time"], TIME_FORMAT).replace(tzinfo=UTC) - _EPOCH
    nanoseconds = (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    about = [_named("phiproxy.audit.kind", record["kind"])]
    if record.get("outcome"):
        about.append(_named("db.response.status_code", record["outcome"]))
    return LogRecord(
        time_unix_nano=nanoseconds,
        observed_time_unix_nano=nanoseconds,
        severity_number=SEVERITY_NUMBER_INFO,
        severity_text="INFO",
        body=AnyValue(string_value=line.decode()),
        attributes=about,
    )
