"""Observes the statements over columns that are in clear yet, and counts by shape what would become of them if these were sealed.

Sessions leave texts here and go on; they are analysed by a thread, against a catalogue of its own in which the columns are
sealed, and counts go into the registry's schema, for ``phiproxy observe report``. A text is forgotten when it was analysed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
import structlog

from phiproxy.errors import PhiproxyError
from phiproxy.keys.observations import Observed, add_observed
from phiproxy.net.catalog_reader import read_catalog
from phiproxy.net.service_login import ServicePool
from phiproxy.net.tasks import spawn
from phiproxy.plan.explanation import DEFAULT_PATH
from phiproxy.plan.forecast import Forecast, forecast, forecaster
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.plan.whether_split import MAX_SHAPED_TEXT
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import as_if_sealed
from phiproxy.policy.protection import Protection
from phiproxy.sql.text.observed_text import normalised
from phiproxy.sql.text.screen import Screen
from phiproxy.sql.text.shape import shape_of

log = structlog.get_logger("phiproxy.observe")

# Texts that wait for their analysis; what comes when there are so many is counted and not analysed.
MOST_WAITING = 1000
# Of one shape so many texts are analysed one by one, and then one of so many: its constants may decide.
ANALYSED, THEN_ONE_OF = 64, 64
MOST_SHAPES = 10_000
# Seconds.
FLUSH_EVERY = 1.0


class _Text(NamedTuple):
    text: bytes
    oids: tuple[int, ...]
    path: tuple[str, ...] | None
    key: bytes


@dataclass(slots=True)
class _Shape:
    """What is known of the texts of one shape: how many were sent, and what the last one that was analysed would become."""

    sent: int = 0
    unanalysed: int = 0
    last: Observed | None = None


class Observation:
    """Of one database; all its tenants' sessions leave their texts here. Exists while some column is in clear."""

    def __init__(
        self, database: str, schema: str, pool: ServicePool, protection: Protection, catalog: Catalog, totals: Counter[str]
    ) -> None:
        # ``totals``: how often which answer was counted, for metrics.
        self._database = database
        self._schema = schema
        self._pool = pool
        self._protection = protection
        self._screen = Screen(as_if_sealed(protection, catalog)[0], catalog)
        self._planner: Planner | None = None
        self._shapes: OrderedDict[bytes, _Shape] = OrderedDict()
        self._waiting: deque[_Text] = deque()
        self._counts: Counter[Observed] = Counter()
        self._told: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._totals = totals
        self.engine: EngineFacts | None = None
        """What computes the parts of statements that are split, if anything does."""

    @property
    def labels(self) -> list[str]:
        """The columns that are in clear."""
        return list(self._protection.in_clear.values())

    def start(self) -> None:
        """Begin to analyse."""
        self._task = spawn(self._run(), "observe")

    async def stop(self) -> None:
        """End, and write what was counted."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            await self._flush()

    def adopt(self, protection: Protection, catalog: Catalog) -> None:
        """Go on with another protection, or a catalogue that has changed."""
        self._protection, self._planner = protection, None
        self._screen = Screen(as_if_sealed(protection, catalog)[0], catalog)

    def mentions(self, text: bytes) -> bool:
        """Tell whether a text may name something that is in clear, or that reaches it."""
        return self._screen.mentions(text)

    def note(self, text: bytes, oids: tuple[int, ...], path: tuple[str, ...] | None) -> None:
        """Take a text that was sent. Returns at once."""
        shape = shape_of(text) if len(text) <= MAX_SHAPED_TEXT else None
        key = shape.key if shape is not None else text
        known = self._shapes.get(key)
        if known is None:
            known = self._shapes[key] = _Shape()
            if len(self._shapes) > MOST_SHAPES:
                self._settle(self._shapes.popitem(last=False)[1])
        known.sent += 1
        wanted = known.last is None or known.sent <= ANALYSED or known.sent % THEN_ONE_OF == 0
        if wanted and len(self._waiting) < MOST_WAITING:
            self._waiting.append(_Text(text, oids, path, key))
        else:
            known.unanalysed += 1

    def _settle(self, shape: _Shape) -> None:
        """Count what was not analysed of a shape as what was analysed last."""
        if shape.last is not None and shape.unanalysed:
            self._counts[shape.last] += shape.unanalysed
            shape.unanalysed = 0

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            try:
                await self._analyse_all()
                await self._flush()
            except (psycopg.Error, TimeoutError, PhiproxyError) as error:
                self._tell_once("statements cannot be observed", type(error).__name__)

    def _tell_once(self, event: str, why: str) -> None:
        if event not in self._told:
            self._told.add(event)
            log.warning(event, database=self._database, why=why)

    async def _analyse_all(self) -> None:
        while self._waiting:
            planner = self._planner or await self._new_planner()
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), 50))]
            for text, observed in zip(batch, await asyncio.to_thread(self._all_observed, planner, batch), strict=True):
                known = self._shapes.get(text.key)
                if observed is not None:
                    self._counts[observed] += 1
                    if known is not None:
                        known.last = observed

    async def _new_planner(self) -> Planner:
        """Read the whole catalogue, with what reaches the columns in clear: sessions go by one without that."""
        protection = self._protection
        tables = {(t.schema, t.name) for t in (*protection.tables, *protection.clear)}
        async with self._pool.connection() as conn:
            catalog = await read_catalog(conn, tables, None)
        sealed, seen = await asyncio.to_thread(as_if_sealed, protection, catalog)
        planner = await asyncio.to_thread(forecaster, sealed, seen, self.engine, self._database)
        if protection is self._protection:
            self._planner, self._screen = planner, planner.screen
        return planner

    def _all_observed(self, planner: Planner, texts: list[_Text]) -> list[Observed | None]:
        return [self._observed(planner, text) for text in texts]

    def _observed(self, planner: Planner, text: _Text) -> Observed | None:
        """Analyse one text, in a thread; None where nothing is to be said of it."""
        path = text.path if text.path is not None else usual_path(planner.protection)
        try:
            foreseen = forecast(planner, text.text, text.oids, path, self._database)
        except Exception as error:
            # The statement was sent as it must be: only its forecast is lacking.
            self._tell_once("a statement cannot be analysed", type(error).__name__)
            return None
        return None if foreseen is None else observed_of(text.text, foreseen)

    async def _flush(self) -> None:
        for shape in self._shapes.values():
            self._settle(shape)
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            async with self._pool.connection() as conn:
                await add_observed(conn, self._schema, list(counts.items()))
        except (psycopg.Error, TimeoutError) as error:
            self._counts.update(counts)
            why = "run phiproxy keys init" if isinstance(error, psycopg.errors.UndefinedTable) else type(error).__name__
            self._tell_once("what was observed cannot be kept", why)
            return
        for observed, count in counts.items():
            self._totals[observed.answer] += count


def usual_path(protection: Protection) -> tuple[str, ...]:
    """Return a search path for a session whose own is not known: the usual one, and the schemas of the policy's tables."""
    schemas = (t.schema for t in (*protection.tables, *protection.clear))
    return tuple(dict.fromkeys((*DEFAULT_PATH, *schemas)))


def observed_of(text: bytes, foreseen: Forecast) -> Observed | None:
    """Return what is kept of a text: its shape without values, and what would become of it."""
    shape = normalised(text)
    if shape is None:
        return None
    indexes = tuple(f"{column}: {expression}" for column, expression in foreseen.indexes)
    return Observed(shape, foreseen.fate, foreseen.sqlstate, foreseen.reason, foreseen.hint, indexes, foreseen.columns)
