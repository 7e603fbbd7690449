"""What the tests of the fast path say and hear, and how they turn it off."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from phiproxy.session import client_messages, core, server_messages
from tests.session import frames as f
from tests.session.screenplay import Screenplay

BY_TAG = "SELECT ssn, city FROM public.patients WHERE ssn = $1"
INSERT = "INSERT INTO public.patients (id, ssn, mrn) VALUES ($1, $2, $3)"
PLAIN = "SELECT id, msg FROM log WHERE id = $1"
SEALED = f.row_description(f.column("ssn", 17, table=100, attnum=2, code=1), f.column("city", table=100, attnum=6))
SHOWN = f.row_description(f.column("ssn", 25, table=100, attnum=2), f.column("city", table=100, attnum=6))
DONE = f.command_complete("SELECT 1") + f.ready()


def prepared(play: Screenplay, text: str, name: str = "s") -> None:
    """Prepare a statement."""
    play.client_says(f.parse(text, name), f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.PARSE_COMPLETE, f.ready())
    play.session.to_client.clear()


def group(*values: bytes | None, name: str = "s", results: Sequence[int] = (), describes: bool = False) -> bytes:
    """Return a whole group of a prepared statement."""
    asked = f.describe() if describes else b""
    return f.bind(*values, statement=name, results=tuple(results)) + asked + f.execute() + f.SYNC


def by_handlers(patch: pytest.MonkeyPatch) -> None:
    """Let the handlers do everything."""
    patch.setattr(core, "pass_replies", lambda _session: None)
    patch.setattr(core, "pass_messages", lambda _session: None)
    patch.setattr(core.Session, "_is_settled", lambda _session, **_: False)


def without_handlers(patch: pytest.MonkeyPatch, client: bytes, server: bytes) -> None:
    """Let no handler do anything with these messages."""
    for handlers, tags in ((client_messages.HANDLERS, client), (server_messages.HANDLERS, server)):
        for tag in tags:
            patch.delitem(handlers, tag)


def only_whole_chunks(patch: pytest.MonkeyPatch) -> None:
    """Let nothing but a chunk that is one whole group, or all its replies, go on."""
    for name in ("pass_messages", "pass_replies"):
        patch.setattr(core, name, None)
    patch.setattr(core.Session, "_drain", None)
