"""What would become of a statement if all columns of the policy were sealed: asked of an analysis, nothing is sent.

The planner is one ``as_if_sealed``. A statement ``works``; or it is ``split``: the proxy computes a part of it, where the planner
knows of an engine; or it would be ``refused``, with the reason and hint that its client would get then.
"""

import re
from dataclasses import dataclass
from typing import Literal

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
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.whether_split import HasSplit
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
