"""COPY of what is protected: which columns come in which order, and how their data is spelled (manual: COPY).

The options are read to the letter of the version that is known here; one that is not is refused, since the data could not be read.
Whether a value of an option is acceptable the server says itself, before any data flows.
"""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import StatementRefused, UndefinedColumn
from phiproxy.policy.catalog import Relation
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.defaults import left_out
from phiproxy.sql.finish import Spans, finish, quote_ident
from phiproxy.sql.meaning import CopyMeaning, Edit, Reveal
from phiproxy.sql.parse import Node, location, messages, only, strings
from phiproxy.wire.copydata import CopyFormat
from phiproxy.wire.encodings import encoding_of

_PASSED = frozenset({"format", "freeze", "log_verbosity", "on_error", "reject_limit"})
_FORCED = frozenset({"force_quote", "force_not_null", "force_null"})
_CSV_ENDS_BY_MARKER_BEFORE = 180000


def copy_table(a: Analysis, body: Node) -> None:
    """Analyse COPY of a table."""
    named = body["relation"]
    if not _may_be_protected(a, named, body):
        return
    found = a.relation(named, target=True)
    assert isinstance(found, Relation)
    a.table_source(found, named)
    table = a.protected(found)
    if table is None:
        finish(a)
        return
    if "filename" in body or body.get("is_program"):
        raise _file(a, named)
    incoming = bool(body.get("is_from"))
    columns = _columns(a, found, body)
    reveals = tuple(Reveal(c, c.type) if (c := table.columns.get(name)) is not None else None for name in columns)
    if "whereClause" in body:
        _check_where(a, body["whereClause"], found.name, frozenset(table.columns))
    form, skips = _options(a, body, columns)
    a.meaning.outputs = None
    a.meaning.plain_select = not incoming
    added = tuple(left_out(a, found, [(name, None) for name in columns])) if incoming else ()
    for reveal in reveals:
        if reveal is not None:
            reveal.column.refuse_distrusted()
    if any(reveals) or added:
        a.meaning.copy = CopyMeaning(found.name, columns, reveals, form, incoming=incoming, skips_errors=skips, added=added)
    finish(a)
    if "attlist" not in body or added:
        listed = [*columns, *(name for name, _ in added)]
        a.meaning.edits = sorted([*a.meaning.edits, _listed(a, body, listed)], key=lambda e: (e.start, e.end))
        body["attlist"] = [{"String": {"sval": name}} for name in listed]


def _listed(a: Analysis, body: Node, names: Sequence[str]) -> Edit:
    """Return the edit that makes a list of columns, or another one of it."""
    spans = Spans(a.tokens())
    _, end = spans.column_ref(location(body["relation"]))
    start = end
    if "attlist" in body:
        opening = next(i for i, token in enumerate(spans.tokens) if token.start >= end)
        end = spans.tokens[spans.brackets.partner(opening)].end
    return Edit(start, end, b" (" + b", ".join(map(quote_ident, names)) + b")")


def _may_be_protected(a: Analysis, named: Node, body: Node) -> bool:
    """Tell whether the table must be looked up: by its name, or a protected column's that a mistyped table would not have."""
    protection = a.context.protection
    known = named["relname"] in protection.table_names or named["relname"] in a.context.catalog.reaching
    listed = protection.column_names.intersection(strings(body.get("attlist")))
    return known or bool(listed) or named.get("schemaname") == protection.registry_schema


def copy_query(a: Analysis, body: Node) -> None:
    """Note how the rows of COPY (query) TO are spelled; the query itself is analysed."""
    outputs = a.meaning.outputs
    if outputs is None:
        return
    if "filename" in body or body.get("is_program"):
        raise a.refuse(*_FILE[:1], only(body["query"])[1], hint=_FILE[1])
    if not any(outputs):
        return
    for node in body.get("options", ()):
        option = only(node)[1]
        if option["defname"] in _FORCED and "List" in option.get("arg", {}):
            raise a.refuse("FORCE_QUOTE of some columns of a query is not in this version", option, hint="Write FORCE_QUOTE *.")
    names = tuple(str(i + 1) for i in range(len(outputs)))
    form, _ = _options(a, body, names)
    a.meaning.copy = CopyMeaning("", names, outputs, form, incoming=False, skips_errors=False)
    a.meaning.outputs = None


_FILE = (
    "COPY of protected columns from or to a file or program of the server would bypass the proxy",
    "Use STDIN or STDOUT (psql: \\copy).",
)


def _file(a: Analysis, body: Node) -> StatementRefused:
    return a.refuse(_FILE[0], body, hint=_FILE[1])


def _columns(a: Analysis, found: Relation, body: Node) -> tuple[str, ...]:
    """Return the columns in the order of the data (CopyGetAttnums): those listed, else all that are not generated."""
    if "attlist" not in body:
        return tuple(c.name for c in found.columns if not c.generated and not c.name.startswith("phi_tag_"))
    names = strings(body["attlist"])
    for name in names:
        if found.column(name) is None or name.startswith("phi_tag_"):
            raise UndefinedColumn(
                f'column "{name}" of relation "{found.name}" does not exist', position=a.position(body["relation"])
            )
    return tuple(names)


def _check_where(a: Analysis, where: Node, table: str, protected: frozenset[str]) -> None:
    """Let WHERE look at unprotected columns only: the server would see envelopes."""
    for message in messages(where):
        if "funcname" in message:
            a.check_reaching(strings(message["funcname"])[-1], message)
        if "fields" in message and strings(message["fields"])[-1] in {*protected, table, "*"}:
            raise a.refuse(
                "COPY … WHERE over a protected column is not possible: the server does not see its values",
                message,
                hint="Filter the data before it is copied, or copy into a table of its own.",
            )


def _options(a: Analysis, body: Node, columns: Sequence[str]) -> tuple[CopyFormat, bool]:
    """Return the format, and whether rows that do not fit are skipped (ON_ERROR ignore)."""
    given: dict[str, Node] = {}
    for node in body.get("options", ()):
        _, option = only(node)
        given[option["defname"].lower()] = option.get("arg", {})
    kind = _text(given.get("format")) or "text"
    csv = kind == "csv"
    if kind not in ("text", "csv", "binary"):
        raise _unknown(a, body, f'COPY format "{kind}"', "Use FORMAT text, csv or binary.")
    read: dict[str, object] = {"delimiter": b"," if csv else b"\t", "null": b"" if csv else b"\\N"}
    for name, value in given.items():
        if name in ("delimiter", "null", "quote", "escape", "default"):
            read[name] = _text(value).encode("utf-8")
        elif name == "encoding":
            encoding = encoding_of(_text(value))
            if encoding is None:
                raise _unknown(a, body, "COPY of protected columns in this encoding", "Send UTF-8 and say ENCODING 'UTF8'.")
            read[name] = encoding.name
        elif name == "header":
            read[name] = _header(a, body, value)
        elif name in _FORCED:
            read[name] = _positions(value, columns)
        else:
            _check_option(a, body, name, _text(value).lower())
    read.setdefault("escape", read.get("quote", b'"'))
    marker = a.context.catalog.server_version < _CSV_ENDS_BY_MARKER_BEFORE
    form = CopyFormat(format=kind, marker_ends_csv=marker, single=len(columns) == 1, **read)  # type: ignore[arg-type]
    return form, _text(given.get("on_error")).lower() == "ignore"


def _check_option(a: Analysis, body: Node, name: str, value: str) -> None:
    """Refuse an option under which the data could not be read."""
    if name == "on_error" and value not in ("ignore", "stop"):
        raise _unknown(a, body, f'ON_ERROR "{value}"', "Use ON_ERROR stop or ignore.")
    if name not in _PASSED:
        raise _unknown(a, body, f'COPY option "{name}"', "Leave the option out.")


def _unknown(a: Analysis, body: Node, what: str, hint: str) -> StatementRefused:
    place = body.get("relation") or only(body["query"])[1]
    return a.refuse(f"{what} is not in this version", place, hint=hint)


def _text(value: Node | None) -> str:
    """Return an option's value as text (defGetString)."""
    if not value:
        return ""
    kind, body = only(value)
    if kind == "String":
        return str(body.get("sval", ""))
    if kind == "Integer":
        return str(body.get("ival", 0))
    if kind == "Boolean":
        return "true" if body.get("boolval") else "false"
    return str(next(iter(body.values()), ""))


def _header(a: Analysis, body: Node, value: Node) -> str:
    """Read HEADER (defGetCopyHeaderOption)."""
    text = _text(value).lower()
    if not value or text in ("true", "on", "1"):
        return "yes"
    if text in ("false", "off", "0"):
        return "no"
    if text == "match":
        return "match"
    raise _unknown(a, body, "this value of HEADER", "Use true, false or match.")


def _positions(value: Node, columns: Sequence[str]) -> frozenset[int]:
    """Return the positions of the columns of FORCE_…; what is not copied the server complains about."""
    if "A_Star" in value:
        return frozenset(range(len(columns)))
    names = set(strings(value.get("List", {}).get("items", ())))
    return frozenset(i for i, name in enumerate(columns) if name in names)
