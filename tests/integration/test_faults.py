"""What a hostile or broken peer can do to the proxy: nothing that outlasts its own connection, and nothing that others notice.

A bystander goes on with its queries all the while; at the end sockets of the proxy and backends of the server are counted again.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phiproxy.wire.fields import Bind, encode_bind
from phiproxy.wire.messages import encode_parse, encode_query, message
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.integration.test_wire_faults import nothing_left
from tests.net.peer import SSL, startup
from tests.net.serving import wire_site

# How long a bystander may ever wait: far above what a machine under load needs, far below what a blocked proxy takes.
PATIENCE = 25.0


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with its proxy."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("faults")) as site, site.proxy:
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO notes VALUES (1, 'read by a bystander')")
        yield site


@contextmanager
def unnoticed(site: Site) -> Iterator[None]:
    """Let a bystander read a protected column without end; nobody may make it wait, or leave anything behind."""
    slowest, stop, failures = [0.0], threading.Event(), list[BaseException]()

    def read(conn: psycopg.Connection[tuple[object, ...]]) -> None:
        try:
            while not stop.is_set():
                begun = time.monotonic()
                found = conn.execute("SELECT id FROM notes WHERE body = 'read by a bystander'").fetchone()
                assert found == (1,)
                slowest[0] = max(slowest[0], time.monotonic() - begun)
                time.sleep(0.01)
        except BaseException as error:
            failures.append(error)

    with nothing_left(site), psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        bystander = threading.Thread(target=read, args=(conn,))
        bystander.start()
        try:
            yield
        finally:
            stop.set()
            bystander.join(240)
        assert not failures
        assert slowest[0] < PATIENCE, f"a bystander waited {slowest[0]:.1f} s"
    assert "internal error" not in site.proxy.log_path.read_text()


def opened(site: Site) -> socket.socket:
    """Connect, and say nothing yet."""
    raw = socket.create_connection((site.proxy.host, site.proxy.port), timeout=240)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw


def rest(raw: socket.socket) -> bytes:
    """Read to the end."""
    parts = []
    with suppress(ConnectionError):
        while part := raw.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.slow
def test_a_thousand_connections_at_once(site: Site) -> None:
    """More than the server takes: each is answered, by the question for a password or by 53300, and the others go on."""
    hello = startup(site.role, site.sealed)
    with unnoticed(site), ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(1000):
            raw = stack.enter_context(socket.socket())
            raw.setblocking(False)
            raw.connect_ex((site.proxy.host, site.proxy.port))
            selector.register(raw, selectors.EVENT_WRITE)
        answers: list[bytes] = []
        end = time.monotonic() + 300
        while len(answers) < 1000:
            assert time.monotonic() < end, f"{len(answers)} of 1000 are answered"
            for key, events in selector.select(1):
                raw = key.fileobj  # type: ignore[assignment]
                if events & selectors.EVENT_WRITE:
                    raw.sendall(hello)
                    selector.modify(raw, selectors.EVENT_READ)
                else:
                    answers.append(raw.recv(4096))
                    selector.unregister(raw)
        assert all(a[:1] == b"R" or b"C53300\0" in a or b"C57P03\0" in a for a in answers), {a[:80] for a in answers}


def _silent(site: Site) -> socket.socket:
    return opened(site)


def _asked_for_tls(site: Site) -> socket.socket:
    raw = opened(site)
    raw.sendall(SSL)
    assert raw.recv(1) == b"N"
    return raw


def _authenticating(site: Site) -> socket.socket:
    raw = opened(site)
    raw.sendall(startup(site.role, site.sealed))
    assert raw.recv(4096)[:1] == b"R"
    return raw


def _logged_in(dsn: str, *said: bytes) -> socket.socket:
    with psycopg.connect(dsn, autocommit=True) as conn:
        raw = socket.socket(fileno=os.dup(conn.fileno()))
        raw.setblocking(True)
        raw.settimeout(240)
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), conn.fileno())  # the connection is ours now: psycopg's goodbye goes nowhere
    for message_ in said:
        raw.sendall(message_)
        raw.recv(65536)
    return raw


PHASES: dict[str, Callable[[Site], socket.socket]] = {
    "silent": _silent,
    "asked for TLS": _asked_for_tls,
    "authenticating": _authenticating,
    "logged in": lambda site: _logged_in(site.proxy_dsn),
    "in a failed transaction": lambda site: _logged_in(site.proxy_dsn, encode_query(b"BEGIN"), encode_query(b"SELECT 1/0")),
    "copying in": lambda site: _logged_in(site.proxy_dsn, encode_query(b"COPY plain FROM STDIN WHERE id < 0")),
    "copying in, protected": lambda site: _logged_in(site.proxy_dsn, encode_query(b"COPY notes FROM STDIN")),
    "without a policy": lambda site: _logged_in(site.proxy.dsn(site.plain, site.role, site.password)),
}
TAGS = b"BCDEFHPQSXcdfpRKZTn12"
BODIES = st.one_of(st.binary(max_size=40), st.just(b"\0" * 8), st.just(b"notes\0SELECT body FROM notes\0\0\0"))
GARBAGE = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=60),
        st.builds(lambda tag, body: message(bytes([tag]), body), st.sampled_from(TAGS), BODIES),
        st.builds(lambda tag, size: bytes([tag]) + struct.pack("!i", size), st.sampled_from(TAGS), st.integers(-5, 70000)),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_garbage_in_every_phase(site: Site, phase: str) -> None:
    with unnoticed(site):

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(pieces=GARBAGE, goodbye=st.sampled_from(["close", "half", "reset"]))
        def throw(pieces: list[bytes], goodbye: str) -> None:
            with PHASES[phase](site) as raw, suppress(OSError):
                for piece in pieces:
                    raw.sendall(piece)
                if goodbye == "half":
                    raw.shutdown(socket.SHUT_WR)
                elif goodbye == "reset":
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        throw()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("tag", [b"Q", b"d", b"p", b"B"])
def test_a_message_that_claims_2_gib(site: Site, phase: str, tag: bytes) -> None:
    """Nobody waits for it, and nobody makes room for it."""
    with unnoticed(site), PHASES[phase](site) as raw:
        lie = b"\x7f\xff\xff\xff" if phase in ("silent", "asked for TLS") else tag + b"\x7f\xff\xff\xff"
        raw.sendall(lie + b"x" * 100)
        answer = rest(raw)
    if phase in ("silent", "asked for TLS"):
        assert answer == b""
    elif phase != "without a policy":  # there the server has the word
        assert answer.count(b"C08P01\0") == 1, answer
        assert b"SFATAL\0" in answer


def test_byte_by_byte(site: Site) -> None:
    """A whole conversation over a protected column, each byte in a packet of its own."""
    said = b"".join(
        (
            encode_parse(
                b"s", b"INSERT INTO notes VALUES (2, $1) ON CONFLICT (id) DO UPDATE SET body = excluded.body RETURNING body"
            ),
            encode_bind(Bind(b"", b"s", (0,), [b"slowly"], ())),
            message(b"E", b"\0" * 5),
            message(b"S", b""),
            encode_query(b"SELECT body FROM notes WHERE body = 'slowly'"),
        )
    )
    with unnoticed(site), _logged_in(site.proxy_dsn) as raw:
        for n in range(len(said)):
            raw.sendall(said[n : n + 1])
        answer = b""
        while answer.count(b"Z\0\0\0\x05I") < 2:
            answer += raw.recv(65536)
        assert answer.count(b"\0\1\0\0\0\6slowly") == 2


def test_startups_that_never_end(site: Site) -> None:
    """Fifty that begin and say no more: they hold a socket each until ``startup_timeout``, and nobody else."""
    with unnoticed(site), ExitStack() as stack:
        for n in range(50):
            raw = stack.enter_context(opened(site))
            raw.sendall(startup(site.role, site.sealed)[: n % 20])
        for _ in range(5):
            with psycopg.connect(site.proxy_dsn) as conn:
                assert conn.execute("SELECT 1").fetchone() == (1,)
