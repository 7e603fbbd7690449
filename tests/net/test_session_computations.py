"""What a session has computed: begun, given rows, its results passed on while the client takes them, ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from phiproxy.net.leg import Leg
from phiproxy.net.session_computations import Computations, QueryCanceled
from phiproxy.plan.split_plan import Computed
from phiproxy.session.core import Session
from phiproxy.session.needs import Describe, Enter, NeedEngine, Results

REST = Computed((b"SELECT 1",), ())


class Rest:
    """A computation that gives what it was given."""

    def __init__(self, pause: float) -> None:
        self.given: list[object] = []
        self.counted = 2
        self._pause = pause

    def settings(self, settings: Mapping[str, str]) -> None:
        self.given.append(dict(settings))

    async def rows(self, data: bytes) -> None:
        self.given.append(data)

    async def results(self, results: Results) -> AsyncIterator[bytes]:
        for piece in (b"one", b"two"):
            await asyncio.sleep(self._pause)
            yield piece


class Engine:
    """An engine that counts who is in it."""

    def __init__(self, pause: float = 0.0) -> None:
        self.rest = Rest(pause)
        self.inside = 0
        self.free = asyncio.Event()
        self.free.set()

    async def describe(self, rest: Computed, settings: Mapping[str, str]) -> list[bytes]:
        return [rest.parts[0], repr(dict(settings)).encode()]

    @asynccontextmanager
    async def computing(self, rest: Computed, narrowing: str) -> AsyncIterator[Rest]:
        await self.free.wait()
        self.inside += 1
        try:
            yield self.rest
        finally:
            self.inside -= 1


class Listening(Session):
    """A session that only notes what the engine says."""

    def __init__(self) -> None:
        super().__init__(None, "clinic")
        self.told: list[bytes] = []

    def computed(self, piece: bytes) -> None:
        self.told.append(piece)


def computations(engine: Engine) -> tuple[Listening, Computations, list[int]]:
    session, writes = Listening(), list[int]()
    return session, Computations(session, Leg(), engine, lambda: writes.append(len(session.told))), writes


async def test_begun_given_rows_and_ended() -> None:
    engine = Engine()
    session, all_of_them, writes = computations(engine)
    assert await all_of_them.ask(Describe(REST, {"datestyle": "ISO"})) == [b"SELECT 1", b"{'datestyle': 'ISO'}"]
    computation = await all_of_them.ask(Enter(REST, ""))
    assert engine.inside == 1
    await all_of_them.go_on(NeedEngine(computation, {"timezone": "UTC"}, [b"a", b"b"], None))
    await all_of_them.go_on(NeedEngine(computation, None, [], Results((), (), ())))
    assert engine.rest.given == [{"timezone": "UTC"}, b"ab"]
    assert session.told == [b"one", b"two"]
    assert writes == [1, 2]
    assert session.counters.rows_computed == 2
    all_of_them.release([computation])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert engine.inside == 0


async def test_statement_timeout() -> None:
    session, all_of_them, _ = computations(Engine(pause=0.2))
    computation = await all_of_them.ask(Enter(REST, ""))
    with pytest.raises(QueryCanceled, match="statement timeout"):
        await all_of_them.go_on(NeedEngine(computation, None, [], Results((), (), (), seconds=0.05)))
    assert session.told == []
    assert session.counters.engine_seconds > 0


async def test_statement_timeout_counts_the_wait_for_a_session() -> None:
    engine = Engine()
    _, all_of_them, _ = computations(engine)
    engine.free.clear()
    with pytest.raises(QueryCanceled, match="statement timeout"):
        await all_of_them.go_on(NeedEngine(None, None, [], Results((), (), (), seconds=0.05), Enter(REST, "")))
    engine.free.set()
    assert engine.inside == 0


async def test_a_client_that_does_not_read_holds_the_results() -> None:
    engine = Engine()
    session, all_of_them, _ = computations(engine)
    computation = await all_of_them.ask(Enter(REST, ""))
    client = all_of_them._client
    client.pause_writing()
    going = asyncio.create_task(all_of_them.go_on(NeedEngine(computation, None, [], Results((), (), ()))))
    await asyncio.sleep(0.05)
    assert session.told == [b"one"]
    client.resume_writing()
    await going
    assert session.told == [b"one", b"two"]


async def test_one_that_is_there_when_its_session_has_ended_is_ended() -> None:
    engine = Engine()
    _, all_of_them, _ = computations(engine)
    engine.free.clear()
    asking = asyncio.create_task(all_of_them.ask(Enter(REST, "")))
    await asyncio.sleep(0)
    engine.free.set()
    all_of_them.close()
    with pytest.raises(QueryCanceled):
        await asking
    assert engine.inside == 0


async def test_all_end_with_the_session() -> None:
    engine = Engine()
    _, all_of_them, _ = computations(engine)
    for _ in range(3):
        engine.rest = Rest(0.0)
        await all_of_them.ask(Enter(REST, ""))
    assert engine.inside == 3
    all_of_them.close()
    await asyncio.sleep(0.05)
    assert engine.inside == 0
