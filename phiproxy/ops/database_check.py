"""Is the database as the policy needs it? Findings, none of which holds a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import psycopg

from phiproxy.documents.field_paths import spell_path
from phiproxy.errors import ConfigError
from phiproxy.index.collations import Collation
from phiproxy.ops.boundary_check import boundary_texts
from phiproxy.ops.ddl_documents import missing_indexes
from phiproxy.ops.leakage import Leakage, measure
from phiproxy.ops.physical_tables import Physical, has_guard, is_tag_index, missing_tags, read_physical
from phiproxy.ops.stored_values import Counted, lacking_tag, unfinished
from phiproxy.policy.bind import bind, planned
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import ColumnState, column_states
from phiproxy.policy.inheritance import inherited_columns, with_descendants
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.physical_columns import hidden_name
from phiproxy.policy.plaintext_guards import guard_name
from phiproxy.policy.protection import ColumnName, ProtectedColumn, Protection, Slot, answering_slots
from phiproxy.policy.registry_layout import Layout

Level = Literal["ok", "note", "warning", "error"]

_DDL = "run `phiproxy ddl`"
_COPIES = (
    "a value that the server copies, and a constant that one statement puts into several rows, are the same envelope in each of"
    " them: that they are equal shows without an index"
)
_ENVELOPES = (
    "of protected values it holds envelopes and tags only, but what an application sends to other columns, and what goes"
    " past the proxy, stands there as it is"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. Only ``error`` makes ``check`` fail."""

    level: Level
    topic: str
    text: str


async def check_database(
    conn: psycopg.AsyncConnection[Any],
    policy: Policy,
    layout: Layout,
    catalog: Catalog,
    registry_schema: str,
    collation: Collation | None = None,
) -> list[Finding]:
    """Compare one database with its policy: binding, guards, indexes, leakage, server settings. Raises psycopg.Error.

    ``collation`` is what the server makes of characters now.
    """
    settings = await _server_settings(conn)
    try:
        protection = bind(policy, layout, catalog, registry_schema)
    except ConfigError as error:
        return [Finding("error", "policy", line) for line in error.message.split("\n")] + settings
    later = {(c.schema, c.table, c.name) for c in planned(policy, layout, catalog)}
    later |= layout.distrusted  # of which what is said of the registry speaks
    states = column_states(policy, layout, catalog)
    later |= {name for name, state in states.items() if state in ("clear", "filling")}
    columns = [c.without(later) for c in policy.columns() if c.registered_name not in later]
    documents = sum(bool(c.fields) for c in columns)
    sealed = f"{len(columns) - documents} protected columns are registered and bytea"
    more = f", {documents} with sealed fields are jsonb" if documents else ""
    findings = [Finding("ok", "policy", sealed + more)]
    findings += [
        Finding("warning", "policy", f"{c.at}: {c.label} does not exist: a migration through the proxy must make it (or a typo?)")
        for c in planned(policy, layout, catalog)
    ]
    findings += [Finding("warning", "state", text) for text in state_texts(states)]
    if policy.tenant is not None:
        text = "uniqueness, joins and comparisons are per tenant: equal values of two have different tags (unique per tenant)"
        findings.append(Finding("note", "tenant", text))
    everywhere = [*columns, *inherited_columns(columns, catalog)]
    physical = await read_physical(conn, [(c.schema, c.table) for c in everywhere])
    findings += _on_disk(everywhere, with_descendants(protection, catalog), physical, catalog)
    findings += [Finding(level, "boundary", text) for level, text in boundary_texts(policy, protection, catalog)]
    findings += await _waiting(conn, columns, protection, layout, catalog)
    findings += await _barriers(conn, catalog)
    findings += _characters(collation, protection, layout) if collation is not None else []
    if columns:
        findings.append(Finding("note", "leakage", _COPIES))
    findings += _shared([each for column in columns for each in column.with_fields()])
    for column in columns:
        findings += _clear_parts(column)
        for each in column.fields or (column,):
            findings += await _leakage(conn, each, protection.of_listed(*each.listed_as))
    return findings + settings


def _clear_parts(column: PolicyColumn) -> list[Finding]:
    """Say what of a document with sealed fields is in clear."""
    if not column.fields:
        return []
    others = "each other scalar is sealed, but at or below: " + (", ".join(map(spell_path, column.clear)) or "nothing")
    text = others if column.others_sealed else "all but its fields is in clear"
    return [Finding("note", "document", f"{column.label}: {text}; its keys are in clear, and which fields a row has")]


_STATES = {
    "clear": "is in clear: statements over it are observed, not protected (`phiproxy observe report`); `phiproxy encrypt` seals it",
    "filling": "is in clear, and is being sealed: statements over it are observed, not protected (`phiproxy observe report`)",
    "leaving": "is being opened again for good",
}


def state_texts(states: Mapping[ColumnName, ColumnState]) -> list[str]:
    """Say of each column that is not as the policy wants it at last in which state it is."""
    return [f"{'.'.join(name)} {_STATES[state]}" for name, state in states.items() if state in _STATES]


_BARRIERS = """
SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (%s) AND EXISTS (SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) o
                                     WHERE o.option_name = 'security_barrier' AND o.option_value::bool) ORDER BY 1
"""


async def _barriers(conn: psycopg.AsyncConnection[Any], catalog: Catalog) -> list[Finding]:
    """Warn of views that what is not leakproof is not searched behind: the tags of their columns."""
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(_BARRIERS, (list(catalog.views),))
        names = [name for (name,) in await cursor.fetchall()]
    text = "is a security_barrier view over protected columns: a search in it reads all of its rows, since tags are computed there"
    return [Finding("warning", "view", f"{name} {text}") for name in names]


def _on_disk(columns: list[PolicyColumn], protection: Protection, physical: Physical, catalog: Catalog) -> list[Finding]:
    findings = []
    for wanted in columns:
        column = protection.by_name[wanted.schema, wanted.table].columns[wanted.name]
        table = physical[wanted.schema, wanted.table]
        if not has_guard(table, column):
            text = f"{wanted.at}: {wanted.label} has no valid guard {guard_name(wanted.name)}, so plaintext could be stored: {_DDL}"
            findings.append(Finding("error", "guard", text))
        if column.document is not None:
            for field, slot in missing_indexes(table, wanted, column):
                text = f"{wanted.at}: {field.label} has no server index for {slot.expression}: a search reads the table: {_DDL}"
                findings.append(Finding("warning", "index", text))
            continue
        if table.columns[wanted.name].storage != "e":
            text = f"{wanted.at}: {wanted.label} is not STORAGE EXTERNAL; the server compresses what cannot be compressed: {_DDL}"
            findings.append(Finding("warning", "guard", text))
        if catalog.by_name[wanted.schema, wanted.table].row_security and (tags := missing_tags(table, wanted, column)):
            names = ", ".join(hidden_name(column, slot.number) for slot in tags)
            text = f"{wanted.at}: {wanted.schema}.{wanted.table} has row-level security and lacks {names}: {_DDL}"
            findings.append(Finding("error", "row security", text))
        for expression, slot in answering_slots(column.slots, wanted.expressions).items():
            if slot.state == "active" and not any(is_tag_index(index, column, slot) for index in table.indexes):
                text = f"{wanted.at}: {wanted.label} has no server index for {expression}: every search reads the table: {_DDL}"
                findings.append(Finding("warning", "index", text))
    if not findings:
        findings.append(Finding("ok", "guard", "guards and tag indexes are there"))
    return findings


async def _waiting(
    conn: psycopg.AsyncConnection[Any], columns: list[PolicyColumn], protection: Protection, layout: Layout, catalog: Catalog
) -> list[Finding]:
    """Say which indexes have a slot that answers nothing yet, and what they wait for."""
    findings = []
    for wanted in (each for column in columns for each in column.with_fields()):
        column = protection.of_listed(*wanted.listed_as)
        names = [name for name, number in layout.columns.items() if number == column.number]
        answering = answering_slots(column.slots, wanted.expressions)
        for slot in [s for s in column.slots if s.state in ("building", "ready") and s.expression in answering]:
            now, shown = answering[slot.expression], wanted.shown(slot.expression)
            counted = await lacking_tag(conn, names, slot.number, catalog)
            if now.state == "active":
                findings.append(Finding("note", "index", _beside(wanted.label, shown, now, slot, counted)))
            elif slot is now:
                findings.append(Finding("warning", "index", unfinished(wanted.label, shown, counted)))
    return findings


def _beside(label: str, shown: str, now: Slot, slot: Slot, counted: Counted | None) -> str:
    """Say what a slot is for beside the one that is searched by: the next one, or the one before."""
    text = f"{label}: index {shown} is searched by slot {now.number}, generation {now.generation}; slot {slot.number}"
    if slot.generation < now.generation:
        return f"{text}, the one before, is filled by writers and yet to be dropped: `phiproxy reindex {label}` does that"
    many = "some" if counted is None else f"{counted.lacking} of {counted.values}"
    return (
        f"{text}, the next one, is filled by writers, and {many} stored values have no tag in it: `phiproxy reindex {label}` gives"
        " them theirs, and has it take over"
    )


def _shared(columns: list[PolicyColumn]) -> list[Finding]:
    """Say between which columns equal values show."""
    domains: dict[str, list[PolicyColumn]] = {}
    for column in columns:
        domains.setdefault(column.identity, []).append(column)
    return [
        Finding("note", "leakage", f"{', '.join(m.label for m in members)}: of one domain, so equal values show between them too")
        for members in domains.values()
        if len(members) > 1 and members[0].expressions
    ]


def _characters(now: Collation, protection: Protection, layout: Layout) -> list[Finding]:
    """Say how upper and lower case of the server are to the tables now, over all code points, and to what was recorded."""
    topic, again = "collation", "run `phiproxy keys init`"
    recorded = layout.collation
    if recorded is None or recorded.identity != now.identity:
        text = f"the database's collation is not the one that was compared: lower() and upper() beyond ASCII are refused; {again}"
        return [Finding("warning", topic, text)]
    slots = {s for t in protection.tables for c in t.columns.values() for s in c.slots if s.state != "dropped" and s.family}
    other = sorted({s.family for s in slots} - {now.characters.family})
    findings = []
    if other:
        text = f"indexes were made in a database whose case mapping is {other[0]}, here it is {now.characters.family or 'unknown'}"
        findings.append(Finding("error", topic, f"{text}: values beyond ASCII are refused"))
    if now.characters != recorded.characters:
        findings.append(Finding("error", topic, f"the server maps case in another way than was recorded: {again}"))
    if now.characters.differing:
        some = ", ".join(f"U+{point:04X}" for point in sorted(now.characters.differing)[:20])
        text = f"{now.told}; values that hold one of these are refused where an index or a constant depends on it: {some}"
        findings.append(Finding("warning", topic, text))
    return findings or [Finding("ok", topic, f"upper and lower case are as phiproxy's tables say: {now.told}")]


async def _leakage(conn: psycopg.AsyncConnection[Any], wanted: PolicyColumn, column: ProtectedColumn) -> list[Finding]:
    """Say what a thief of the database learns of one column."""
    length = f"its length up to the next {wanted.pad} bytes" if wanted.pad else "its length in bytes"
    slots = {expression: slot.number for expression, slot in answering_slots(column.slots, wanted.expressions).items()}
    if not slots:
        return [Finding("note", "leakage", f"{wanted.label}: of each value only {length}")]
    findings = []
    for expression, number in slots.items():
        measured = await measure(conn, column, [number])
        leak = Leakage.of(wanted, expression, measured)
        declared, accepted = leak.declared, leak.accepted
        text = f"{wanted.label}, index {expression}: {leak.learns}; of each value {length}"
        if accepted is not None:
            text += f'; accepted: "{accepted}"'
        findings.append(Finding("note", "leakage", text))
        if leak.complaint is not None:
            findings.append(Finding("error", "leakage", leak.complaint))
        if measured is None:
            text = f"{wanted.label}: not measured, the service role may not SELECT from {column.schema}.{column.table}"
            findings.append(Finding("warning", "leakage", text))
        elif not leak.decisive and declared is None and accepted is None:
            text = f"{wanted.at}: {wanted.label}, index {expression}: too few values to measure, and no `distinct:` is declared"
            findings.append(Finding("warning", "leakage", text))
    if len(slots) > 1 and (together := await measure(conn, column, slots.values())) is not None:
        text = f"{wanted.label}, all indexes together: {together.distinct} distinct among {together.values}"
        findings.append(Finding("note", "leakage", text))
    return findings


# A setting, the values with which the server's log keeps nothing by it, and what it keeps else.
_LOGGING = (
    ("log_statement", ("none",), "statements are logged"),
    ("log_min_duration_statement", ("-1",), "slow statements are logged"),
    ("log_parameter_max_length", ("0",), "logged statements come with their parameters"),
    ("log_parameter_max_length_on_error", ("0",), "failing statements are logged with their parameters"),
    ("log_min_error_statement", ("panic", "fatal"), "failing statements are logged"),
)


async def _server_settings(conn: psycopg.AsyncConnection[Any]) -> list[Finding]:
    """Warn of settings under which the server's log keeps statements and parameters. As this login has them."""
    query = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY (%s)"
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(query, ([name for name, _, _ in _LOGGING],))
        setting: dict[str, str] = dict(await cursor.fetchall())
    logged: list[tuple[str, str]] = []
    for name, harmless, what in _LOGGING:
        # the third says how much is logged of what the first two let be logged
        if setting.get(name, harmless[0]) not in harmless and (logged or name != "log_parameter_max_length"):
            logged.append((f"{name} = {setting[name]}", what))
    if not logged:
        return [Finding("ok", "server log", "the server's log keeps no statements")]
    return [Finding("warning", "server log", f"{name}: {what}; {_ENVELOPES}") for name, what in logged]
