"""An application at work on two databases that hold the same: whatever it does in one it does in the other, and compares.

It says when it begins, and works until a line comes on its standard input, or the input's end, and ``AFTER`` steps more: of what is
then. It says then as JSON, in a line, how often it did what since it was last asked, what differed or failed, and how long a step
through the first database took at longest; after a line it rests until the next one.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

Step = Callable[[Any, int, random.Random], object]
"""Takes a database, the number of a person, and what is chosen at random; returns what is to be the same in both."""

MOST_TOLD = 20
AFTER = 6


def work(databases: tuple[Any, Any], steps: Mapping[str, Step], persons: int, seed: int, pause: float = 0.0) -> None:
    """Do steps for persons chosen at random, with seconds of ``pause`` between them."""
    asked: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            asked.put(line)
        asked.put("")

    threading.Thread(target=listen, daemon=True).start()
    chance = random.Random(seed)
    _say("at work")
    while True:
        _say(json.dumps(_worked(databases, steps, persons, chance, pause, asked)))
        if not asked.get() or not asked.get():  # what it was asked by, and what it goes on by
            return


def _worked(
    databases: tuple[Any, Any],
    steps: Mapping[str, Step],
    persons: int,
    chance: random.Random,
    pause: float,
    asked: SimpleQueue[str],
) -> dict[str, object]:
    """Work until something is asked, and some steps more."""
    done, wrong, slowest, left = Counter[str](), list[str](), 0.0, AFTER
    while left and len(wrong) < MOST_TOLD:
        left = AFTER if asked.empty() else left - 1
        name, person, choice = chance.choice(sorted(steps)), chance.randrange(1, persons + 1), chance.random()
        began = time.monotonic()
        try:
            first = steps[name](databases[0], person, random.Random(choice))
            slowest = max(slowest, time.monotonic() - began)
            second = steps[name](databases[1], person, random.Random(choice))
        except Exception as error:  # whatever it is: no statement may fail
            wrong.append(f"{name} of {person}: {type(error).__name__}: {error}")
            continue
        if first != second:
            wrong.append(f"{name} of {person}: {first} is not {second}")
        done[name] += 1
        time.sleep(pause)
    return {"done": done, "wrong": wrong, "slowest": slowest}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
