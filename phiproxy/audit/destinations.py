"""Where records go beside the files: a syslog server over TLS, and standard output. Blocking; each has a thread of its own."""

import json
import queue
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

# So many records wait for a destination that is slow or away; of more the youngest are given up and counted.
MAX_WAITING: Final = 50_000
# How many seconds pass until it is tried again: twice as many each time, up to so many.
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 32.0
# How many seconds the other end of a connection has to say that it has heard of its end.
_GOODBYE: Final = 1.0
# RFC 5424: facility 13 (log audit), severity 6 (informational).
_PRIORITY: Final = 13 * 8 + 6


class Refused(OSError):
    """The destination will never take these records, or ``lost`` of them (0: all)."""

    def __init__(self, why: str, lost: int = 0) -> None:
        super().__init__(why)
        self.lost = lost


class Unavailable(OSError):
    """The destination takes nothing now; it says that it may ``after`` so many seconds."""

    def __init__(self, why: str, after: float = 0) -> None:
        super().__init__(why)
        self.after = after


class Destination(Protocol):
    """Takes records, each a line without its end."""

    name: str

    def write(self, lines: Sequence[bytes]) -> None:
        """Take some records, or raise OSError: Refused where it is of no use to send them again."""

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
        about = f"{self._host} phiproxy - audit -"
        heads = [f"<{_PRIORITY}>1 {json.loads(line)['time']} {about} ".encode() for line in lines]
        # The mark says that the message is UTF-8 (RFC 5424, section 6.4).
        messages = [head + b"\xef\xbb\xbf" + line for head, line in zip(heads, lines, strict=True)]
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
        """Close the connection, through TLS with a word (RFC 5425, section 4.4); the next records open another."""
        connection, self._socket = self._socket, None
        if connection is None:
            return
        with connection, suppress(OSError):
            if isinstance(connection, ssl.SSLSocket):
                connection.settimeout(_GOODBYE)
                connection.unwrap().close()


class Forwarder:
    """Hands records to one destination in a thread of its own, in order.

    With ``retry`` records wait until the destination takes them, and those behind them too: where files have them already, so that
    nobody waits for it. ``troubled`` is told when it fails: of which destination, why, and how many records it has not got and will
    not get; and why is None once it works again.
    """

    def __init__(self, destination: Destination, troubled: Callable[[str, Exception | None, int], None], *, retry: bool) -> None:
        self._destination, self._troubled, self._retry = destination, troubled, retry
        self._queue: queue.SimpleQueue[tuple[Sequence[bytes], Future[None]] | None] = queue.SimpleQueue()
        self._counting, self._waiting = threading.Lock(), 0
        self._stopping, self._failing = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name=f"audit {destination.name}", daemon=True)
        self._thread.start()

    def send(self, lines: Sequence[bytes]) -> "Future[None]":
        """Have records sent; the future is done when they are, or fails. As long as it is not running it can be cancelled."""
        sent: Future[None] = Future()
        with self._counting:
            taken = not self._waiting or self._waiting + len(lines) <= MAX_WAITING
            self._waiting += len(lines) if taken else 0
        if taken:
            self._queue.put((lines, sent))
        else:
            error = OSError("too much waits for it")
            self._tell(error, len(lines))
            sent.set_exception(error)
        return sent

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            lines, sent = job
            error = self._written(lines) if sent.set_running_or_notify_cancel() else None
            with self._counting:
                self._waiting -= len(lines)
            if sent.cancelled():
                continue
            if error is None:
                sent.set_result(None)
            else:
                sent.set_exception(error)
        self._destination.close()

    def _written(self, lines: Sequence[bytes]) -> Exception | None:
        """Have records taken, and return why they are not, which is told then."""
        pause = FIRST_PAUSE
        while True:
            try:
                self._destination.write(lines)
            except Refused as error:
                self._tell(error, error.lost or len(lines))
                return error
            except Exception as error:  # whatever a library raises: those that come behind are sent
                again = self._retry and isinstance(error, OSError)
                wait = max(pause, error.after if isinstance(error, Unavailable) else 0)
                if again and not self._stopping.is_set():
                    self._tell(error, 0)
                if not again or self._stopping.wait(min(wait, LONGEST_PAUSE)):
                    self._tell(error, len(lines))
                    return error
                pause *= 2
            else:
                if self._failing:
                    self._tell(None, 0)
                return None

    def _tell(self, error: Exception | None, lost: int) -> None:
        self._failing = error is not None
        self._troubled(self._destination.name, error, lost)

    def stop(self) -> None:
        """Begin to end: what waits is tried once more."""
        self._stopping.set()
        self._queue.put(None)

    def close(self, timeout: float) -> None:
        """End once that is done, or after so many seconds; then what still waits is not sent."""
        self._thread.join(timeout)
        with self._counting:
            lost = self._waiting
        if lost:
            self._tell(OSError("it took too long at the end"), lost)
