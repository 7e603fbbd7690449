"""Random scripts of a client, through the proxy to a small PostgreSQL and directly to one: the client cannot tell them apart.

Bytes travel in chunks of any size, and the three legs (client to proxy, proxy to server, server to client) run in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.session.frames import (
    error_fields,
    show_client,
    show_server,
    split,
)
from tests.session.model import Server
from tests.session.screenplay import SECRET, Screenplay
from tests.session.scripts import impatient, patient


def directly(script: Sequence[bytes]) -> list[bytes]:
    return list(split(Server(physical=False).receive_bytes(b"".join(script))))


def same(frame: bytes) -> str:
    """Return what must not differ: everything, except an error's words."""
    return f"ErrorResponse {error_fields(frame)['C']}" if frame[:1] == b"E" else show_server(frame)


class Network:
    """A proxy between a client and a model server, and the bytes that are under way."""

    def __init__(self) -> None:
        self.play = Screenplay()
        self.server = Server(physical=True)
        self.from_client = b""
        self.to_server = b""
        self.from_server = b""
        self.captured = b""
        self.received = b""

    def move(self, leg: int, size: int) -> None:
        """Deliver up to ``size`` bytes of one leg."""
        session = self.play.session
        if leg == 0:
            chunk, self.from_client = self.from_client[:size], self.from_client[size:]
            assert session.from_client(chunk) is None
        elif leg == 1:
            chunk, self.to_server = self.to_server[:size], self.to_server[size:]
            self.from_server += self.server.receive_bytes(chunk)
        else:
            chunk, self.from_server = self.from_server[:size], self.from_server[size:]
            assert session.from_server(chunk) is None
        sent, session.to_server = b"".join(session.to_server), []
        self.captured += sent
        self.to_server += sent
        self.received += b"".join(session.to_client)
        session.to_client.clear()

    def settle(self) -> None:
        """Deliver everything."""
        while self.from_client or self.to_server or self.from_server:
            for leg in range(3):
                self.move(leg, 1 << 30)


def check(script: Sequence[bytes], network: Network) -> None:
    expected = directly(script)
    got = list(split(network.received))
    said = "\n".join(show_client(f) for f in split(b"".join(script)))
    assert [same(f) for f in got] == [same(f) for f in expected], said
    network.play.is_idle()
    assert not network.play.session.pipeline.copy_in
    assert SECRET not in network.captured


@settings(max_examples=1500, deadline=None)
@given(impatient, st.lists(st.tuples(st.integers(0, 2), st.integers(1, 200)), max_size=60))
def test_a_pipelining_client_cannot_tell_the_proxy_from_the_server(script: list[bytes], moves: list[tuple[int, int]]) -> None:
    network = Network()
    network.from_client = b"".join(script)
    for leg, size in moves:
        network.move(leg, size)
    network.settle()
    check(script, network)


@settings(max_examples=150, deadline=None)
@given(patient)
def test_a_client_that_waits_cannot_either_and_its_path_is_asked_for(script: list[bytes]) -> None:
    network = Network()
    for said in script:
        network.from_client = said
        network.settle()
    check(script, network)
