"""An application at work on two databases that hold the same: whatever it does in one it does in the other, and compares.

It says when it begins, works until its standard input ends, and says then as JSON how often it did what, what differed or failed,
and how long a step through the first database took at longest.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

Step = Callable[[Any, int, random.Random], object]
"""Takes a database, the number of a person, and what is chosen at random; returns what is to be the same in both."""

MOST_TOLD = 20


def work(databases: tuple[Any, Any], steps: Mapping[str, Step], persons: int, seed: int) -> None:
    """Do steps for persons chosen at random."""
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    chance, done, wrong, slowest = random.Random(seed), Counter[str](), list[str](), 0.0
    sys.stdout.write("at work\n")
    sys.stdout.flush()
    while not ended.is_set() and len(wrong) < MOST_TOLD:
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
    json.dump({"done": done, "wrong": wrong, "slowest": slowest}, sys.stdout)
