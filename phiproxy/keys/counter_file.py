"""The highest counter that was seen of a registry, in memory and in a small file that outlives the process (docs/registry.md).

The file is one for all workers and databases: ``{"phiproxy_counters": 1, "counters": {anchor: counter}}``. It is replaced as a
whole under a lock, and only ever raised. What is in it is no secret; who can change it can hide a rollback, so it is the proxy's.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from phiproxy.errors import ConfigError
from phiproxy.keys.kek_file import replace

FORMAT: Final = 1


class Watermark:
    """The highest counter seen of the registry with an anchor. Without a file it lives as long as the process.

    ``keep``: also write what is seen from now on. ``trouble`` is told once when that cannot be done.
    """

    def __init__(self, anchor: str, path: Path | None = None, *, keep: bool = False) -> None:
        self.counter = 0
        self.trouble: Callable[[OSError], None] = lambda _error: None
        self._anchor = anchor
        self._path = path
        self.keep = keep
        self._failing = False

    async def read(self) -> None:
        """Take over what the file says; ConfigError when it is not one of these files."""
        if self._path is not None:
            self.counter = max(self.counter, (await asyncio.to_thread(_read, self._path)).get(self._anchor, 0))

    async def raise_to(self, counter: int) -> None:
        """Remember that the registry was seen with this counter; a lower one changes nothing."""
        if counter <= self.counter:
            return
        self.counter = counter
        if self._path is None or not self.keep:
            return
        try:
            await asyncio.to_thread(_raise, self._path, self._anchor, counter)
            self._failing = False
        except OSError as error:
            if not self._failing:
                self.trouble(error)
            self._failing = True


def _read(path: Path) -> dict[str, int]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        data = None
    counters = data.get("counters") if isinstance(data, dict) and data.get("phiproxy_counters") == FORMAT else None
    if not isinstance(counters, dict) or not all(isinstance(c, int) for c in counters.values()):
        raise ConfigError(
            f"{path}: not a file of registry counters",
            hint="it is written by phiproxy serve alone; without it, a rollback of the registry while no proxy ran is not noticed",
        )
    return counters


def _raise(path: Path, anchor: str, counter: int) -> None:
    """Write a counter unless the file has a higher one: of many processes that do, the highest stays."""
    with open(path.with_name(path.name + ".lock"), "a", opener=partial(os.open, mode=0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        counters = _read(path)
        if counters.get(anchor, 0) >= counter:
            return
        text = json.dumps({"phiproxy_counters": FORMAT, "counters": {**counters, anchor: counter}}, indent=2) + "\n"
        replace(path, text.encode())
