"""Where records go beside the files: a syslog server over TLS, and standard output. Blocking; each has a thread of its own."""

import queue
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Final, Protocol

from phiproxy.audit.checkpoints import TIME_FORMAT

# So many batches wait for a destination that is slow or away; of more the oldest are given up and counted.
MAX_WAITING: Final = 10_000
# RFC 5424: facility 13 (log audit), severity 6 (informational).
_PRIORITY: Final = 13 * 8 + 6


class Destination(Protocol):
    """Takes records, each a line without its end."""

    name: str

    def write(self, lines: Sequence[bytes]) -> None:
        """Take some records, or raise OSError."""

    def close(self) -> None:
        """Give back what it holds."""


class StandardOutput:
    """Records as lines on standard output."""

    name = "stdout"

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout.buffer

    def write(self, lines: Sequence[bytes]) -> None:
        """Write and flush them."""
        self._stream.write(b"".join([line + b"\n" for line in lines]))
        self._stream.flush()

    def close(self) -> None:
        """Leave it open: it is the process's."""


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """A syslog server: ``path`` is that of a Unix socket, ``tls`` whether it is spoken to through TLS and verified."""

    host: str
    port: int
    path: str
    tls: bool
    ca_file: str | None
    timeout: float


class SyslogServer:
    """Records as messages of RFC 5424, framed by their length (RFC 5425), over TLS 1.2 or newer.

    Syslog has no acknowledgement: taken is what the connection has taken.
    """

    name = "syslog"

    def __init__(self, target: SyslogTarget, host: str) -> None:
        self._target, self._host = target, host
        self._socket: socket.socket | None = None

    def write(self, lines: Sequence[bytes]) -> None:
        """Send them, over a connection that is made anew where the last one is gone."""
        now = datetime.now(UTC).strftime(TIME_FORMAT)
        head = f"<{_PRIORITY}>1 {now} {self._host} phiproxy - audit - ".encode()
        # The mark says that the message is UTF-8 (RFC 5424, section 6.4).
        messages = [head + b"\xef\xbb\xbf" + line for line in lines]
        data = b"".join([b"%d %b" % (len(message), message) for message in messages])
        try:
            if self._socket is None or self._is_gone():
                self.close()
                self._socket = self._connect()
            self._socket.sendall(data)
        except OSError:
            self.close()
            raise

    def _is_gone(self) -> bool:
        """Tell whether the server has closed its end: it says nothing else."""
        assert self._socket is not None
        self._socket.setblocking(False)  # noqa: FBT003
        try:
            return not self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        finally:
            self._socket.settimeout(self._target.timeout)

    def _connect(self) -> socket.socket:
        target = self._target
        if target.path:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(target.timeout)
            connection.connect(target.path)
        else:
            connection = socket.create_connection((target.host, target.port), target.timeout)
        if not target.tls:
            return connection
        context = ssl.create_default_context(cafile=target.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            return context.wrap_socket(connection, server_hostname=target.host)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connection; the next records open another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Forwarder:
    """Hands records to one destination in a thread of its own, in order.

    ``troubled`` is told when that fails: of which destination, why, and how many records it has not got.
    """

    def __init__(self, destination: Destination, troubled: Callable[[str, OSError, int], None]) -> None:
        self._destination, self._troubled = destination, troubled
        self._queue: queue.Queue[tuple[Sequence[bytes], Future[None]] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name=f"audit {destination.name}", daemon=True)
        self._thread.start()

    def send(self, lines: Sequence[bytes]) -> "Future[None]":
        """Have records sent; the future is done when they are, or fails with OSError."""
        sent: Future[None] = Future()
        try:
            self._queue.put_nowait((lines, sent))
        except queue.Full:
            error = OSError(f"too much waits for {self._destination.name}")
            self._troubled(self._destination.name, error, len(lines))
            sent.set_exception(error)
        return sent

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            lines, sent = job
            try:
                self._destination.write(lines)
            except OSError as error:
                self._troubled(self._destination.name, error, len(lines))
                sent.set_exception(error)
            else:
                sent.set_result(None)
        self._destination.close()

    def close(self, timeout: float) -> None:
        """Send what waits, for at most so many seconds, and end."""
        self._queue.put(None)
        self._thread.join(timeout)
