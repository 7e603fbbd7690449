"""``/metrics``, ``/livez`` and ``/readyz``, in a thread of their own so that a busy event loop still answers."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, get_args
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from phiproxy.crypto.keyring import Refusal
from phiproxy.errors import ConfigError
from phiproxy.policy.values import Address

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = structlog.get_logger("phiproxy.metrics")


class Metrics:
    """What the proxy counts. Labels are outcomes only: names of tables or clients would grow without bound.

    In a registry of its own, so that two proxies in one process do not collide.
    """

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.clients = Gauge("phiproxy_clients", "client connections now", registry=own, multiprocess_mode="livesum")
        self.statements = Counter("phiproxy_statements", "statements by outcome", ["outcome"], registry=own)
        self.open_failures = Counter("phiproxy_open_failures", "stored values that did not open", registry=own)
        self.kek_unwraps = Counter("phiproxy_kek_unwraps", "root keys that the provider was asked for", ["result"], registry=own)
        self.data_keys_refused = Counter(
            "phiproxy_data_keys_refused", "data keys that stored values name and that are not used", ["reason"], registry=own
        )
        text = "rows of the key registry that do not verify, rollbacks of it, and data keys of stored values that it does not have"
        self.registry_faults = Counter("phiproxy_registry_faults", text, ["kind"], registry=own)
        for kind in ("row", "manifest", "counter", "rollback", "unknown_key"):
            self.registry_faults.labels(kind)
        for outcome in ("forwarded", "rewritten", "refused"):
            self.statements.labels(outcome)  # a series that is 0 is there from the start
        for result in ("ok", "denied", "unavailable"):
            self.kek_unwraps.labels(result)
        for reason in get_args(Refusal):
            self.data_keys_refused.labels(reason)


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
