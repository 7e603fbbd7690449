"""COPY of protected columns: the order of the columns in the data, and how it is spelled (manual: COPY).

Every option must be known, since the data could not be read otherwise. The server checks the options' values before any data flows.
"""

from collections.abc import Iterator, Sequence

from phiproxy.errors import StatementRefused, UndefinedColumn, WrongObjectType
from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import is_hidden
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.resolve.protected_values import about_whom
from phiproxy.sql.result import Edit, ProtectedCopy, Reveal
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.table_names import check_reaching, protected_table, qualified_relation, table_source
from phiproxy.sql.text.parse import Node, location, messages, only, strings
from phiproxy.sql.text.token_spans import Spans
from phiproxy.sql.values.uses import Search
from phiproxy.sql.writes.column_defaults import without
from phiproxy.wire.copy_rows import CopyFormat
from phiproxy.wire.encodings import encoding_of

_PASSED = frozenset({"format", "freeze", "log_verbosity", "on_error", "reject_limit"})
_HEADERS = {"true": "yes", "on": "yes", "1": "yes", "false": "no", "off": "no", "0": "no", "match": "match"}
_FORCED = frozenset({"force_quote", "force_not_null", "force_null"})
_VIEWS = {"v": "view", "m": "materialized view"}
_CSV_ENDS_BY_MARKER_BEFORE = 180000


def copy_table(a: Analysis, body: Node) -> None:
    """Analyse COPY of a table.

    COPY patients (ssn, city) FROM STDIN
    → COPY "public".patients (ssn, city) FROM STDIN

    COPY patients FROM '/tmp/patients'
    → refused 0A000

    COPY springfield TO STDOUT
    → refused 42809
    """
    named = body["relation"]
    if not _may_be_protected(a, named, body):
        return
    relation = qualified_relation(a, named)
    _check_kind(a, relation, body)
    table_source(a, relation, named)
    table = protected_table(a, relation)
    if table is None:
        return
    if "filename" in body or body.get("is_program"):
        raise a.refuse(_FILE[0], named, hint=_FILE[1])
    incoming = bool(body.get("is_from"))
    columns = columns_of_data(a, relation, body)
    reveals = tuple(Reveal(c, c.type) if (c := table.columns.get(name)) is not None else None for name in columns)
    if "whereClause" in body:
        _check_where(a, body["whereClause"], relation.name, frozenset(table.columns))
    form, skips = _options(a, body, columns)
    a.answer.outputs = None
    a.answer.plain_select = not incoming
    added = _added(a, relation, columns, named) if incoming else ()
    for reveal in reveals:
        if reveal is not None:
            reveal.column.refuse_distrusted()
            if not incoming and (masked := reveal.column.masked) is not None and masked.show.denies:
                reveal.column.refuse_masked()
    if any(reveals) or added:
        a.answer.copy = ProtectedCopy(relation.name, columns, reveals, form, incoming=incoming, skips_errors=skips, added=added)
    if "attlist" not in body or added:
        a.rewrite(_list_columns, body=body, names=[*columns, *(name for name, _ in added)])


def _added(a: Analysis, relation: Relation, columns: Sequence[str], named: Node) -> tuple[tuple[str, ProtectedColumn], ...]:
    """Return the protected columns that the data leaves out and that have a default; StatementRefused for a computed one."""
    added = tuple(without(a, relation, columns))
    computed = next((column for _, column in added if column.computed_default is not None), None)
    if computed is not None:
        raise a.refuse(
            f"COPY without {computed.label}, whose default the server cannot compute",
            named,
            hint=f"Copy into a table of its own without {computed.name}, and INSERT … SELECT from there; or let the data have it.",
        )
    return added


def _list_columns(draft: Draft, *, body: Node, names: Sequence[str]) -> Iterator[Edit]:
    """Write the columns into ``COPY patients FROM STDIN``, or replace its list."""
    start, end = place_of_columns(draft.spans, body)
    draft.tree.edit(body)["attlist"] = [{"String": {"sval": name}} for name in names]
    yield Edit(start, end, f" ({', '.join(quote_ident(name, always=True) for name in names)})".encode())


def place_of_columns(spans: Spans, body: Node) -> tuple[int, int]:
    """Return where the list of columns stands, with what is before it behind the table; where it would stand if there is none."""
    _, start = spans.column_ref(location(body["relation"]))
    if "attlist" not in body:
        return start, start
    opening = next(i for i, token in enumerate(spans.tokens) if token.start >= start)
    return start, spans.tokens[spans.partner(opening)].end


def _check_kind(a: Analysis, relation: Relation, body: Node) -> None:
    """Refuse to copy a view's rows by its name, as PostgreSQL does, which looks at the columns first."""
    if relation.kind in _VIEWS and not body.get("is_from"):
        columns_of_data(a, relation, body)
        why = f'cannot copy from {_VIEWS[relation.kind]} "{relation.name}"'
        raise WrongObjectType(why, hint="Try the COPY (SELECT ...) TO variant.", position=a.position(body["relation"]))


def _may_be_protected(a: Analysis, named: Node, body: Node) -> bool:
    """Tell whether the table must be looked up, by its name or by the name of a column of the list."""
    protection = a.context.protection
    may_be = named["relname"] in protection.table_names or named["relname"] in a.context.catalog.reaching
    listed = protection.column_names.intersection(strings(body.get("attlist")))
    return may_be or bool(listed) or named.get("schemaname") == protection.registry_schema


def copy_query(a: Analysis, body: Node) -> None:
    """Note the format of COPY (query) TO; the query itself is analysed already.

    COPY (SELECT ssn FROM patients WHERE ssn = 'x') TO STDOUT
    → COPY (SELECT ssn FROM patients WHERE tag(ssn) = tag('x')) TO STDOUT
    """
    outputs = a.answer.outputs
    if outputs is None:
        return
    if "filename" in body or body.get("is_program"):
        raise a.refuse(_FILE[0], only(body["query"])[1], hint=_FILE[1])
    if not any(outputs):
        _note_whom(a, body, outputs)
        return
    for node in body.get("options", ()):
        option = only(node)[1]
        if option["defname"] in _FORCED and "List" in option.get("arg", {}):
            raise a.refuse("FORCE_QUOTE of some columns of a query is not in this version", option, hint="Write FORCE_QUOTE *.")
    names = tuple(str(i + 1) for i in range(len(outputs)))
    form, _ = _options(a, body, names)
    a.answer.copy = ProtectedCopy("", names, outputs, form, incoming=False, skips_errors=False)
    a.answer.outputs = None


def _note_whom(a: Analysis, body: Node, outputs: tuple[Reveal | None, ...]) -> None:
    """Have the data read of a query that only searches, where it says whom its rows are about; with any options it is answered."""
    searched = any(isinstance(occurrence.use, Search) for occurrence in a.answer.occurrences)
    forced = any(only(node)[1]["defname"] in _FORCED for node in body.get("options", ()))
    if not searched or forced or a.query is None or not any(about_whom(value) for _, value in a.query.outputs):
        return
    names = tuple(str(i + 1) for i in range(len(outputs)))
    try:
        form, _ = _options(a, body, names)
    except StatementRefused:
        return  # then it is not known whom
    a.answer.copy = ProtectedCopy("", names, outputs, form, incoming=False, skips_errors=False)
    a.answer.outputs = None


_FILE = (
    "COPY of protected columns from or to a file or program of the server would bypass the proxy",
    "Use STDIN or STDOUT (psql: \\copy).",
)


def columns_of_data(a: Analysis, relation: Relation, body: Node) -> tuple[str, ...]:
    """Return the columns in the order of the data (CopyGetAttnums): those listed, else all that are not generated."""
    if "attlist" not in body:
        return tuple(c.name for c in relation.columns if not c.generated and not is_hidden(c.name))
    names = strings(body["attlist"])
    for name in names:
        if relation.column(name) is None or is_hidden(name):
            raise UndefinedColumn(
                f'column "{name}" of relation "{relation.name}" does not exist', position=a.position(body["relation"])
            )
    return tuple(names)


def _check_where(a: Analysis, where: Node, table: str, protected: frozenset[str]) -> None:
    """Refuse WHERE over protected columns, of which the server sees envelopes."""
    for message in messages(where):
        if "funcname" in message:
            check_reaching(a, strings(message["funcname"])[-1], message)
        if "fields" in message and strings(message["fields"])[-1] in {*protected, table, "*"}:
            why = "COPY … WHERE over a protected column is not possible: the server does not see its values"
            raise a.refuse(why, message, hint="Filter the data before it is copied, or copy into a table of its own.")


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
    if name == "on_error" and value not in ("ignore", "stop"):
        raise _unknown(a, body, f'ON_ERROR "{value}"', "Use ON_ERROR stop or ignore.")
    if name not in _PASSED:
        raise _unknown(a, body, f'COPY option "{name}"', "Leave the option out.")


def _unknown(a: Analysis, body: Node, what: str, hint: str) -> StatementRefused:
    located = body.get("relation") or only(body["query"])[1]
    return a.refuse(f"{what} is not in this version", located, hint=hint)


def _text(value: Node | None) -> str:
    """Return an option's value as text (defGetString)."""
    if not value:
        return ""
    kind, body = only(value)
    if kind == "Integer":
        return str(body.get("ival", 0))
    if kind == "Boolean":
        return "true" if body.get("boolval") else "false"
    return str(next(iter(body.values()), ""))


def _header(a: Analysis, body: Node, value: Node) -> str:
    """Read HEADER (defGetCopyHeaderOption)."""
    said = _HEADERS.get(_text(value).lower() if value else "true")
    if said is None:
        raise _unknown(a, body, "this value of HEADER", "Use true, false or match.")
    return said


def _positions(value: Node, columns: Sequence[str]) -> frozenset[int]:
    """Return the positions of the columns of FORCE_…; the server rejects columns that are not copied."""
    if "A_Star" in value:
        return frozenset(range(len(columns)))
    names = set(strings(value.get("List", {}).get("items", ())))
    return frozenset(i for i, name in enumerate(columns) if name in names)
