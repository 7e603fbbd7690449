"""ON CONFLICT DO UPDATE to what is computed of the row, with proposed values that are computed: these are computed before.

So which rows are in conflict is asked by tags of computed values, and nothing is computed twice where it is executed again.
"""

from __future__ import annotations

from functools import partial

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.split.writes.assigned_values import Written
from phiproxy.sql.split.writes.computed_values import computed_values
from phiproxy.sql.split.writes.conflict_target import computed_of_row
from phiproxy.sql.split.writes.conflicts import computed_conflicts
from phiproxy.sql.split.writes.split_again import of_write, split_again
from phiproxy.sql.text.token_spans import Spans


def computed_proposals(a: Analysis, spans: Spans, write: Written, refusal: StatementRefused | ValueRefused) -> Split:
    """Split an INSERT … VALUES of computed values whose ON CONFLICT DO UPDATE computes of the row; Impossible for any other.

    INSERT INTO members AS m (mrn, note) VALUES (lower($1), $2) ON CONFLICT (mrn) DO UPDATE SET email = m.email || 'x'
    → rest: SELECT CAST(q.q1 AS varchar) FROM (SELECT lower($1)) AS q (q1)
    → write: INSERT INTO members AS m (mrn, note) VALUES ($1, $2) ON CONFLICT (mrn) DO UPDATE SET email = m.email || 'x'
    """
    computed_of_row(write)
    return computed_values(a, spans, write, refusal, partial(split_again, of_write(computed_conflicts), refusal))
