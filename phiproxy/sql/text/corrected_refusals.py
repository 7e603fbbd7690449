"""Refusals that get their position from where the analysis is: a block that says so costs nothing as long as nothing is refused."""

from collections.abc import Callable
from types import TracebackType

from phiproxy.errors import StatementRefused


class Corrected:
    """A ``with`` block: ``correct`` is called with a StatementRefused that leaves it, and may give it a position."""

    __slots__ = ("_correct",)

    def __init__(self, correct: Callable[[StatementRefused], None]) -> None:
        self._correct = correct

    def __enter__(self) -> None:
        """Nothing was refused yet."""

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        """Correct a refusal; it goes on."""
        if isinstance(error, StatementRefused):
            self._correct(error)
