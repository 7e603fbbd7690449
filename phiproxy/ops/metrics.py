"""``/metrics``, ``/livez`` and ``/readyz``, in a thread of their own so that a busy event loop still answers."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Protocol, get_args
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from phiproxy import __version__
from phiproxy.crypto.keyring import Refusal
from phiproxy.errors import ConfigError
from phiproxy.policy.setting_values import Address

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = structlog.get_logger("phiproxy.metrics")

STATES = ("active", "idle", "in_transaction")
# From a select of one row through a proxy that is idle to a statement that somebody has waited for.
STATEMENT_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class AuditCounts(Protocol):
    """What the audit log counts: durable records, failed attempts, and whether nothing takes records now."""

    recorded: int
    failures: int
    undelivered: dict[str, int]

    @property
    def lag(self) -> float:
        """How many seconds some record has been waiting to be durable."""

    @property
    def broken(self) -> bool:
        """Tell whether nothing takes records now."""


class Metrics:
    """What the proxy counts. Labels are outcomes, and what the operator has named: clients and statements would grow without bound.

    In a registry of its own, so that two proxies in one process do not collide.
    """

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.build_info = Gauge("phiproxy_build_info", "1, by version", ["version"], registry=own, multiprocess_mode="livemax")
        self.clients = Gauge("phiproxy_clients", "client connections now", registry=own, multiprocess_mode="livesum")
        self.sessions = Gauge("phiproxy_sessions", "sessions by state", ["state"], registry=own, multiprocess_mode="livesum")
        self.logins = Counter("phiproxy_logins", "connections by how the login ended", ["outcome"], registry=own)
        self.statements = Counter("phiproxy_statements", "statements by verdict and reason", ["verdict", "reason"], registry=own)
        self.refusals = Counter("phiproxy_refusals", "refused statements by their shape's digest", ["shape"], registry=own)
        self.statement_seconds = Histogram(
            "phiproxy_statement_seconds",
            "a sample of statements, by phase",
            ["phase", "verdict"],
            registry=own,
            buckets=STATEMENT_BUCKETS,
        )
        self.rows_opened = Counter(
            "phiproxy_rows_opened", "rows in which a column was opened", ["database", "column"], registry=own
        )
        self.values_stored = Counter("phiproxy_values_stored", "values sealed for a column", ["database", "column"], registry=own)
        self.open_failures = Counter("phiproxy_open_failures", "stored values that did not open", registry=own)
        self.splits = Counter("phiproxy_splits", "statements of which the engine has computed a part", registry=own)
        self.rows_computed = Counter("phiproxy_rows_computed", "rows that were opened for the engine", registry=own)
        text = "seconds in which the engine computed, and clients took the results"
        self.engine_seconds = Counter("phiproxy_engine_seconds", text, registry=own)
        self.of_engine = self.splits, self.rows_computed, self.engine_seconds
        self.kek_unwraps = Counter("phiproxy_kek_unwraps", "root keys that the provider was asked for", ["result"], registry=own)
        self.kek_unwrap_seconds = Histogram("phiproxy_kek_unwrap_seconds", "answers of the key provider", registry=own)
        text = "seconds since the oldest root key in use was unwrapped"
        self.key_cache_age = Gauge("phiproxy_key_cache_age_seconds", text, registry=own, multiprocess_mode="livemax")
        self.data_keys_refused = Counter(
            "phiproxy_data_keys_refused", "data keys that stored values name and that are not used", ["reason"], registry=own
        )
        text = "rows of the key registry that do not verify, rollbacks of it, and data keys of stored values that it does not have"
        self.registry_faults = Counter("phiproxy_registry_faults", text, ["kind"], registry=own)
        self.audit_records = Counter("phiproxy_audit_records", "records that are durable in the audit log", registry=own)
        self.audit_failures = Counter("phiproxy_audit_failures", "attempts to write the audit log that failed", registry=own)
        self.audit_broken = Gauge(
            "phiproxy_audit_broken", "1 while nothing takes audit records", registry=own, multiprocess_mode="livemax"
        )
        text = "seconds for which some audit record has been waiting to be durable"
        self.audit_lag = Gauge("phiproxy_audit_lag_seconds", text, registry=own, multiprocess_mode="livemax")
        text = "audit records that a destination beside the files has not got, or checkpoints that are not anchored"
        self.audit_undelivered = Counter("phiproxy_audit_undelivered", text, ["destination"], registry=own)
        self._audited: tuple[int, int, dict[str, int]] = (0, 0, {})
        self.upstream_errors = Counter(
            "phiproxy_upstream_errors", "connections to the server that failed", ["reason"], registry=own
        )
        text = "statements over columns that are in clear, by what would become of them if these were sealed"
        self.observed = Counter("phiproxy_observed_statements", text, ["answer"], registry=own)
        self.jobs = Gauge(
            "phiproxy_jobs", "jobs by state", ["database", "kind", "state"], registry=own, multiprocess_mode="livemax"
        )
        text = "rows of jobs that are not over: read, written, and an estimate of the total"
        labels = ["database", "kind", "count"]
        self.job_rows = Gauge("phiproxy_job_rows", text, labels, registry=own, multiprocess_mode="livemax")
        text = "the longest that the event loop was late in the last seconds"
        self.loop_delay = Gauge("phiproxy_event_loop_delay_seconds", text, registry=own, multiprocess_mode="livemax")
        self.build_info.labels(__version__).set(1)
        # A series that is 0 is there from the start.
        for metric, values in (
            (self.registry_faults, ("row", "manifest", "counter", "rollback", "unknown_key")),
            (self.kek_unwraps, ("ok", "denied", "unavailable")),
            (self.data_keys_refused, get_args(Refusal)),
            (self.logins, ("ok", "failed", "refused", "no_server")),
            (self.observed, ("works", "split", "refused")),
            (self.upstream_errors, ("unreachable", "login", "closed")),
        ):
            for label in values:
                metric.labels(label)
        for verdict in ("forwarded", "rewritten"):
            self.statements.labels(verdict, "")
        self.statements.labels("refused", "refused")
        for state in STATES:
            self.sessions.labels(state)

    def told(self, log: AuditCounts) -> None:
        """Take what the audit log has counted since this was said last."""
        records, failures, undelivered = self._audited
        self.audit_records.inc(log.recorded - records)
        self.audit_failures.inc(log.failures - failures)
        self.audit_broken.set(log.broken)
        self.audit_lag.set(log.lag)
        for destination, count in log.undelivered.items():
            self.audit_undelivered.labels(destination).inc(count - undelivered.get(destination, 0))
        self._audited = (log.recorded, log.failures, dict(log.undelivered))


class WorkersMetrics:
    """The metrics of all workers: prometheus_client keeps them in files of one directory, which the supervisor reads.

    A worker must have ``environment`` when it starts, since its client library looks there while it is loaded.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self.environment = {"PROMETHEUS_MULTIPROC_DIR": self._directory}
        self.registry = CollectorRegistry()
        MultiProcessCollector(self.registry, self._directory)  # type: ignore[no-untyped-call]

    def forget(self, pid: int) -> None:
        """Take what a worker had now, such as its clients, out of the sums; what it has counted stays."""
        mark_process_dead(pid, self._directory)  # type: ignore[no-untyped-call]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a line of the log, not a traceback: whoever asked has gone, or has sent what is no request."""
        log.info("a request for metrics was not answered", exc_info=sys.exc_info()[1])


class _Handler(WSGIRequestHandler):
    timeout = 10  # a client that says nothing does not keep its thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: a line per scrape is noise, and a request line is a stranger's text."""

    def get_stderr(self) -> Any:
        """Return where wsgiref writes tracebacks: nowhere, what goes wrong in our part is logged by it."""
        return io.StringIO()


class MetricsServer:
    """Serve metrics and health on one address. ``reasons`` against being ready are asked for from another thread, by /readyz."""

    def __init__(self, listen: Address, reasons: Callable[[], Sequence[str]], metrics: Metrics | WorkersMetrics) -> None:
        self._listen = listen
        self._reasons = reasons
        self._metrics = make_wsgi_app(metrics.registry)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on; that of a server that is started."""
        assert self._server is not None
        return self._server.server_port

    def start(self) -> None:
        """Listen and answer from now on; ConfigError when the address cannot be had."""
        if self._listen.path:
            raise ConfigError(f"metrics.listen {self._listen}: a Unix socket is not in this version; use host:port")
        try:
            server = _Server((self._listen.host, self._listen.port), _Handler)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigError(f"metrics.listen {self._listen}: {reason}") from None
        server.set_app(self._app)
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, name="phiproxy-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and wait for the thread; does nothing when it is not started."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None

    def _app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self._answered(environ, start_response)
        except Exception:
            log.exception("internal error")
            return _answer(start_response, "500 Internal Server Error", b"internal error\n")

    def _answered(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _answer(start_response, "405 Method Not Allowed", b"GET only\n")
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        if path == "/livez":
            return _answer(start_response, "200 OK", b"alive\n")
        if path == "/readyz":
            reasons = self._reasons()
            if not reasons:
                return _answer(start_response, "200 OK", b"ready\n")
            return _answer(start_response, "503 Service Unavailable", f"not ready: {'; '.join(reasons)}\n".encode())
        return _answer(start_response, "404 Not Found", b"/metrics /livez /readyz\n")


def _answer(start_response: StartResponse, status: str, body: bytes) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
