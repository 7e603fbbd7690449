"""Random scripts of a client, through the proxy to a small PostgreSQL and directly to one: the client cannot tell them apart.

Bytes travel in chunks of any size, and the three legs (client to proxy, proxy to server, server to client) run in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.session.frames import Frame, split
from tests.session.model import Server
from tests.session.network import Network
from tests.session.scripts import impatient, patient


def directly(script: Sequence[bytes]) -> list[Frame]:
    return list(split(Server(physical=False).receive_bytes(b"".join(script))))


@settings(max_examples=300, deadline=None)
@given(impatient, st.lists(st.tuples(st.integers(0, 2), st.integers(1, 200)), max_size=60))
def test_a_pipelining_client_cannot_tell_the_proxy_from_the_server(script: list[bytes], moves: list[tuple[int, int]]) -> None:
    network = Network()
    network.say(b"".join(script))
    for leg, size in moves:
        network.move(leg, size)
    network.settle()
    network.check(script, directly(script))


@settings(max_examples=150, deadline=None)
@given(patient)
def test_a_client_that_waits_cannot_either_and_its_path_is_asked_for(script: list[bytes]) -> None:
    network = Network()
    for said in script:
        network.say(said)
        network.settle()
    network.check(script, directly(script))
