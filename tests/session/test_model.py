"""Random scripts of a client, through the proxy to a small PostgreSQL and directly to one: the client cannot tell them apart.

Bytes travel in chunks of any size, and the three legs (client to proxy, proxy to server, server to client) run in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.session.frames import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    error_fields,
    execute,
    parse,
    query,
    show_client,
    show_server,
    split,
)
from tests.session.model import STATEMENTS, Server
from tests.session.screenplay import SECRET, Screenplay

OWN = {"SELECT pg_catalog.phiproxy_refused()", "phiproxy_refused", "SELECT pg_catalog.unnest(pg_catalog.current_schemas(true))"}
PATIENT = {"SET search_path TO public", "SELECT city, ssn FROM patients"}
TEXTS = sorted(STATEMENTS.keys() - OWN - PATIENT - {"COPY log FROM STDIN"})
SIMPLE = [text for text in TEXTS if "$" not in text]
EXITS = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "ROLLBACK TO a"]

names = st.sampled_from(["", "s"])
portals = st.sampled_from(["", "p"])
texts = st.one_of(st.sampled_from(TEXTS), st.sampled_from(EXITS))
formats = st.sampled_from([(), (0,), (1,)])
values = st.sampled_from([(), (b"x",)])
limits = st.sampled_from([0, 0, 1, 2])


@st.composite
def a_bind(draw: st.DrawFn) -> bytes:
    statement = draw(st.sampled_from(["", "", "s", "q"]))
    return bind(*draw(values), statement=statement, portal=draw(portals), results=draw(formats))


@st.composite
def a_whole_statement(draw: st.DrawFn) -> bytes:
    """Parse to Execute as drivers send it, with the right number of values."""
    text, portal = draw(texts), draw(portals)
    value = SECRET if "ssn" in text else b"x"
    count = 1 if "upper(" in text else text.count("$")
    said = [parse(text), bind(*[value] * count, portal=portal, results=draw(formats))]
    asked = [describe(portal)] if draw(st.booleans()) else []
    return b"".join([*said, *asked, execute(portal, draw(limits))])


@st.composite
def a_script(draw: st.DrawFn) -> bytes:
    parts = draw(st.lists(st.sampled_from([*SIMPLE, *EXITS]), min_size=1, max_size=3))
    return query("; ".join(parts))


@st.composite
def a_copy(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from([COPY_DONE, copy_fail("no")]))
    data = [copy_data(b"1\n")] * draw(st.integers(0, 2))
    if draw(st.booleans()):
        return b"".join([query("COPY log FROM STDIN"), *data, end])
    early = [SYNC] if draw(st.booleans()) else []
    begun = [SYNC, close("copy"), parse("COPY log FROM STDIN", "copy"), bind(statement="copy", portal="copy"), execute("copy")]
    return b"".join([*begun, *early, *data, end, SYNC])


messages = st.one_of(
    st.builds(parse, texts, names),
    a_bind(),
    st.builds(execute, portals, limits),
    st.builds(describe, portals),
    st.builds(describe, st.sampled_from(["", "s", "q"]), st.just("S")),
    st.builds(close, st.sampled_from(["", "s", "q"])),
    st.builds(close, portals, st.just("P")),
    st.just(SYNC),
    st.just(FLUSH),
    a_whole_statement(),
    a_whole_statement(),
    a_script(),
    a_copy(),
)
impatient = st.lists(messages, max_size=14).map(lambda said: [*said, SYNC])
patient = st.lists(
    st.one_of(messages, st.sampled_from([SYNC + query(text) for text in sorted(PATIENT)]), st.just(SYNC + query("ROLLBACK"))),
    max_size=12,
).map(lambda said: [*said, SYNC])


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


@settings(max_examples=600, deadline=None)
@given(impatient, st.lists(st.tuples(st.integers(0, 2), st.integers(1, 200)), max_size=60))
def test_a_pipelining_client_cannot_tell_the_proxy_from_the_server(script: list[bytes], moves: list[tuple[int, int]]) -> None:
    network = Network()
    network.from_client = b"".join(script)
    for leg, size in moves:
        network.move(leg, size)
    network.settle()
    check(script, network)


@settings(max_examples=300, deadline=None)
@given(patient)
def test_a_client_that_waits_cannot_either_and_its_path_is_asked_for(script: list[bytes]) -> None:
    network = Network()
    for said in script:
        network.from_client = said
        network.settle()
    check(script, network)
