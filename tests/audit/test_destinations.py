"""Syslog over TLS and standard output, and the thread in between."""

from __future__ import annotations

import io
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from pathlib import Path

import pytest

from phiproxy.audit import committer as committer_module
from phiproxy.audit import destinations
from phiproxy.audit.committer import Committer
from phiproxy.audit.destinations import Destination, Forwarder, Refused, StandardOutput, SyslogServer, SyslogTarget
from phiproxy.audit.records import line_of
from tests.net.certificates import Authority

TIME = "2026-11-27T18:45:00.000001Z"
LINES = [
    b'{"kind":"login","sequence":1,"time":"%s"}' % TIME.encode(),
    f'{{"kind":"login","login":"Zoë","sequence":2,"time":"{TIME}"}}'.encode(),
]


class Collector:
    """A syslog server that keeps what it is sent."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context, self._listening = context, socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.data, self.connections, self.ended = b"", 0, 0
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
            self.ended += 1
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
    head = b"<110>1 2026-11-27T18:45:00.000001Z proxy.example phiproxy - audit - \xef\xbb\xbf"
    assert messages == [head + line for line in (*LINES, LINES[0])], "the time is that of the record"
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
        self.raises: Exception = OSError(111, "away")
        self.hangs: threading.Event | None = None

    def write(self, lines: Sequence[bytes]) -> None:
        if not self.there:
            raise self.raises
        if self.hangs is not None:
            self.hangs.wait()
        self.taken += lines

    def close(self) -> None:
        pass


def forwarder(to: Destination, told: list[str], *, retry: bool) -> Forwarder:
    return Forwarder(to, lambda name, error, lost: told.append(f"{name}: {error!r} ({lost})"), retry=retry)


def test_what_is_lost_on_the_way_is_told_and_counted() -> None:
    fickle, told = Fickle(), list[str]()
    own = forwarder(fickle, told, retry=False)
    wait([own.send(LINES)])
    fickle.there = True
    wait([own.send(LINES)])
    own.stop()
    own.close(60)
    assert (told, fickle.taken) == (["fickle: ConnectionRefusedError(111, 'away') (2)", "fickle: None (0)"], LINES)


def test_where_files_have_them_records_wait_for_a_destination_that_is_away() -> None:
    fickle, told = Fickle(), list[str]()
    own = forwarder(fickle, told, retry=True)
    first, second = own.send(LINES[:1]), own.send(LINES[1:])
    until(lambda: told == ["fickle: ConnectionRefusedError(111, 'away') (0)"])
    fickle.there = True
    wait([first, second])
    assert (fickle.taken, told[1:]) == (LINES, ["fickle: None (0)"])
    fickle.there = False
    own.send(LINES)
    until(lambda: len(told) == 3)
    own.stop()
    own.close(60)
    assert told[-1] == "fickle: ConnectionRefusedError(111, 'away') (2)"


@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("raised", [ValueError("a value"), Refused("no", 1)])
def test_what_is_of_no_use_to_send_again_does_not_hold_up_what_comes_behind(raised: Exception, *, retry: bool) -> None:
    fickle, told = Fickle(), list[str]()
    fickle.raises = raised
    own = forwarder(fickle, told, retry=retry)
    assert own.send(LINES).exception(60) is raised
    fickle.there = True
    assert own.send(LINES[:1]).result(60) is None
    own.stop()
    own.close(60)
    assert fickle.taken == LINES[:1]
    assert told[0].endswith("(1)" if isinstance(raised, Refused) else "(2)")


def test_no_more_records_wait_than_there_may_and_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destinations, "MAX_WAITING", 4)
    hanging, told = Fickle(), list[str]()
    hanging.there, hanging.hangs = True, threading.Event()
    own = forwarder(hanging, told, retry=True)
    own.send(LINES), own.send(LINES)
    assert isinstance(own.send(LINES).exception(60), OSError)
    own.stop()
    own.close(0.1)
    assert [each.rpartition(" ")[2] for each in told] == ["(2)", "(4)"]
    hanging.hangs.set()


def test_what_was_not_taken_in_time_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "PATIENCE", 0.2)
    hanging = Fickle()
    hanging.there, hanging.hangs = True, threading.Event()
    committer = Committer(None, [forwarder(hanging, [], retry=False)])
    for who in ("a", "b"):
        with pytest.raises(OSError, match="no destination has taken"):
            committer.commit([line_of("login", {"login": who})])
    hanging.hangs.set()
    monkeypatch.setattr(committer_module, "PATIENCE", 60)
    committer.commit([])
    committer.close()
    # The first attempt was under way, and cannot be taken back.
    assert [json.loads(line)["login"] for line in hanging.taken] == ["a", "a", "b"]


def test_the_end_of_a_connection_is_said(collector: Collector, authority: Authority) -> None:
    """A connection that is reset, since the server's tickets were not read, may take with it what was sent last."""
    for _ in range(10):
        server = SyslogServer(target(collector.port, authority.certificate), "here")
        server.write(LINES)
        server.close()
    until(lambda: collector.ended == 10)
    assert collector.data.count(b"sequence") == 20


def test_without_files_one_destination_must_have_taken_a_record() -> None:
    fickle = Fickle()
    committer = Committer(None, [forwarder(fickle, [], retry=False)])
    with pytest.raises(OSError, match="no destination has taken"):
        committer.commit([line_of("login", {"login": "a"})])
    fickle.there = True
    committer.commit([line_of("login", {"login": "b"})])
    assert [b'"login":"a"' in line or b'"login":"b"' in line for line in fickle.taken] == [True, True]
    committer.close()
