"""What the log says of one connection: that it was let in or not, from where, and which of its statements were refused.

Names and numbers only: of a statement its text without constants (``sql.text.log_text``). A line for each is what PostgreSQL leaves
with ``log_connections`` and ``log_min_error_statement``.
"""

from __future__ import annotations

import hashlib
import socket
from collections import Counter
from dataclasses import dataclass, field

import structlog

from phiproxy.errors import PhiproxyError, state_of
from phiproxy.sql.text.log_text import without_values
from phiproxy.wire.messages import Startup
from phiproxy.wire.scram import LoginRefused

log = structlog.get_logger("phiproxy.session")

# Of more shapes than these those that come later are counted as one: whoever refuses them is an application, not a stranger's text.
MAX_SHAPES = 100
OTHER = "other"


@dataclass(slots=True)
class Tallies:
    """What has happened to connections: one object for all of a listener; read by metrics."""

    logins: Counter[str] = field(default_factory=Counter)
    """``ok``; ``failed``: who it is was not shown; ``refused``: by the proxy; ``no_server``: none could be reached."""
    shapes: Counter[str] = field(default_factory=Counter)
    """Refused statements by the digest of their shape."""
    upstream_errors: Counter[str] = field(default_factory=Counter)
    """``unreachable``, ``closed``: without a word, ``login``: it did not keep to the protocol."""

    def refused(self, digest: str) -> None:
        """Count a refusal of a shape."""
        self.shapes[digest if digest in self.shapes or len(self.shapes) < MAX_SHAPES else OTHER] += 1


def shape_digest(shape: str | None) -> str:
    """Return what a shape is called in metrics and in the log: eight hexadecimal digits, or ``unread``."""
    return hashlib.sha256(shape.encode()).hexdigest()[:8] if shape is not None else "unread"


def peer_of(sock: socket.socket) -> str:
    """Return where a client is: ``host:port``, or ``unix``."""
    if sock.family == socket.AF_UNIX:
        return "unix"
    try:
        host, port, *_ = sock.getpeername()
    except OSError:
        return "gone"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SessionLog:
    """Of one connection; an ``Observer`` of its session."""

    def __init__(self, client: str, tallies: Tallies) -> None:
        self._tallies = tallies
        self._open = True
        self.encrypted = False
        self.about = {"client": client}
        """Where the client is, and once it has said so, as whom it wants into which database."""

    def admitted(self, startup: Startup) -> None:
        """Take what the client asks for."""
        user = startup.get(b"user") or b""
        self.about["user"] = user.decode("utf-8", "replace")
        self.about["database"] = (startup.get(b"database") or user).decode("utf-8", "replace")

    def logged_in(self) -> None:
        """Leave the connection's line."""
        self._ends("ok")
        log.info("client connected", tls=self.encrypted, **self.about)

    def login_failed(self, sqlstate: str) -> None:
        """Leave a line for a login that the server has refused."""
        self._ends("failed")
        log.warning("login failed", sqlstate=sqlstate, **self.about)

    def not_let_in(self, error: PhiproxyError, outcome: str) -> None:
        """Leave a line for a connection that came no further than the proxy, or found no server."""
        self._ends(outcome)
        if isinstance(error, LoginRefused):
            log.warning("login failed", sqlstate=error.sqlstate, why=error.why, **self.about)
        else:
            log.info("connection refused", sqlstate=error.sqlstate, why=error.message, **self.about)

    def refused(self, error: PhiproxyError, text: bytes | None) -> None:
        """Leave a line for a statement that the proxy has refused."""
        shape = without_values(text) if text is not None else None
        digest = shape_digest(shape)
        self._tallies.refused(digest)
        reason = error.anchor.removeprefix("err-")
        log.info("statement refused", sqlstate=state_of(error), reason=reason, shape=shape, digest=digest, **self.about)

    def _ends(self, outcome: str) -> None:
        if self._open:
            self._open = False
            self._tallies.logins[outcome] += 1
