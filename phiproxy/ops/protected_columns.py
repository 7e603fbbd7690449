"""What is protected, column by column: its state, its indexes, and what their tags tell a thief of the database, as numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import psycopg

from phiproxy.ops.leakage import Leakage, measure
from phiproxy.policy.bind import bind
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import column_states
from phiproxy.policy.model import Policy
from phiproxy.policy.protection import answering_slots
from phiproxy.policy.registry_layout import Layout
from phiproxy.types.names import sql_name


@dataclass(frozen=True, slots=True)
class ProtectedIndex:
    """One index of a protected column, or a column without one: ``index`` is empty then.

    ``values`` have a tag, of which ``distinct`` differ; the most frequent one is that of the part ``share`` of the values. They are
    None where that is not measured. ``problem`` says why that is too much, ``accepted`` who accepts it.
    """

    column: str
    type: str
    state: str
    index: str = ""
    values: int | None = None
    distinct: int | None = None
    share: float | None = None
    problem: str = ""
    accepted: str = ""


async def protected_columns(
    conn: psycopg.AsyncConnection[Any], policy: Policy, layout: Layout, catalog: Catalog, registry_schema: str
) -> list[ProtectedIndex]:
    """Return every protected column, and each field of a document, with its indexes; ConfigError, psycopg.Error.

    Tags are counted: it reads the tables.
    """
    protection, states = bind(policy, layout, catalog, registry_schema), column_states(policy, layout, catalog)
    rows: list[ProtectedIndex] = []
    for wanted in policy.columns_and_fields():
        table = protection.by_name.get((wanted.schema, wanted.table))
        document = table.columns.get(wanted.name) if table is not None else None
        known = document.with_fields if document is not None else ()
        column = next((each for each in known if each.path == wanted.listed_as[3]), None)
        state, type_ = states[wanted.registered_name], sql_name(wanted.type)
        sealed = column if state in ("sealed", "leaving") else None
        slots = answering_slots(sealed.slots, wanted.expressions) if sealed is not None else {}
        if not slots:
            rows.append(ProtectedIndex(wanted.label, type_, state))
        for expression, slot in slots.items():
            assert column is not None
            measured = await measure(conn, column, [slot.number])
            leak = Leakage.of(wanted, expression, measured)
            row = ProtectedIndex(wanted.label, type_, state, leak.shown, problem=leak.problem or "", accepted=leak.accepted or "")
            if measured is not None:
                row = replace(row, values=measured.values, distinct=measured.distinct, share=measured.share)
            rows.append(row)
    return rows
