"""Values that only the server has: its clock, its user, its settings. A source of one row has them, once for each statement."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from phiproxy.errors import StatementRefused
from phiproxy.policy.column_types import named_type
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.signatures import Function
from phiproxy.sql.result import SourceColumn
from phiproxy.sql.split.branches import Conditions, calls_reached
from phiproxy.sql.split.clock_constants import MOMENTS, compared_with_moments
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.pieces import Replaced
from phiproxy.sql.split.remaining import bodies, nodes
from phiproxy.sql.split.rest_nodes import functions_called, unnoticed
from phiproxy.sql.split.same_answers import is_settled, means_clock
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.split.tables_and_columns import type_of
from phiproxy.sql.text.parse import Node, location, only, strings
from phiproxy.sql.text.token_spans import OPEN
from phiproxy.types.declared import DeclaredType
from phiproxy.wire.oids import BUILTIN_TYPES

_CLOCKS = {
    "CURRENT_DATE": "date", "CURRENT_TIME": "timetz", "CURRENT_TIMESTAMP": "timestamptz", "LOCALTIME": "time",
    "LOCALTIMESTAMP": "timestamp",
}  # fmt: skip
_TODAY = "CURRENT_DATE"
_SETTING = "current_setting"
# Stable functions of constants that give something, or NULL, whatever these are.
_NEVER_FAIL = frozenset(
    {"col_description", "current_schemas", "format_type", "obj_description", "pg_get_userbyid", "shobj_description"}
)
# Settings that only some roles may see (GUC_SUPERUSER_ONLY).
_HIDDEN = frozenset(
    {
        "config_file", "data_directory", "dynamic_library_path", "extension_control_path", "external_pid_file", "hba_file",
        "ident_file", "jit_provider", "krb_server_keyfile", "log_directory", "log_filename", "primary_conninfo",
        "session_preload_libraries", "shared_preload_libraries", "ssl_dh_params_file", "ssl_passphrase_command",
        "unix_socket_directories",
    }
)  # fmt: skip


Key = tuple[object, ...]


class ServerValue(NamedTuple):
    """A value of the server's: ``written`` as the client has it, ``name`` as which PostgreSQL would show it.

    ``start:end`` of the client's text is replaced by it; where ``inserted``, it is put before what stands there. ``conditions`` are
    those of the branch that it stands in. ``key`` is the same of two that are equal for PostgreSQL, however they are written.
    """

    start: int
    end: int
    written: bytes
    name: str
    type: SourceColumn
    key: Key
    inserted: bool = False
    each: bool = False
    conditions: Conditions = ()
    otherwise: bytes = b""
    """What the engine computes where the server has none: it fails, if it is evaluated."""
    doubtful: bool = False
    """Whether it is not known if PostgreSQL evaluates it, where the server has none."""


def server_values(whole: Whole, gone: Collection[int]) -> tuple[list[ServerValue], set[int]]:
    """Return the values of the server's in what is left of a statement, and the ids of the nodes that they take the place of.

    SELECT full_name || current_user FROM patients
    → source: SELECT c1, c2, c3, c4 FROM (SELECT true AS c1, patients.full_name AS c2 FROM patients) AS t1
      FULL JOIN (SELECT true AS c3, current_user AS c4) AS t2 ON false
    → rest: SELECT full_name || (SELECT s.c4 AS current_user FROM {} AS s WHERE s.c3)
      FROM (SELECT s.c2 FROM {} AS s WHERE s.c1) AS patients (full_name)
    """
    found: list[ServerValue] = []
    taken: set[int] = set()
    compared = compared_with_moments(whole.verdict, {"SelectStmt": whole.body})
    for kind, node in nodes({"SelectStmt": whole.body}, gone):
        value = _RULES[kind](whole, node) if kind in _RULES else None
        if id(node) in compared:
            value = _compared(whole, node, compared[id(node)])
        if value is not None:
            found.append(value)
            if not value.inserted:
                taken |= {id(node), *(id(message) for message in bodies(node, ()))}
    return [value for value in found if not any(_inside(value, other) for other in found)], taken


def of_server(value: ServerValue, column: str, behind: str = "") -> Replaced:
    """Return what stands in the rest for a value of the server's: a subquery, which is right in a grouped query too.

    ``behind`` stands behind its FROM, and chooses the one row that has the value.
    """
    before = b"(SELECT %s AS %s FROM " % (had(value, f"s.{column}"), quote_ident(value.name, always=True).encode())
    after = f" AS s{behind}){', ' if value.inserted else ''}"
    return Replaced(value.start, value.end, (before, after.encode()))


def had(value: ServerValue, column: str) -> bytes:
    """Return how the rest has a value of the server's of which the source has a column."""
    return b"coalesce(%s, %s)" % (column.encode(), value.otherwise) if value.otherwise else column.encode()


def _inside(value: ServerValue, other: ServerValue) -> bool:
    return value is not other and other.start <= value.start < other.end


def _value_function(whole: Whole, node: Node) -> ServerValue:
    """CURRENT_DATE, CURRENT_USER and the like."""
    op = node["op"].removeprefix("SVFOP_").removesuffix("_N")
    type_name = _CLOCKS.get(op, "name")
    first = whole.spans.at(location(node))
    last = whole.spans.partner(first + 1) if node["op"].endswith("_N") else first
    tokens = whole.spans.tokens
    typmod = node.get("typmod", 0) if node["op"].endswith("_N") else -1
    type_ = SourceColumn(DeclaredType.builtin(type_name), typmod)
    start, end = tokens[first].start, tokens[last].end
    return ServerValue(start, end, whole.a.text[start:end], op.lower(), type_, (op, typmod))


def _call(whole: Whole, node: Node) -> ServerValue | None:
    """A call of a stable function of constants, unless the engine would answer it alike."""
    name, arguments = strings(node["funcname"])[-1], node.get("args", [])
    functions = functions_called(whole.verdict, node)
    if name == "age" and len(arguments) == 1:
        return _before_age(whole, node, arguments[0])
    each = any(f.volatile == "v" for f in functions)
    if not functions or all(is_settled(name, f) for f in functions) or "over" in node:
        return None
    made = _made_once(whole) if each and name in whole.calls.once else {}
    if each and id(node) not in made:
        return None
    if not all(_is_constant(argument) for argument in arguments) or any(f.kind != "f" for f in functions):
        return None
    type_ = _result(whole, functions)
    start, end = _call_span(whole, node)
    estimated = whole.estimated.get(id(node)) if name == _SETTING else None
    if name == _SETTING and estimated is None:
        return _setting(whole, node, type_)
    if arguments and not (each or name in _NEVER_FAIL or name == _SETTING):
        raise Impossible(f"{name} may fail, and need not be evaluated")
    written, conditions = whole.a.text[start:end], made.get(id(node), ())
    # One that is computed for each that is written is equal to no other.
    key = (name, start) if each else _key(name, arguments)
    return ServerValue(start, end, written, name, type_, key, each=each, conditions=conditions, doubtful=estimated is False)


def _key(name: str, arguments: Collection[Node]) -> Key:
    return name, *(_constant(argument) for argument in arguments)


def _constant(node: Node) -> object:
    """Return what a constant says, whether or not it is cast: a function has the same of both."""
    kind, body = only(node)
    if kind == "TypeCast":
        return _constant(body["arg"])
    said = next(((kind, *one.values()) for kind, one in body.items() if isinstance(one, dict)), None)  # 0 and '' have no values
    return said if said is None or len(said) == 1 else str(said[1])


def _setting(whole: Whole, node: Node, type_: SourceColumn) -> ServerValue:
    """current_setting('x'), which fails where it is evaluated only: the server is asked for what it has, and the engine fails.

    INSERT INTO patients (ssn) VALUES (CASE WHEN $1 > 'a' THEN current_setting('no.such') ELSE upper($1) END)
    → source: SELECT pg_catalog.current_setting('no.such', true)
    → rest: SELECT CAST(q.q1 AS text) FROM (SELECT CASE WHEN $1 > 'a' THEN (SELECT coalesce(s.c1, pg_catalog.current_setting((SELECT
      pg_catalog.convert_from(pg_catalog.decode('6e6f2e73756368', 'hex'), 'UTF8')))) AS current_setting FROM {} AS s)
      ELSE upper($1) END) AS q (q1)
    """
    asked, *missing_ok = node["args"]
    said = asked.get("A_Const", {}).get("sval")
    if not isinstance(said, dict):
        raise Impossible("the name of a setting is no string as it is")
    setting = said.get("sval", "")
    if setting.lower() in _HIDDEN or setting.lower().split(".")[0] in whole.a.context.extensions:
        raise Impossible("a setting that a role may not see, or that the engine may have where the server has none")
    opening, closing = _call_tokens(whole, node)
    tokens, start = whole.spans.tokens, location(node)
    if missing_ok:
        if not missing_ok[0].get("A_Const", {}).get("boolval", {}).get("boolval"):
            raise Impossible("it is not known whether a setting may be missing")
        end = tokens[closing].end
        return ServerValue(start, end, whole.a.text[start:end], _SETTING, type_, (_SETTING, setting))
    argument = whole.a.text[tokens[opening].end : tokens[closing].start]
    # Of a constant the engine's planner would ask, to estimate how many rows there are. Spelled otherwise, the rest has it nowhere.
    name = b"pg_catalog.convert_from(pg_catalog.decode('%s', 'hex'), 'UTF8')" % setting.encode().hex().encode()
    otherwise = b"pg_catalog.current_setting((SELECT %s))" % name
    written = b"pg_catalog.current_setting(%s, true)" % argument
    return ServerValue(start, tokens[closing].end, written, _SETTING, type_, _key(_SETTING, [asked]), otherwise=otherwise)


def _made_once(whole: Whole) -> dict[int, Conditions]:
    """Return the ids of the calls in the outputs of a query that are made once where the conditions of their branches hold.

    Beside a set none is: ``'M' || nextval('numbers'), generate_series(1, 3)`` makes the call for each of its rows. Of a function
    that may be called in vain (``unnoticed``) it is enough that it is made once at most.

    INSERT INTO patients (mrn) VALUES (coalesce($1, gen_random_uuid()::text))
    → source: SELECT gen_random_uuid()

    INSERT INTO patients (id, mrn) VALUES ($1, coalesce($2, 'M' || nextval('numbers')))
    → source: SELECT CASE WHEN ($1::pg_catalog.text) IS NULL THEN nextval('numbers') END
    """
    outputs = whole.body.get("targetList", [])
    if not whole.calls.once or any(_is_set(whole, call) for call in bodies(outputs, ())):
        return {}
    signatures, values = whole.verdict.signatures, [only(node)[1]["val"] for node in outputs]
    reached = (one for value in values for one in calls_reached(whole.spans, signatures, value))
    found = {id(node["FuncCall"]): conditions for node, conditions in reached}
    return found | {id(node["FuncCall"]): () for node in unnoticed(whole.verdict, outputs)}


def _is_set(whole: Whole, message: Node) -> bool:
    """Tell whether it is a call of a function that returns a set."""
    called = whole.verdict.signatures.functions(strings(message["funcname"])[-1]) if "funcname" in message else ()
    return any(f.rows for f in called)


def _result(whole: Whole, functions: Collection[Function]) -> SourceColumn:
    results = {function.result for function in functions}
    declared = type_of(whole.a.context.catalog, results.pop(), -1) if len(results) == 1 else None
    if declared is None or not declared.name or not declared.known:
        raise Impossible("a value of the server's of a type that is not known")
    return SourceColumn(declared)


def _before_age(whole: Whole, node: Node, argument: Node) -> ServerValue:
    """age(x) is age(CURRENT_DATE, x)."""
    type_ = whole.verdict.types.get(id(only(argument)[1]))
    if type_ not in {BUILTIN_TYPES[name].oid for name in ("date", "timestamp", "timestamptz")}:
        raise Impossible("the age of something else than a date")
    first, _ = _call_tokens(whole, node)
    at = whole.spans.tokens[first].end
    today = SourceColumn(DeclaredType.builtin("date"))
    return ServerValue(at, at, _TODAY.encode(), _TODAY.lower(), today, (_TODAY, -1), inserted=True)


def _is_constant(node: Node) -> bool:
    kind, body = only(node)
    return kind == "A_Const" or (kind == "TypeCast" and "A_Const" in body["arg"])


def _call_span(whole: Whole, node: Node) -> tuple[int, int]:
    _, last = _call_tokens(whole, node)
    return location(node), whole.spans.tokens[last].end


def _call_tokens(whole: Whole, node: Node) -> tuple[int, int]:
    """Return the brackets of a call."""
    try:
        opening = whole.spans.next(whole.spans.at(location(node)), OPEN)
        return opening, whole.spans.partner(opening)
    except StatementRefused:
        raise Impossible("a call that is not found") from None


def _compared(whole: Whole, node: Node, name: str) -> ServerValue:
    """'today', compared with a date: in the source it is CAST('today' AS date)."""
    token = whole.spans.tokens[whole.spans.at(location(node))]
    written = b"CAST(" + whole.a.text[token.start : token.end] + b" AS " + name.encode() + b")"
    return ServerValue(token.start, token.end, written, name, SourceColumn(named_type(name)), _key(name, [{"A_Const": node}]))


def _clock_constant(whole: Whole, node: Node) -> ServerValue | None:
    """'today'::date, which is the server's today."""
    said = node["arg"].get("A_Const", {}).get("sval", {}).get("sval", "")
    if not means_clock(said):
        return None
    names = strings(node["typeName"].get("names"))
    if names[-1] not in MOMENTS or node["typeName"].get("typmods") or node["typeName"].get("arrayBounds"):
        return None
    spans, constant = whole.spans, location(node["arg"]["A_Const"])
    first = spans.at(constant)
    try:
        type_offset, type_end = spans.type_name({"TypeCast": node})
        at = location(node)
        if at not in (-1, type_offset) and spans.tokens[spans.at(at)].name == "CAST":
            return _clock(whole, node, at, spans.tokens[spans.partner(spans.at(at) + 1)].end)
    except StatementRefused:
        raise Impossible("a cast that is not found") from None
    return _clock(whole, node, min(constant, type_offset), max(spans.tokens[first].end, type_end))


def _clock(whole: Whole, node: Node, start: int, end: int) -> ServerValue:
    name = strings(node["typeName"]["names"])[-1]
    return ServerValue(start, end, whole.a.text[start:end], name, SourceColumn(named_type(name)), _key(name, [node["arg"]]))


_RULES = {"SQLValueFunction": _value_function, "FuncCall": _call, "TypeCast": _clock_constant}
