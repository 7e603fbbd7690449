"""What would become of a statement if all columns of the policy were sealed: asked of an analysis, nothing is sent.

The planner is a ``forecaster``. A statement ``works``; or it is ``split``: the proxy computes a part of it, where the planner
knows of an engine; or it would be ``refused``, with the reason and hint that its client would get then.
"""

import re
from dataclasses import dataclass
from typing import Literal

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import (
    CatalogNeeded,
    KeyNeeded,
    PathNeeded,
    PhiproxyError,
    SyntaxRefused,
    UndefinedColumn,
    UndefinedObject,
    UndefinedTable,
)
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.converted_views import computing, with_view
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Analysed, Planner
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.stored_query import PATH, StoredQuery
from phiproxy.plan.whether_split import HasSplit
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import Protection
from phiproxy.sql.result import Answered
from phiproxy.sql.values.uses import Search
from phiproxy.types.styles import Styles

Fate = Literal["works", "split", "refused"]

_ADD = re.compile(r"Add (`.+`) to the indexes of (\S+) in the policy")
_BY_VALUE = "It depends on the value that is given: some patterns and ranges are refused when it is bound."
_SPLIT_BY_VALUE = "It depends on the value that is given: for some patterns and ranges it is split when it is bound."


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would become of a statement. ``indexes`` are (column, expression) that would make a refused one work, any of them.

    ``columns`` are those that the answer reads, searches or writes, as far as it is known; of a refused statement none.
    """

    fate: Fate
    sqlstate: str = ""
    reason: str = ""
    hint: str = ""
    indexes: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()


def forecast(planner: Planner, text: bytes, oids: tuple[int, ...], path: tuple[str, ...], database: str) -> Forecast | None:
    """Return what would become of a text; None where it names nothing protected, or fails today as it would then.

    ``path`` is the search path, ``oids`` are the types that Parse declares. Raises CatalogNeeded where the planner's catalogue does
    not have a relation that the text names.
    """
    if not planner.screen.mentions(text):
        return None
    view = View(path, database, catalog_fresh=True)
    try:
        answers = planner.answers(text, view)
        if not any(answer.touches for answer in answers):
            return None
        if len(answers) == 1 and answers[0].takes_parameters and not answers[0].definition:
            plan = planner.analysed(text, oids, view)
            if isinstance(plan, StatementPlan):
                plan.check_literals(Styles.CANONICAL)
    except HasSplit:
        return Forecast("split")
    except (SyntaxRefused, UndefinedTable, UndefinedColumn, UndefinedObject):
        return None
    except (CatalogNeeded, PathNeeded, KeyNeeded):
        raise
    except PhiproxyError as refusal:
        hint = refusal.hint or ""
        return Forecast("refused", refusal.sqlstate, refusal.message, hint, missing_indexes(hint))
    is_split = planner.splitting.engine is not None and all(answer.kind == "select" for answer in answers)
    hint = (_SPLIT_BY_VALUE if is_split else _BY_VALUE) if any(_by_value(answer) for answer in answers) else ""
    return Forecast("works", hint=hint, columns=tuple(sorted({label for answer in answers for label in _columns(answer)})))


def forecaster(protection: Protection, catalog: Catalog, engine: EngineFacts | None, database: str) -> Planner:
    """Return the planner to ask, of what is ``as_if_sealed``: its views are what ``encrypt`` will have made of them.

    Those that it could not convert stay as they are. It takes its time where there are many.
    """
    ciphers = Ciphers(Keyring(lambda: 0.0))
    planner = Planner(protection, catalog, ciphers, engine)
    left = [_stored(relation, catalog.views[relation.oid]) for relation in catalog.relations if relation.oid in catalog.views]
    while left:  # again where others could not be before, which are over these
        converted = [(stored, made) for stored in left if (made := _converted(planner, stored, database)) is not None]
        left = [stored for stored in left if all(stored is not done for done, _ in converted)]
        for stored, (analysed, text) in converted:
            catalog = with_view(catalog, ciphers, stored, analysed, text)
        if not converted:
            break
        planner = Planner(protection, catalog, ciphers, engine)
    return planner


def _stored(relation: Relation, query: str) -> StoredQuery:
    kind = "MATERIALIZED VIEW" if relation.kind == "m" else "VIEW"
    create = f"CREATE {kind} {quote_ident(relation.schema)}.{quote_ident(relation.name)}"
    return StoredQuery(relation.oid, create, tuple(c.name for c in relation.columns), "", query.strip().removesuffix(";"), "")


def _converted(planner: Planner, stored: StoredQuery, database: str) -> tuple[Analysed, str] | None:
    """Return what CREATE VIEW becomes, and its text; None where it is refused."""
    try:
        analysed = planner.analysed(stored.statement().encode(), (), View(PATH, database, catalog_fresh=True))
    except (PhiproxyError, CatalogNeeded):
        return None
    return analysed, analysed.sql.decode() if isinstance(analysed, StatementPlan) else computing(analysed).as_if_sealed()


def missing_indexes(hint: str) -> tuple[tuple[str, str], ...]:
    """Return (column, expression) of the indexes that a hint says to add; any one of them would do.

    ``Add `lower(name)` to the indexes of public.t.name in the policy, …`` gives ``(("public.t.name", "lower(name)"),)``.
    """
    match = _ADD.search(hint)
    return () if match is None else tuple((match[2], part) for part in re.findall(r"`([^`]+)`", match[1]))


def _by_value(answer: Answered) -> bool:
    uses = [o.use for o in answer.occurrences if o.number or o.formula is not None]
    return any(isinstance(use, Search) and (use.chosen is not None or use.range is not None) for use in uses)


def _columns(answer: Answered) -> set[str]:
    used = [getattr(occurrence.use, "column", None) for occurrence in answer.occurrences]
    shown = [*(answer.outputs or ()), *(answer.copy.reveals if answer.copy is not None else ())]
    columns = [*used, *(reveal.column for reveal in shown if reveal is not None)]
    return {(column.base or column).label for column in columns if column is not None}
