"""The supervisor's side of workers that die, cannot start, or come too late; what they do is stood in for by small programs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from phiproxy.errors import ConfigError
from phiproxy.net import workers as module
from phiproxy.net.workers import Channel, Configuration, Drain, Prepare, Start, Stop, Supervisor, Take
from phiproxy.policy.settings import Settings
from tests.net.serving import until

PYTHON = sys.executable
CONFIGURATION = Configuration(Settings.model_validate({"policies": []}), ())


async def pair() -> tuple[Channel, Channel]:
    """Return both ends of a channel."""
    one, other = socket.socketpair()
    return await Channel.over(one), await Channel.over(other)


async def test_orders_and_reports_arrive_as_they_were_and_an_end_is_an_end() -> None:
    supervisor, worker = await pair()
    orders: list[module.Order] = [Start(CONFIGURATION, (3, 4), 5, 2, 1, 9), Prepare(CONFIGURATION), Take(), Drain(1.5), Stop()]
    for order in orders:
        supervisor.order(order)
    assert [await worker.next_order() for _ in orders] == orders
    worker.report("unfit", "naïve: “no”\n")
    worker.report("ready")
    assert await supervisor.next_report() == ("unfit", "naïve: “no”\n")
    assert await supervisor.next_report() == ("ready", "")
    await worker.close()
    assert await supervisor.next_report() is None
    await supervisor.close()
    assert await worker.next_order() is None


PROGRAM = """
import asyncio, os, socket, sys
from phiproxy.net.workers import Channel, Drain, Prepare, Stop, Take

async def main():
    channel = await Channel.over(socket.socket(fileno=int(sys.argv[-1])))
    start = await channel.next_order()
    {body}
    await channel.close()

asyncio.run(main())
"""
SERVES = """
    channel.report("ready")
    while (order := await channel.next_order()) is not None and not isinstance(order, Stop | Drain):
        channel.report("prepared" if isinstance(order, Prepare) else "taken", os.environ.get("COMPLAINT", ""))
"""


class Crew:
    """A supervisor whose workers run a program of the test's."""

    def __init__(self, patch: pytest.MonkeyPatch, directory: Path, body: str, count: int = 2, **environment: str) -> None:
        # -m phiproxy.worker is what the interpreter is asked for: this one runs the program instead
        program = directory / "program.py"
        program.write_text(PROGRAM.format(body=body.strip()))
        script = directory / "python"
        script.write_text(f'#!/bin/sh\nexec {PYTHON} {program} "$@"\n')
        script.chmod(0o755)
        patch.setattr(sys, "executable", str(script))
        self.gone: list[int] = []
        self.supervisor = Supervisor(
            CONFIGURATION,
            count,
            sockets=[],
            slots=os.open(os.devnull, os.O_RDONLY),
            environment=environment,
            gone=lambda index, _pid: self.gone.append(index),
        )

    def kill(self, index: int) -> None:
        """Kill -9 of the worker in a place."""
        os.kill(self.supervisor._workers[index].process.pid, signal.SIGKILL)


async def test_a_worker_that_dies_is_replaced_and_one_that_keeps_dying_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waits: list[float] = []
    real_sleep, own = asyncio.sleep, asyncio.get_running_loop()
    monkeypatch.setattr(module, "SETTLED", 600.0)  # however long they take to start
    crew = Crew(monkeypatch, tmp_path, SERVES)
    await crew.supervisor.start()
    assert crew.supervisor.serving == 2

    async def noted(seconds: float) -> None:
        if asyncio.get_running_loop() is not own:  # an engine of other tests sleeps in a thread of its own
            await real_sleep(seconds)
            return
        if seconds >= module.FIRST_WAIT:
            waits.append(seconds)
        await real_sleep(min(seconds, 0.01))

    monkeypatch.setattr(asyncio, "sleep", noted)
    for time in range(4):
        crew.kill(0)
        await until(lambda: len(crew.gone) == time + 1 and crew.supervisor.serving == 2, "the dead one is not replaced")  # noqa: B023
    assert crew.gone == [0] * 4
    assert waits == [0.1, 0.2, 0.4, 0.8]
    monkeypatch.setattr(module, "SETTLED", 0.0)
    crew.kill(0)
    await until(lambda: len(crew.gone) == 5 and crew.supervisor.serving == 2, "the dead one is not replaced")
    assert waits[-1] == 0.1, "one that had served for long is replaced at once"
    await crew.supervisor.stop()
    assert crew.supervisor.serving == 0
    assert sorted(crew.gone) == [0] * 6 + [1]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [('channel.report("failed", "the policy does not fit")', "the policy does not fit"), ("sys.exit(3)", "ended with status 3")],
)
async def test_workers_that_cannot_serve_are_one_complaint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, complaint: str
) -> None:
    crew = Crew(monkeypatch, tmp_path, body)
    with pytest.raises(ConfigError, match=complaint):
        await crew.supervisor.start()
    assert crew.gone.count(0) == crew.gone.count(1) == 1


async def test_a_configuration_is_taken_by_all_or_by_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = Configuration(CONFIGURATION.settings, ())
    crew = Crew(monkeypatch, tmp_path, SERVES, COMPLAINT="it does not fit")
    await crew.supervisor.start()
    assert await crew.supervisor.reload(other) == ["it does not fit"]
    assert crew.supervisor.configuration is CONFIGURATION
    await crew.supervisor.stop()
    crew = Crew(monkeypatch, tmp_path, SERVES)
    await crew.supervisor.start()
    assert await crew.supervisor.reload(other) == []
    assert crew.supervisor.configuration is other
    assert crew.gone == []
    crew.supervisor._workers[1].configuration = CONFIGURATION  # as one that was started while the others were asked
    crew.supervisor._replace_outdated()
    await until(lambda: crew.gone == [1] and crew.supervisor.serving == 2, "the outdated one is not replaced")
    await crew.supervisor.drain(5)


async def test_a_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "GRACE", 0.2)
    crew = Crew(monkeypatch, tmp_path, 'channel.report("ready")\n    await asyncio.sleep(600)', count=1)
    await crew.supervisor.start()
    await crew.supervisor.drain(0.1)
    assert crew.gone == [0]
