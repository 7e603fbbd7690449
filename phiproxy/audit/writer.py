"""The process that writes the audit log of one worker: ``python -m phiproxy.audit.writer DESCRIPTOR``, started by it alone.

A process of its own, since a sync must neither stop the event loop nor wait until that lets another thread run. It lives as long as
the other end of its socket: when the proxy is killed, what it has said is still written and signed.

The first message says what to write to (``Start`` as JSON); each has its length in 4 bytes before it, then a letter:

    R  records, each two texts with a zero byte between, a line end between two      → r, how many, why they are not durable
    C  sign                                                                          → c, the head as JSON, or why not
    L  how the lease of the file goes on: a sign, and up to where the proxy has written (8 bytes, big-endian)
       + it writes, and asks for more; or it asks for a first lease                  → l, the lease as JSON; empty: give it back
       - it is given back    ~ so it is, since syncs are slow    ! so it is, since a write or sync has failed
    F  facts that the first record of a file says, as JSON
    X  end

It says ``t`` when a destination beside the files, or who anchors, fails: its name, why (empty: it works again), how many records,
or checkpoints, it has not got.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from phiproxy.audit.anchors import Anchors, AnchorTarget, witnesses
from phiproxy.audit.checkpoints import Signer
from phiproxy.audit.committer import PATIENCE, Committer
from phiproxy.audit.destinations import Destination, Forwarder, StandardOutput, SyslogServer, SyslogTarget
from phiproxy.audit.log_files import LogFiles, Rotation, Writer
from phiproxy.audit.reading import left_behind
from phiproxy.audit.records import Line
from phiproxy.audit.syncs import Syncs

# How long the writer of a proxy that was killed may take to end before another begins under its name.
LOCK_PATIENCE = 10.0
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Start:
    """What a writer must know. ``seed`` is that of the signing key; it is sent through the socket and written nowhere."""

    proxy: str
    number: str
    host: str
    key_name: str
    seed: str = field(repr=False)
    directory: str | None
    max_file: int
    compress: bool
    stdout: bool
    syslog: dict[str, Any] | None
    facts: dict[str, Any]
    otlp: dict[str, Any] | None = None
    anchor: dict[str, Any] | None = None

    def encoded(self) -> bytes:
        """Return it as the first message."""
        return json.dumps(asdict(self)).encode()


def framed(kind: bytes, data: bytes) -> bytes:
    """Return a message: its length, its letter, its content."""
    return b"%b%b%b" % ((len(data) + 1).to_bytes(4, "big"), kind, data)


class Frames:
    """Messages out of what has arrived."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take bytes, and yield each message that is whole: its letter and its content."""
        data, at = self._data + data, 0
        while len(data) - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if len(data) < end:
                break
            yield data[at + 4 : at + 5], data[at + 5 : end]
            at = end
        self._data = data[at:]


def main(descriptor: int) -> int:
    """Write until the other end is gone; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what they mean, the proxy says, and until then it may have more to say
    threading.excepthook = _thread_has_failed
    with socket.socket(fileno=descriptor) as connection:
        return _Process(connection).run()


class _Process:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = Frames()
        # Received into, again and again: memory of that size for each message would be had of the system, and given back.
        self._buffer = memoryview(bytearray(_CHUNK))
        self._files: LogFiles | None = None
        self._committer: Committer | None = None
        self._syncs: Syncs | None = None
        self._saying = threading.Lock()
        self._facts: dict[str, Any] = {}
        self._anchors: Anchors | None = None

    def run(self) -> int:
        """Take message after message; records that have come one behind the other are taken together."""
        while data := self._received():
            records: list[list[Line]] = []
            for kind, content in self._frames.feed(data):
                if kind == b"R":
                    records.append(_lines(content))
                    continue
                self._commit(records)
                if kind == b"X":
                    self._end()
                    return 0
                self._obey(kind, content)
            self._commit(records)
        self._end()
        return 0

    def _received(self) -> bytes:
        try:
            return bytes(self._buffer[: self._connection.recv_into(self._buffer)])
        except OSError:
            return b""

    def _obey(self, kind: bytes, content: bytes) -> None:
        if kind == b"S":
            self._begin(Start(**json.loads(content)))
        elif kind == b"F":
            self._facts.update(json.loads(content))
        elif kind == b"L" and self._committer is not None and self._syncs is not None:
            self._leased(content[:1], int.from_bytes(content[1:], "big"))
        elif kind == b"C" and self._committer is not None and self._syncs is not None:
            self._syncs.drain()
            try:
                self._say(b"c", json.dumps(self._committer.checkpoint()).encode())
            except OSError as error:
                self._say(b"e", _why(error))

    def _leased(self, sign: bytes, end: int) -> None:
        assert self._committer is not None
        assert self._syncs is not None
        # Where what is durable cannot be read, this process ends, and another goes on with another file: nothing is cut off.
        if sign == b"+":
            self._committer.written_by_others(end)
            lease = self._syncs.lend()
            self._say(b"l", lease.encoded() if lease is not None else b"")
        else:
            self._committer.take_back(end, failed=sign == b"!")
            if sign == b"~":
                self._syncs.slow()
        self._syncs.settle()

    def _begin(self, start: Start) -> None:
        self._facts = start.facts
        try:
            if start.directory is not None:
                directory = Path(start.directory)
                directory.mkdir(mode=0o750, parents=True, exist_ok=True)
                _lock(directory, f"{start.proxy}.{start.number}.lock")
                left = left_behind(directory, (start.proxy, start.number))
                self._facts["events"] = left.events
                writer, signer = Writer(start.proxy, start.number), Signer(start.key_name, bytes.fromhex(start.seed))
                rotation = Rotation(start.max_file, start.compress)
                signed = self._anchored(AnchorTarget(**start.anchor)) if start.anchor is not None else _not_anchored
                self._files = LogFiles(directory, writer, signer, rotation, facts=self._facts, previous=left.head, signed=signed)
        except OSError as error:
            self._say(b"e", _why(error))
            return
        others: list[Destination] = [StandardOutput()] if start.stdout else []
        if start.syslog is not None:
            others.append(SyslogServer(SyslogTarget(**start.syslog), start.host))
        if start.otlp is not None:
            from phiproxy.audit.otlp_logs import OtlpCollector, OtlpTarget  # noqa: PLC0415 - only of the extra

            others.append(OtlpCollector(OtlpTarget(**start.otlp), start.proxy))
        beside = self._files is not None
        self._committer = Committer(self._files, [Forwarder(each, self._troubled, retry=beside) for each in others])
        self._syncs = Syncs(self._committer, self._committed)
        self._say(b"s", json.dumps(self._facts.get("events", {})).encode())

    def _anchored(self, target: AnchorTarget) -> Callable[[Path, bytes], None]:
        self._anchors = Anchors(lambda: witnesses(target), target.every, self._troubled)
        return self._anchors.signed

    def _commit(self, records: list[list[Line]]) -> None:
        if records and self._syncs is not None:
            self._syncs.commit([line for lines in records for line in lines])
            records.clear()
            self._syncs.settle()

    def _committed(self, count: int, error: OSError | None) -> None:
        self._say(b"r", count.to_bytes(4, "big") + (_why(error) if error is not None else b""))

    def _troubled(self, name: str, error: Exception | None, lost: int) -> None:
        self._say(b"t", json.dumps([name, _why(error).decode() if error is not None else "", lost]).encode())

    def _end(self) -> None:
        if self._committer is not None and self._syncs is not None:
            self._syncs.drain()
            try:
                self._committer.take_back(None)  # where the proxy was killed while it wrote itself
                self._committer.close()
            except OSError as error:
                self._say(b"e", _why(error))
        if self._anchors is not None:
            self._anchors.close(PATIENCE)
        self._say(b"x", b"")

    def _say(self, kind: bytes, content: bytes) -> None:
        with self._saying, contextlib.suppress(OSError):  # nobody listens any longer; what was taken is written
            self._connection.sendall(framed(kind, content))


def _not_anchored(_path: Path, _note: bytes) -> None:
    """Nobody else is told of a checkpoint."""


def _lines(content: bytes) -> list[Line]:
    if not content:
        return []
    return [line.partition(b"\0")[::2] for line in content.split(b"\n")]


def _why(error: Exception) -> bytes:
    """Return why something failed; of what is no OSError only what it is called, since its text may hold anything."""
    said = error.strerror or str(error) if isinstance(error, OSError) else ""
    return (said or type(error).__name__).encode()


def _thread_has_failed(failure: threading.ExceptHookArgs) -> None:
    """End the process: another is started, and gets again whatever was not confirmed. Else it would be waited for for ever."""
    sys.stderr.write(f"phiproxy: the audit log's writer has failed: {failure.exc_type.__name__}\n")
    sys.stderr.flush()
    os._exit(os.EX_SOFTWARE)


def _lock(directory: Path, name: str) -> None:
    """Let no other process write under this name, for as long as this one lives; OSError."""
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o640)
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(f"another process writes {name.removesuffix('.lock')} in {directory}") from None
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
