"""What a session needs from outside before it can go on with a message: among it work that takes longer than others may wait."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from phiproxy.errors import AnnouncementNeeded, CatalogNeeded, KeyNeeded, KeyWant
from phiproxy.plan.convert_values import Steps
from phiproxy.plan.split_plan import Computed


class Describe(NamedTuple):
    """Have the engine say what a rest needs and gives: ParameterDescription, then RowDescription."""

    rest: Computed
    settings: Mapping[str, str]


class Enter(NamedTuple):
    """Have a session of the engine for a rest; ``narrowing``: what the client could add where too many rows are opened."""

    rest: Computed
    narrowing: str


@dataclass(slots=True, eq=False, repr=False)
class Work:
    """One piece of work: ``apart`` is for another thread, ``steps`` to be taken one after the other on the loop.

    ``engine`` is what is asked of the engine: the outcome is what it says, or of Enter whatever stands for the computation.
    Where it is ``refusable`` the message that it is done for can be refused instead. ``key`` tells what is asked for.
    """

    key: tuple[object, ...]
    apart: Callable[[], object] | None = field(default=None, kw_only=True)
    steps: Callable[[], Steps[object]] | None = field(default=None, kw_only=True)
    engine: Describe | Enter | None = field(default=None, kw_only=True)
    refusable: bool = field(default=True, kw_only=True)
    _result: object = field(default=None, init=False)
    _error: Exception | None = field(default=None, init=False)

    def __repr__(self) -> str:
        return f"<Work: {self.key[0]}>"

    def done(self, result: object) -> None:
        """Take what it has come to."""
        self._result = result

    def failed(self, error: Exception) -> None:
        """Take what it has raised."""
        self._error = error

    @property
    def result(self) -> object:
        """What it has come to; None where it is not done, or has raised something."""
        return self._result

    def outcome(self) -> object:
        """Return what it has come to, or raise what it has raised; an error is given once, and not kept.

        It knows the frames that it came through, and these know this work and its data: only the collector would end such a circle.
        """
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error
        return self._result


class WorkNeeded(Exception):
    """Something takes longer than other sessions may wait: do ``work``, and take the same frame again."""

    def __init__(self, work: Work) -> None:
        super().__init__("work must be done")
        self.work = work


class NeedKeys(NamedTuple):
    """Fetch these, then ``resume``."""

    wants: frozenset[KeyWant]


class NeedCatalog(NamedTuple):
    """Read the catalogue afresh, then ``resume``; ``changed``: only where it is another than was read last.

    ``names``: with the relations and indexes of these names.
    """

    changed: bool = False
    names: frozenset[str] = frozenset()


class NeedRelease(NamedTuple):
    """Wait until tables were switched, or are not after all, then ``resume``."""


class NeedAnnouncement(NamedTuple):
    """Let all live proxies hear of these names, then ``resume``."""

    names: frozenset[str]


class NeedWork(NamedTuple):
    """Do this, and then ``resume``."""

    work: Work


class Results(NamedTuple):
    """Have a rest computed: the values of its parameters, in these formats, and its results, with a ``limit`` so many of them.

    ``seconds`` is statement_timeout; ``described``: the client knows the notices of its parser. Of a computation that was suspended
    only the limit is looked at; ``text`` is another statement in its transaction, in ``portal``, empty to go on with that.
    """

    values: Sequence[bytes | None]
    formats: Sequence[int]
    result_formats: Sequence[int]
    limit: int = 0
    seconds: float = 0.0
    suspended: bool = False
    text: bytes = b""
    portal: bytes | None = None
    described: bool = False


class NeedEngine(NamedTuple):
    """Give a computation rows of its source; where these were all, have its ``results``, each piece for ``computed``. ``resume``.

    ``settings``: those of the session, before the first rows are given. ``enter``: there is no computation yet, so begin one.
    """

    computation: object
    settings: Mapping[str, str] | None
    rows: Sequence[bytes]
    results: Results | None
    enter: Enter | None = None


Need = NeedKeys | NeedCatalog | NeedRelease | NeedAnnouncement | NeedWork | NeedEngine


def need_of(needed: KeyNeeded | CatalogNeeded | AnnouncementNeeded | WorkNeeded) -> Need:
    """Return what to do for an exception that a handler has raised."""
    if isinstance(needed, KeyNeeded):
        return NeedKeys(needed.wants)
    if isinstance(needed, WorkNeeded):
        return NeedWork(needed.work)
    return NeedCatalog(needed.changed, needed.names) if isinstance(needed, CatalogNeeded) else NeedAnnouncement(needed.names)
