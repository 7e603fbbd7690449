"""A screenplay with a third side: what the session asks of the engine, and what that answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from phiproxy.errors import PhiproxyError
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import SETTINGS, EngineFacts
from phiproxy.session.needs import Describe, Enter, NeedEngine, NeedWork, Results
from phiproxy.session.split_statements import SETTINGS_QUESTION
from phiproxy.session.substitutes_and_questions import OWN_NAME, own_query
from phiproxy.wire.messages import message
from tests.clinic_model import CATALOG, PROTECTION
from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    FLUSH,
    PARSE_COMPLETE,
    Frame,
    command_complete,
    data_row,
    split,
)
from tests.session.screenplay import CIPHERS, FakeDatabase, Screenplay

T = TypeVar("T")
COMPUTATION = object()
"""Stands for a session of the engine."""


def settings_question() -> list[Frame]:
    """Return what the server is asked before the source is executed."""
    return list(split(message(b"C", b"S" + OWN_NAME + b"\0") + own_query(SETTINGS_QUESTION, b"")))


def settings_answer(timeout: str = "0") -> list[Frame]:
    """Return the server's answer."""
    row = data_row(b"\x01".join([b"v", *(b"" for _ in SETTINGS[1:]), timeout.encode()]))
    return [CLOSE_COMPLETE, PARSE_COMPLETE, BIND_COMPLETE, row, command_complete("SELECT"), CLOSE_COMPLETE, CLOSE_COMPLETE]


@dataclass
class SplitPlay(Screenplay):
    """``engine_…`` answers what is needed of the engine."""

    def __post_init__(self) -> None:
        self.database = FakeDatabase(Planner(PROTECTION, CATALOG, CIPHERS, EngineFacts()))
        super().__post_init__()

    def engine_describes(self, *answer: bytes, failure: PhiproxyError | None = None) -> Describe:
        """Answer Describe, and return what was described."""
        return self._worked(Describe, failure or list(answer))

    def engine_enters(self, answer: object = COMPUTATION) -> Enter:
        """Give a session of the engine, or the exception that there is none, and return what it is for."""
        return self._worked(Enter, answer)

    def _worked(self, kind: type[T], answer: object) -> T:
        assert isinstance(self.need, NeedWork), self.need
        asked = self.need.work.engine
        assert isinstance(asked, kind), asked
        if isinstance(answer, PhiproxyError):
            self.need.work.failed(answer)
        else:
            self.need.work.done(answer)
        self.session.worked.append(self.need.work)
        self.need = self.session.resume(worked=True)
        return asked

    def engine_is_given(self, rows: Sequence[bytes], *, last: bool) -> Results | None:
        """Check which opened rows the engine is given, and return what results it is asked for."""
        assert isinstance(self.need, NeedEngine), self.need
        assert b"".join(self.need.rows) == b"".join(rows)
        assert (self.need.results is not None) == last
        return self.need.results

    def engine_says(self, *pieces: bytes, failure: PhiproxyError | None = None) -> None:
        """Say results, and go on."""
        for piece in pieces:
            self.session.computed(piece)
        self.resumes(failure)

    def released(self) -> list[object]:
        """Return the computations that are over."""
        gone, self.session.released = self.session.released, []
        return gone

    def asks_and_executes(self, execute: Frame, *before: bytes) -> None:
        """Play the barrier up to the source's being executed; ``before``: what the server had not answered yet."""
        self.server_gets(*settings_question(), execute, FLUSH)
        self.server_says(*before, *settings_answer())
