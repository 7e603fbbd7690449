"""Who watches a session is told of its login and of refusals, and of nothing else."""

from __future__ import annotations

import pytest

from phiproxy.errors import PhiproxyError
from phiproxy.session.core import Session
from phiproxy.session.observer import UNOBSERVED
from tests.session import frames as f
from tests.session.screenplay import Screenplay


class Watching:
    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def logged_in(self) -> None:
        self.told.append(("in", None))

    def login_failed(self, sqlstate: str) -> None:
        self.told.append(("failed", sqlstate))

    def refused(self, error: PhiproxyError, text: bytes | None) -> None:
        self.told.append((error.anchor, text))


def test_refusals_come_with_their_statements() -> None:
    text = "SELECT upper(ssn) FROM public.patients"
    play = Screenplay()
    play.session.observer = watching = Watching()
    play.session.from_client(f.query(text))
    play.session.from_server(f.error("42883") + f.ready())
    play.session.from_client(f.parse(text) + f.SYNC)
    assert watching.told == [("err-refused", text.encode())] * 2
    assert play.session.counters.refused == 2
    assert play.session.counters.reasons == {"err-refused": 2}


@pytest.mark.parametrize(
    ("said", "told"), [(f.error("28P01", severity="FATAL"), ("failed", "28P01")), (f.raw(b"R", bytes(4)) + f.ready(), ("in", None))]
)
def test_how_a_login_ends(said: bytes, told: tuple[str, object]) -> None:
    session = Session(None, "clinic")
    session.observer = watching = Watching()
    session.from_server(said)
    assert watching.told == [told]


def test_nobody_watches_unless_told_to() -> None:
    play = Screenplay()
    assert play.session.observer is UNOBSERVED
    play.session.from_client(f.query("SELECT upper(ssn) FROM public.patients"))
    assert play.session.counters.refused == 1
