"""Work beside the loop: the loop goes on meanwhile, and what is in slices takes turns. By the order of events, not by a clock."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial

import pytest

from phiproxy.net.offload import Apart


async def test_the_loop_goes_on_while_something_is_worked_on() -> None:
    apart, allowed = Apart(), threading.Event()

    def work() -> str:
        assert allowed.wait(240)
        return threading.current_thread().name

    running = asyncio.create_task(apart.run(work))
    await asyncio.sleep(0)
    assert not running.done()
    allowed.set()  # by the loop, which a call that blocks it could not do
    assert await running == "apart"


async def test_one_piece_of_work_after_the_other_and_errors_are_raised() -> None:
    apart, order = Apart(), list[int]()

    def work(number: int) -> None:
        order.append(number)
        if number == 1:
            raise KeyError("of the work")

    first, second, third = (asyncio.create_task(apart.run(partial(work, n))) for n in range(3))
    await first
    with pytest.raises(KeyError, match="of the work"):
        await second
    await third
    assert order == [0, 1, 2]


async def test_what_is_cancelled_before_its_turn_is_not_begun() -> None:
    apart, begun, allowed, order = Apart(), threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        begun.set()
        assert allowed.wait(240)

    running = asyncio.create_task(apart.run(first))
    await asyncio.to_thread(begun.wait, 60)
    never = asyncio.create_task(apart.run(lambda: order.append("never")))
    await asyncio.sleep(0)
    never.cancel()
    with suppress(asyncio.CancelledError):
        await never
    allowed.set()
    await running
    await apart.run(lambda: order.append("next"))
    assert order == ["next"]


async def test_the_collector_looks_at_the_youngest_objects_only_while_something_is_worked_on() -> None:
    before = gc.get_threshold()
    during = await Apart().run(gc.get_threshold)
    assert isinstance(during, tuple)
    assert during[0] <= before[0]
    assert min(during[1:]) > 100 * max(before[1:])
    assert gc.get_threshold() == before


async def test_steps_take_turns_with_others_and_with_each_other() -> None:
    apart, order = Apart(), list[str]()

    def steps(name: str) -> Generator[None, None, str]:
        for number in range(3):
            order.append(f"{name}{number}")
            yield
        return name

    async def others() -> None:
        for _ in range(4):
            order.append("-")
            await asyncio.sleep(0)

    first, second, _ = await asyncio.gather(apart.take(steps("a")), apart.take(steps("b")), others())
    assert (first, second) == ("a", "b")
    assert [x for x in order if x != "-"] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    joined = "".join(order)
    assert "-" in joined[joined.index("a0") : joined.index("a2")], joined


async def test_the_loop_goes_on_while_the_thread_does_what_a_step_asks_for() -> None:
    apart, allowed = Apart(), threading.Event()

    def work() -> str:
        assert allowed.wait(240)
        return threading.current_thread().name

    def asks() -> Generator[Callable[[], object] | None, object, object]:
        yield None
        name = yield work
        nothing = yield None
        return name, nothing

    def others() -> Generator[None, None, str]:
        yield
        return "others"

    running = asyncio.create_task(apart.take(asks()))
    assert await apart.take(others()) == "others"
    assert not running.done()
    allowed.set()
    assert await running == ("apart", None)


async def test_an_error_of_a_step_gives_the_turn_back() -> None:
    apart = Apart()

    def fails() -> Generator[None, None, None]:
        yield
        raise KeyError("of a step")

    def works() -> Generator[None, None, int]:
        yield
        return 7

    with pytest.raises(KeyError, match="of a step"):
        await apart.take(fails())
    assert await apart.take(works()) == 7


def test_deep_work_has_the_stack_that_it_takes() -> None:
    """As many levels as the recursion limit allows, compared in C: what the loop's own thread can."""

    def deep() -> bool:
        trees = []
        for _ in range(2):
            tree: list[object] = []
            for _ in range(40_000):
                tree = [tree]
            trees.append(tree)
        return trees[0] == trees[1]

    async def run() -> object:
        return await Apart().run(deep)

    import phiproxy.sql.text.parse  # noqa: F401, PLC0415 - it sets the limit

    assert asyncio.run(run()) is True
