"""Syslog over TLS and standard output, and the thread in between."""

from __future__ import annotations

import io
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from pathlib import Path

import pytest

from phiproxy.audit.committer import Committer
from phiproxy.audit.destinations import Forwarder, StandardOutput, SyslogServer, SyslogTarget
from phiproxy.audit.records import line_of
from tests.net.certificates import Authority

LINES = [b'{"kind":"login","sequence":1}', '{"kind":"login","login":"Zoë","sequence":2}'.encode()]


class Collector:
    """A syslog server that keeps what it is sent."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context, self._listening = context, socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.data, self.connections = b"", 0
        self.open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
                connection = self._context.wrap_socket(sock, server_side=True)
            except OSError:
                return
            self.connections += 1
            self.open.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: ssl.SSLSocket) -> None:
        try:
            while data := connection.recv(4096):
                self.data += data
        except (OSError, ValueError):  # it may be closed at any moment
            return

    def close(self) -> None:
        self._listening.close()
        for connection in self.open:
            connection.close()


def until(done: Callable[[], bool]) -> None:
    event = threading.Event()
    for _ in range(6000):
        if done():
            return
        event.wait(0.02)
    raise AssertionError


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "collectors")


@pytest.fixture
def collector(authority: Authority) -> Iterator[Collector]:
    pair = authority.issue("collector")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    collector = Collector(context)
    yield collector
    collector.close()


def target(port: int, ca_file: Path | None) -> SyslogTarget:
    return SyslogTarget("localhost", port, "", tls=True, ca_file=str(ca_file) if ca_file is not None else None, timeout=120)


def test_syslog_messages_are_of_rfc_5424_and_framed_by_their_length(collector: Collector, authority: Authority) -> None:
    server = SyslogServer(target(collector.port, authority.certificate), "proxy.example")
    server.write(LINES)
    server.write(LINES[:1])
    until(lambda: collector.data.count(b"sequence") == 3)
    server.close()
    data, messages = collector.data, []
    while data:
        length, _, data = data.partition(b" ")
        messages.append(data[: int(length)])
        data = data[int(length) :]
    head = re.compile(rb"<110>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z proxy\.example phiproxy - audit - \xef\xbb\xbf")
    assert [head.sub(b"", message) for message in messages] == [*LINES, LINES[0]]
    assert collector.connections == 1


def test_a_connection_that_was_closed_is_made_anew(collector: Collector, authority: Authority) -> None:
    server = SyslogServer(target(collector.port, authority.certificate), "here")
    server.write(LINES)
    until(lambda: collector.data.count(b"sequence") == 2)
    collector.open[0].shutdown(socket.SHUT_RDWR)
    until(lambda: _written(server) and collector.connections == 2)
    server.close()


def _written(server: SyslogServer) -> bool:
    try:
        server.write(LINES)
    except OSError:
        return False
    return True


def test_a_server_that_cannot_be_verified_gets_nothing(collector: Collector, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another")
    server = SyslogServer(target(collector.port, other.certificate), "here")
    with pytest.raises(OSError, match="verify failed"):
        server.write(LINES)
    assert collector.data == b""


def test_standard_output_gets_lines() -> None:
    stream = io.BytesIO()
    StandardOutput(stream).write(LINES)
    assert stream.getvalue().splitlines() == LINES


class Fickle:
    """A destination that is away until it is told to be there."""

    name = "fickle"

    def __init__(self) -> None:
        self.there, self.taken = False, list[bytes]()

    def write(self, lines: Sequence[bytes]) -> None:
        if not self.there:
            raise OSError(111, "away")
        self.taken += lines

    def close(self) -> None:
        pass


def test_what_is_lost_on_the_way_is_told_and_counted() -> None:
    fickle, told = Fickle(), list[str]()
    forwarder = Forwarder(fickle, lambda name, error, lost: told.append(f"{name}: {error.strerror} ({lost})"))
    wait([forwarder.send(LINES)])
    fickle.there = True
    wait([forwarder.send(LINES)])
    forwarder.close(5)
    assert (told, fickle.taken) == (["fickle: away (2)"], LINES)


def test_without_files_one_destination_must_have_taken_a_record() -> None:
    fickle = Fickle()
    committer = Committer(None, [Forwarder(fickle, lambda _name, _error, _lost: None)])
    with pytest.raises(OSError, match="no destination has taken"):
        committer.commit([line_of("login", {"login": "a"})])
    fickle.there = True
    committer.commit([line_of("login", {"login": "b"})])
    assert [b'"login":"a"' in line or b'"login":"b"' in line for line in fickle.taken] == [True, True]
    committer.close()
