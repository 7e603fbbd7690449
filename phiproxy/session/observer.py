"""What is told of a session beside its bytes: logins and refusals, for log and metrics. Nothing here is on the fast path."""

from typing import Final, Protocol

from phiproxy.errors import PhiproxyError


class Observer(Protocol):
    """Who is told of what an operator wants to read of a session; nothing of it is on the fast path."""

    def logged_in(self) -> None:
        """The server has let the client in."""

    def login_failed(self, sqlstate: str) -> None:
        """The server has not let it in."""

    def refused(self, error: PhiproxyError, text: bytes | None) -> None:
        """A message was refused; ``text`` is its statement as the client spells it, where that is known."""


class Unobserved:
    """Nobody is told."""

    def logged_in(self) -> None:
        """Say nothing."""

    def login_failed(self, sqlstate: str) -> None:
        """Say nothing."""

    def refused(self, error: PhiproxyError, text: bytes | None) -> None:
        """Say nothing."""


UNOBSERVED: Final = Unobserved()
