"""How a job shows what it does: a bar on a terminal, else a line now and then; with ``--json`` a line of JSON."""

import json
import sys
import time
from types import TracebackType
from typing import Any, Final, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_EVERY: Final = 10.0
JSON_EVERY: Final = 1.0


class Display(Protocol):
    """What a job tells while it runs."""

    def phase(self, text: str, total: int) -> None:
        """Say what begins, of so many rows (0: not known)."""

    def advance(self, rows: int) -> None:
        """Say that so many rows more were gone through."""

    def waits(self, why: str) -> None:
        """Say what the job waits for; "" when it goes on."""


class Bar:
    """A bar with rows per second and the time that is left, on standard error; ``with Bar() as bar:``."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(), TextColumn("{task.fields[why]}"), console=Console(stderr=True),
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None, pace="", why="", visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def phase(self, text: str, total: int) -> None:
        """See ``Display``."""
        self._progress.reset(self._task, description=text, total=total or None, visible=True, pace="", why="")

    def advance(self, rows: int) -> None:
        """See ``Display``."""
        self._progress.advance(self._task, rows)
        speed = self._progress.tasks[0].speed
        self._progress.update(self._task, pace="" if speed is None else f"{speed:,.0f} rows/s")

    def waits(self, why: str) -> None:
        """See ``Display``."""
        self._progress.update(self._task, why=f"waits: {why}" if why else "")


class Lines:
    """Lines on standard error, or of JSON on standard output: each phase, each wait, and how far it is now and then."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._every = JSON_EVERY if as_json else LINE_EVERY
        self._text, self._total, self._rows = "", 0, 0
        self._began = self._said = time.monotonic()
        self._waiting_said = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None and self._rows:
            self._say()

    def phase(self, text: str, total: int) -> None:
        """See ``Display``."""
        if self._rows:
            self._say()
        self._text, self._total, self._rows = text, total, 0
        self._began = self._said = time.monotonic()
        self._write({"phase": text, "total": total}, text)

    def advance(self, rows: int) -> None:
        """See ``Display``."""
        self._rows += rows
        if time.monotonic() - self._said >= self._every:
            self._say()

    def waits(self, why: str) -> None:
        """See ``Display``. Of what it waits for longer it is said now and then."""
        if why and time.monotonic() - self._waiting_said < self._every:
            return
        self._waiting_said = time.monotonic() if why else float("-inf")
        self._write({"phase": self._text, "waits": why}, f"{self._text}: waits: {why}" if why else f"{self._text}: goes on")

    def _say(self) -> None:
        self._said = time.monotonic()
        pace = self._rows / max(self._said - self._began, 0.001)
        left = max(self._total - self._rows, 0) / pace if pace else 0.0
        report = {
            "phase": self._text,
            "rows": self._rows,
            "total": self._total,
            "rows_per_s": round(pace),
            "seconds_left": round(left),
        }
        of = f" of about {self._total}" if self._total else ""
        self._write(report, f"{self._text}: {self._rows}{of} rows, {pace:,.0f} rows/s")

    def _write(self, report: dict[str, Any], text: str) -> None:
        if self._json:
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()
        else:
            sys.stderr.write(f"phiproxy: {text}\n")


def display(*, as_json: bool) -> Bar | Lines:
    """Return what fits standard error; ``as_json``: lines of JSON on standard output."""
    if as_json:
        return Lines(as_json=True)
    return Bar() if sys.stderr.isatty() else Lines(as_json=False)
