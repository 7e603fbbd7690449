"""Of several parameters that are no values of their types PostgreSQL tells the first: the server is asked about those before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.plan.compiled_convert import Formed
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.value_formats import Reader, input_reader
from phiproxy.sql.result import BoundPair
from phiproxy.sql.values.uses import Plain, Search, Store
from phiproxy.types.styles import Styles
from phiproxy.wire.fields import Bind

# No format code of any parameter: 22023, which the server says when it comes to that one (postgres.c, exec_bind_message).
NO_FORMAT = 2


def first_refused(
    plan: StatementPlan, values: Sequence[bytes | None], formats: Sequence[int], styles: Styles
) -> tuple[int, ValueRefused] | None:
    """Return the first parameter, from 0, that is read here and is no value of its type, and what is said of it; None without.

    What comes behind reading is not looked at (a text that is too long): PostgreSQL does that when it has read all of them.
    """
    for n, read in sorted(_readers(plan), key=lambda one: one[0]):
        value = values[n]
        if value is not None:
            try:
                read(value, formats[n], styles)
            except ValueRefused as refused:
                if refused.sqlstate != StatementRefused.sqlstate:
                    return n, refused
    return None


def before_refused(plan: StatementPlan, sent: Bind, formed: Formed, first: int | None) -> Bind | None:
    """Return what has the server read the parameters before the ``first`` that is refused, and fail at that one; None for none.

    Without a ``first`` it reads all of them, and does not fail. What is sealed or tagged is NULL.
    """
    before = range(len(plan.outputs) if first is None else first)
    plain = {i for i in before if isinstance(plan.outputs[i][0], Plain) and plan.outputs[i][2] is None}
    if not plain:
        return None
    values = [sent.values[n] if i in plain else None for i, (_, n, _) in enumerate(plan.outputs)]
    formats = list(formed.server_parameters)
    if first is not None:
        formats[first] = NO_FORMAT
    return Bind(sent.portal, sent.statement, tuple(formats), values, formed.server_results)


def _readers(plan: StatementPlan) -> Iterator[tuple[int, Reader]]:
    """Yield the parameters that are read here, from 0, each with what reads it."""
    for use, n, source in plan.outputs:
        if isinstance(source, BoundPair):
            yield from ((bound.number, input_reader(bound.use)) for bound in (source.lower, source.upper) if bound.number >= 0)
        elif source is None and isinstance(use, Store | Search):
            yield n, input_reader(use)
