"""Work that takes its time, beside the loop: in a thread of its own, or on the loop in slices, one piece of it after the other.

There is one such thread: with each more of them the loop would wait longer for its turn. While there is such work the collector of
garbage looks through the youngest objects only; through more of them it would take longer than others may wait.
"""

import asyncio
import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary

# Deep trees are read and compared in C, where a level takes some 200 bytes; it is reserved, and used as far as it is needed.
STACK = 64 * 1024 * 1024
# How long the thread may go on when the loop wants its turn: once for what a client says, once for the answer.
TURN = 0.0005
_NEVER = 1_000_000
# Objects that are made between two looks at the youngest: what is worked on nearly all lives on, and 20 000 take 5 ms.
_YOUNG = 4_000

_Job = tuple[Callable[[], object], "asyncio.Future[object]", asyncio.AbstractEventLoop]


class Apart:
    """The thread, which starts with the first piece of work and ends with the process, and the turns of what is done in slices."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._started = False
        self._at_work = 0
        self._thresholds = gc.get_threshold()
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def run(self, work: Callable[[], object]) -> object:
        """Return what ``work`` returns, or raise what it raises; it is not begun when this is cancelled before its turn."""
        if not self._started:
            self._start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        with self._young_only():
            self._jobs.put((work, future, loop))
            return await future

    async def take(self, steps: Generator[Callable[[], object] | None, Any, object]) -> object:
        """Take steps, of which others, and other steps, have their turns in between; return what they come to.

        What a step yields, where that is not None, is done by the thread, and its outcome sent to the next step.
        """
        given: object = None
        turn = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        with self._young_only():
            while True:
                async with turn:
                    try:
                        asked = steps.send(given)
                    except StopIteration as end:
                        return end.value
                if asked is None:
                    given = None
                    await asyncio.sleep(0)
                else:
                    given = await self.run(asked)

    @contextlib.contextmanager
    def _young_only(self) -> Iterator[None]:
        """Have the collector look through the youngest objects only until the last piece of work is done."""
        if not self._at_work:
            self._thresholds = gc.get_threshold()
            gc.set_threshold(min(self._thresholds[0], _YOUNG), _NEVER, _NEVER)
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                gc.set_threshold(*self._thresholds)

    def _start(self) -> None:
        self._started = True
        sys.setswitchinterval(TURN)
        before = threading.stack_size(STACK)
        try:
            threading.Thread(target=self._work, name="apart", daemon=True).start()
        finally:
            threading.stack_size(before)

    def _work(self) -> None:
        while True:
            _do(*self._jobs.get())


def _do(work: Callable[[], object], future: asyncio.Future[object], loop: asyncio.AbstractEventLoop) -> None:
    """Do one piece of work. Nothing of it lives on here: the thread sleeps until the next."""
    if future.cancelled():
        return
    result: object = None
    error: Exception | None = None
    try:
        result = work()
    except Exception as raised:
        error = raised
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it any longer
        loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[object], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


apart = Apart()
