"""Views that compute over columns that are converted: what the proxy keeps of them while those are sealed, and what in clear.

``CREATE VIEW v AS SELECT upper(ssn) AS loud FROM t`` becomes what the proxy makes of that statement, the server's source with the
sealed rest in it (``policy.view_rests``). On the way back the two are put together again.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Final, NamedTuple

from phiproxy.errors import SealError
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Analysed
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.stored_query import StoredQuery
from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.policy.view_rests import SEALED, ViewRest, is_inner, read_rest
from phiproxy.sql.result import Answered
from phiproxy.sql.split.view_columns import stored_as
from phiproxy.sql.split.view_definition import sealed_as
from phiproxy.sql.text.parse import Node, Statement, location, messages, only, parse, strings, tokens
from phiproxy.sql.text.token_spans import OPEN, Spans
from phiproxy.wire.oids import BYTEA_OID

_ENVELOPE: Final = re.compile(r"'\\x(f5500101(?:[0-9a-f]{2})+)'")
_COLUMN: Final = re.compile(r"c([1-9][0-9]*)")
# What stands before a source in a rest, and behind it where the source is one table.
_ITEM: Final = re.compile(r"\(SELECT (s\.c[0-9]+(?:, s\.c[0-9]+)*) FROM \Z")
_NAME: Final = r'"(?:[^"]|"")+"'
_NAMED: Final = re.compile(rf" AS s\) AS ({_NAME}) \(({_NAME}(?:, {_NAME})*)\)(\s+WHERE (?:true|\(true\))\s*\Z)?")
_PLAIN: Final = frozenset({"targetList", "fromClause", "whereClause", "limitOption", "op"})
_ANOTHER: Final = "the stored query of a view that computes is not one that phiproxy has made"


class Computing(NamedTuple):
    """CREATE VIEW as the server gets it: ``rest`` stands sealed between ``lead`` and ``trail``."""

    lead: str
    rest: ViewRest
    trail: str

    def as_if_sealed(self) -> str:
        """Return the statement with something else for the sealed rest, where there are no keys: it is never sent."""
        stand_in = b"\xf5\x50\x01\x01" + sha256(self.rest.written()).digest()
        return f"{self.lead}'\\x{stand_in.hex()}'::bytea{self.trail}"

    def sealed_in(self, statement: str) -> bytes:
        """Return the sealed rest in a statement that was made of it."""
        match = _ENVELOPE.search(statement, len(self.lead))
        assert match is not None
        return bytes.fromhex(match[1])

    def query(self, sealed: bytes) -> str:
        """Return the query that the server will have stored, as far as that is read."""
        (first, *_) = self._made().body["query"]["SelectStmt"]["targetList"]
        behind = self.lead.encode()[location(only(first)[1]) :].decode()
        return f"SELECT {behind}'\\x{sealed.hex()}'::bytea AS {SEALED}{self.trail}"

    def relation(self, catalog: Catalog, before: Relation) -> Relation | None:
        """Return the view as it will be; None where it is not known here of which collations its columns are."""
        body = self._made().body
        named = [(m["schemaname"], m["relname"]) for m in messages(body["query"]) if "relname" in m and "schemaname" in m]
        read = [catalog.by_name.get(name) for name in named]
        if any(relation is None or any(c.collation for c in relation.columns) for relation in read):
            return None
        own = {c.name: c for c in before.columns}
        inner = {one.place: one for one in self.rest.inputs}
        columns = []
        for number, name in enumerate(strings(body["aliases"]), start=1):
            if name in own:
                columns.append(replace(own[name], attnum=number))
                continue
            oid, typmod = (BYTEA_OID, -1) if name == SEALED else stored_as(catalog, inner[name])
            columns.append(CatalogColumn(name, number, oid, typmod))
        return replace(before, columns=tuple(columns))

    def _made(self) -> Statement:
        (statement,) = parse(f"{self.lead}NULL{self.trail}".encode())
        return statement


def computing(answer: Answered) -> Computing:
    """Return what becomes of CREATE VIEW over expressions."""
    (sealed,) = answer.occurrences
    assert sealed.literal is not None
    return Computing(sealed.lead.decode(), read_rest(sealed.literal), sealed.trail.decode())


def with_view(catalog: Catalog, ciphers: Ciphers, stored: StoredQuery, analysed: Analysed, made: str) -> Catalog:
    """Return a catalogue in which a view is what ``made``, the statement that it was ``analysed`` to, makes of it.

    ``ciphers`` know what it computes then.
    """
    if isinstance(analysed, StatementPlan):
        return replace(catalog, views={**catalog.views, stored.oid: stored.query_of(made)})
    computed = computing(analysed)
    sealed = computed.sealed_in(made)
    ciphers.views[sealed] = computed.rest
    will_be = computed.relation(catalog, catalog.by_oid[stored.oid])
    relations = tuple(will_be if will_be is not None and r.oid == stored.oid else r for r in catalog.relations)
    query = computed.query(sealed) if will_be is not None else ""
    return replace(catalog, views={**catalog.views, stored.oid: query}, relations=relations)


def opened_rest(ciphers: Ciphers, column: ProtectedColumn, sealed: bytes) -> ViewRest:
    """Return the rest of a view that was sealed under the keys of a column; KeyNeeded, SealError."""
    opened = ciphers.opened_definition(sealed_as(column), sealed)
    try:
        return read_rest(opened)
    except (ValueError, KeyError, TypeError):
        raise SealError(_ANOTHER) from None


def in_clear(query: str, names: Sequence[str], rest: ViewRest) -> str:
    """Return the query of what such a view shows, over columns in clear; SealError where the proxy has not made it.

    ``query`` and ``names`` are the stored query and the columns of the server's view. Its source stands where the rest has it:

    SELECT s.c1 AS id, …, s.c2 AS phi_view_1 FROM (SELECT t.id, t.ssn FROM public.t) s(c1, c2)
    → SELECT id, upper(ssn) AS loud FROM public.t
    """
    text = query.encode()
    (statement,) = parse(text)
    columns, source, width = _of_source(text, statement)
    shown = [name for name in names if not is_inner(name)]
    try:
        numbers = dict(zip(names, columns, strict=True))
        inputs = [numbers[one.place if isinstance(one.place, str) else shown[one.place]] for one in rest.inputs]
    except (KeyError, IndexError, ValueError):
        raise SealError(_ANOTHER) from None
    if None in inputs or len(shown) != len(rest.shown):
        raise SealError(_ANOTHER)
    of_table = _over_table(rest.parts, [int(str(number)) for number in inputs], source)
    if of_table is not None:
        return of_table
    listed = ", ".join(f"s.c{column} AS c{number}" for number, column in enumerate(inputs, start=1))
    named = ", ".join(f"c{number}" for number in range(1, width + 1))
    item = f"(SELECT {listed} FROM ({source}) AS s ({named}))".encode()
    (composed,) = rest.around((item,))
    return composed.decode()


def source_of(query: str) -> tuple[str, int]:
    """Return the source in the stored query of such a view, and how many columns that has; SealError."""
    text = query.encode()
    (statement,) = parse(text)
    _, source, width = _of_source(text, statement)
    return source, width


def listed_table(query: str, tables: Collection[tuple[str, str]]) -> tuple[str, str] | None:
    """Return one of these tables whose columns a stored query names in a list behind its alias, or that of a join; PhiproxyError.

    ``SELECT p.b FROM public.patients p(a, b)`` gives ``("public", "patients")``: the list has all columns, in the server's order.
    """
    (statement,) = parse(query.encode())
    for message in messages(statement.body):
        if message.get("alias", {}).get("colnames") and ("relname" in message or "larg" in message):
            for inner in messages(message):
                if (name := (inner.get("schemaname", ""), inner.get("relname", ""))) in tables:
                    return name
    return None


def _over_table(parts: Sequence[str], inputs: Sequence[int], source: str) -> str | None:
    """Return the rest over the table itself, where its source is columns of one table under their own names; else None.

    So PostgreSQL lets writes through such a view as it did before it was sealed.
    """
    (statement,) = parse(source.encode())
    body = statement.body
    before, behind = _ITEM.search(parts[0]), _NAMED.match(parts[-1])
    if len(parts) != 2 or before is None or behind is None or not body.keys() <= _PLAIN or "RangeVar" not in body["fromClause"][0]:
        return None
    label, table = behind[1][1:-1].replace('""', '"'), body["fromClause"][0]["RangeVar"]
    values = [only(node)[1]["val"] for node in body["targetList"]]
    named = [quote_ident(strings(v["ColumnRef"]["fields"])[-1], always=True) if "ColumnRef" in v else "" for v in values]
    of_rest = [named[inputs[int(one.strip()[3:]) - 1] - 1] for one in before[1].split(",")]
    called = table.get("alias", {}).get("aliasname") or table["relname"]
    condition = _condition(source, body)
    if len(body["fromClause"]) != 1 or ", ".join(of_rest) != behind[2] or called != label or (condition and not behind[3]):
        return None
    relation = f"{'' if table.get('inh') else 'ONLY '}{quote_ident(table['schemaname'])}.{quote_ident(table['relname'])}"
    alias = f" AS {quote_ident(label)}" if "alias" in table else ""
    rest = f" WHERE {condition}" if condition else behind[3] or parts[-1][behind.end() :]
    return f"{parts[0][: before.start()]}{relation}{alias}{rest}"


def _condition(source: str, body: Node) -> str:
    """Return the condition of a source, which is its last clause."""
    if "whereClause" not in body:
        return ""
    text = source.encode()
    spans = Spans(tokens(text))
    at = next(i for i, token in enumerate(spans.tokens) if token.name == "WHERE")
    return text[spans.tokens[at].end :].decode().strip()


def _of_source(text: bytes, statement: Statement) -> tuple[list[int | None], str, int]:
    """Return which of the source's columns each column of a stored query is, the source, and how many columns that has."""
    body = statement.body
    columns = [_number(only(node)[1]["val"]) for node in body.get("targetList", ())]
    items: Sequence[Node] = body.get("fromClause", ())
    spans = Spans(tokens(text))
    at = 0
    while at < len(spans.tokens) and spans.name(at) != "FROM":
        at = spans.partner(at) + 1 if spans.name(at) == OPEN else at + 1
    if len(items) != 1 or "RangeSubselect" not in items[0] or spans.name(at + 1) != OPEN:
        raise SealError(_ANOTHER)
    source = text[spans.tokens[at + 1].end : spans.tokens[spans.partner(at + 1)].start]
    return columns, source.decode().strip(), len(items[0]["RangeSubselect"]["alias"].get("colnames", ()))


def _number(value: Node) -> int | None:
    if "ColumnRef" not in value:
        return None
    match = _COLUMN.fullmatch(strings(value["ColumnRef"]["fields"])[-1])
    return int(match[1]) if match is not None else None
