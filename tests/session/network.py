"""A proxy between a client and a model of a server, and the bytes that are under way between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from phiproxy.errors import PhiproxyError
from phiproxy.session.needs import Need
from tests.session.frames import error_fields, show_client, show_server, split
from tests.session.model import Server
from tests.session.screenplay import SECRET, FakeDatabase, Screenplay

CLIENT_TO_PROXY, PROXY_TO_SERVER, SERVER_TO_CLIENT = range(3)
ALL = 1 << 30


class Network:
    """Three legs on which bytes wait until they are moved; a need of the session waits until it is met."""

    def __init__(self, database: FakeDatabase | None = None) -> None:
        self.play = Screenplay(database or FakeDatabase())
        self.session = self.play.session
        self.server = Server(physical=True)
        self.from_client = b""
        self.to_server = b""
        self.from_server: list[bytes] = []
        self.captured = b""
        self.received = b""
        self.said = 0
        self.need: Need | None = None

    def say(self, data: bytes) -> None:
        """Let the client say something; it is under way."""
        self.from_client += data
        self.said += len(data)

    def move(self, leg: int, size: int) -> None:
        """Deliver up to ``size`` bytes of one leg; what a session that needs something is told stays with it."""
        if leg == CLIENT_TO_PROXY:
            chunk, self.from_client = self.from_client[:size], self.from_client[size:]
            self._take(self.session.from_client(chunk))
        elif leg == PROXY_TO_SERVER:
            chunk, self.to_server = self.to_server[:size], self.to_server[size:]
            self.from_server += split(self.server.receive_bytes(chunk))
        else:
            chunk = b""
            while self.from_server and len(chunk) < size:
                chunk += self.from_server.pop(0)
            if len(chunk) > size:
                self.from_server.insert(0, chunk[size:])
            self._take(self.session.from_server(chunk[:size]))

    def resume(self, failure: PhiproxyError | None = None) -> None:
        """Meet the need, or say that it cannot be met."""
        self.need = None
        self._take(self.session.resume(failure))

    def _take(self, need: Need | None) -> None:
        self.need = need if need is not None else self.need
        sent, self.session.to_server = b"".join(self.session.to_server), []
        self.captured += sent
        self.to_server += sent
        self.received += b"".join(self.session.to_client)
        self.session.to_client.clear()

    def settle(self, meet: Callable[[Need], None] | None = None) -> None:
        """Deliver everything, and meet every need, by resuming alone unless told."""
        while self.from_client or self.to_server or self.from_server or self.need is not None:
            if self.need is not None and meet is not None:
                meet(self.need)
            elif self.need is not None:
                self.resume()
            for leg in (CLIENT_TO_PROXY, PROXY_TO_SERVER, SERVER_TO_CLIENT):
                self.move(leg, ALL)

    def check(self, script: Sequence[bytes], expected: Sequence[bytes]) -> None:
        """Check that the client got exactly this, that nothing is left to wait for, and that no secret left."""
        said = "\n".join(show_client(f) for f in split(b"".join(script)))
        assert [same(f) for f in split(self.received)] == [same(f) for f in expected], said
        self.play.is_idle()
        assert not self.session.pipeline.copy_in
        assert SECRET not in self.captured


def same(frame: bytes) -> str:
    """Return what must not differ: everything, except an error's words."""
    return f"ErrorResponse {error_fields(frame)['C']}" if frame[:1] == b"E" else show_server(frame)
