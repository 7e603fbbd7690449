"""EXPLAIN ANALYZE of a split statement: all of its parts are run, and each is explained."""

from __future__ import annotations

from dataclasses import replace

from phiproxy.errors import ColumnMasked, StatementRefused
from phiproxy.policy.identifiers import literal
from phiproxy.policy.view_rests import is_computed
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Analyzed, Rest, Split
from phiproxy.sql.text.parse import Node, only, strings

_OF_ANALYZE = frozenset({"analyze", "serialize", "timing", "wal"})
OPTIONS = frozenset({"verbose", "costs", "settings", "summary", "buffers", "memory", "format"}) | _OF_ANALYZE
_WRITES = frozenset({"InsertStmt", "UpdateStmt", "MergeStmt"})
_FALSE = frozenset({"false", "off", "0"})


def is_analyzed(body: Node) -> bool:
    """Tell whether an EXPLAIN executes its statement. Of an option that is given twice the last counts."""
    last = [option for option in _options(body) if option["defname"] == "analyze"][-1:]
    return bool(last) and ("arg" not in last[0] or _said(last[0]) not in _FALSE)


def explained_as(body: Node) -> str:
    """Return the FORMAT of an EXPLAIN."""
    formats = [_said(option) for option in _options(body) if option["defname"] == "format" and "arg" in option]
    return formats[-1] if formats else "text"


def check_shown(a: Analysis) -> None:
    """Refuse an EXPLAIN whose plan would show constants that somebody else has sealed, to a role that sees masks; ColumnMasked.

    The engine's plan shows those of a view over expressions and of computed defaults: ``EXPLAIN SELECT id FROM chosen`` has
    ``Filter: (c2 = 'Smith'::text)``.
    """
    masked = a.context.protection.masked
    if not masked:
        return
    named = {message["relname"] for message in a.whole() if isinstance(message.get("relname"), str)}
    views = any(relation.name in named and is_computed(relation) for relation in a.context.catalog.relations)
    computed = any(c.computed_default is not None for table in a.context.protection.tables for c in table.columns.values())
    if views or (computed and not _WRITES.isdisjoint(a.keys)):
        raise ColumnMasked(
            "the plan would show constants of views or defaults over protected columns, some of which are masked for this role",
            masked[0].label,
            hint="A role that sees no masks is told the plan.",
        )


def analyzed(a: Analysis, split: Split, *, written: bool, before: bytes) -> Split:
    """Return how an EXPLAIN ANALYZE is split, of whose statement ``split`` is known; ``written``: its source writes.

    ``before`` are blanks for what stands before it in the text, so that positions in its options are the client's.

    The source is run by itself, for its rows, behind the EXPLAIN ANALYZE of it; so what may be run once only is planned there. An
    INSERT whose count of rows is to be compared is refused, since EXPLAIN does not tell it, and so is what is split twice.
    """
    lead, write = split.lead, split.write
    if write is not None and (write.expected or write.split):
        raise StatementRefused(
            "EXPLAIN ANALYZE shows no write that is split twice, or of which it cannot tell whether all rows were written",
            hint="EXPLAIN without ANALYZE shows the plans.",
        )
    once = written or _does_something(a)
    rest = split.rest
    if write is None:
        parts = (lead + rest.parts[0], *rest.parts[1:])
        rest = Rest(parts, rest.parameters, tuple((start + len(lead), end + len(lead), at) for start, end, at in rest.spans))
    else:
        spans = tuple((start + len(lead), end + len(lead), at) for start, end, at in write.spans)
        write = replace(write, text=lead + write.text, spans=spans)
    of_source = _planning(a.statement.body) if once else before + lead
    writes = write is not None or written
    return replace(
        split, rest=rest, write=write, plain_select=split.plain_select and not writes, analyzed=Analyzed(of_source, planned=once)
    )


def _does_something(a: Analysis) -> bool:
    """Tell whether a function is called that may do something, or give another value each time."""
    assert a.context.catalog.signatures is not None
    named = [strings(message["funcname"])[-1] for message in a.whole() if "funcname" in message]
    called = [a.context.catalog.signatures.functions(name) for name in named]
    return any(not functions or any(function.volatile == "v" for function in functions) for functions in called)


def _planning(body: Node) -> bytes:
    """Return the EXPLAIN with these options that executes nothing."""
    options = [option for option in _options(body) if option["defname"] not in _OF_ANALYZE]
    words = [f"{option['defname']} {_written(option)}".strip() for option in options]
    return f"EXPLAIN ({', '.join(words)}) ".encode() if words else b"EXPLAIN "


def _written(option: Node) -> str:
    said = _said(option)
    return said if said.isalnum() and said.isascii() else said and literal(said)


def _options(body: Node) -> list[Node]:
    return [only(option)[1] for option in body.get("options", ())]


def _said(option: Node) -> str:
    """Return the value of an option as a word; empty where none is given."""
    kind, value = only(option["arg"]) if "arg" in option else ("", {})
    return str(value.get("ival", 0)) if kind == "Integer" else str(value.get("sval", value.get("fval", ""))).lower()
