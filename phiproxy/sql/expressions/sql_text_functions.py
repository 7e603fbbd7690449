"""PostgreSQL's functions that run SQL given as text, or read a table named in a text: only constants can be checked."""

import re
from collections.abc import Callable

from phiproxy.effects import Effects
from phiproxy.errors import PathNeeded, StatementRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.table_names import check_reaching
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.text.rewritten_backslashes import either_way

_NAME = r'(?:[^\W\d][\w$]*|"(?:[^"]|"")+")'
_TABLE = re.compile(rf"\s*{_NAME}(?:\s*\.\s*{_NAME})?\s*")
# Casts that leave a constant what it is.
_CASTS = frozenset({"text", "regclass", "refcursor"})


def check_call(a: Analysis, call: Node) -> None:
    """Refuse a function that depends on a protected table, unless its SQL is a constant that names nothing protected.

    SELECT query_to_xml('SELECT ssn FROM patients', true, true, ''), ssn FROM patients
    → refused 0A000
    """
    names = strings(call["funcname"])
    check = _CHECKS.get(names[-1]) if names[:-1] in ([], ["pg_catalog"]) and _is_servers_own(a, names[-1]) else None
    if names[-1] not in a.context.catalog.reaching or check is None or a.context.names is None:
        check_reaching(a, names[-1], call)
        return
    try:
        unsure = not check(a, call)
    except PathNeeded:
        raise PathNeeded(a.position(call)) from None
    except StatementRefused as refusal:
        refusal.position = a.position(call)
        raise
    effects = a.answer.effects
    if unsure or effects.path_unknown or effects.catalog_changed or a.context.names.catalog_changed:
        raise a.refuse(
            f'"{names[-1]}" runs SQL or reads tables that are given as text, and this text may name something protected',
            call,
            hint="Give it a constant that names nothing protected, or send that SQL as a statement of its own.",
        )
    a.answer.cacheable = False
    a.answer.bound = True  # its names are looked up when it runs


def _is_servers_own(a: Analysis, name: str) -> bool:
    """Tell whether there is no function of this name besides PostgreSQL's own."""
    signatures = a.context.catalog.signatures
    return signatures is not None and not any(name in part.functions for part in signatures.parts[1:])


def _constant(a: Analysis, call: Node, number: int = 0) -> str | None:
    """Return an argument that is a constant and occurs literally in the statement, else None."""
    arguments = call.get("args", [])
    if len(arguments) <= number or call.get("func_variadic") or any("NamedArgExpr" in argument for argument in arguments):
        return None
    kind, body = only(arguments[number])
    if kind == "TypeCast":
        name = body["typeName"]
        if strings(name.get("names"))[-1] not in _CASTS or "typmods" in name or "arrayBounds" in name:
            return None
        kind, body = only(body["arg"])
    value = body.get("sval", {}).get("sval", "") if kind == "A_Const" else ""
    # What is spelled with escapes is not found by who looks for names in the text.
    spellings = (value.encode(), value.replace("'", "''").encode())
    return value if value and any(spelling in a.text for spelling in spellings) else None


def _passes(a: Analysis, text: str) -> bool:
    """Tell whether SQL touches nothing protected and changes nothing, with either setting of standard_conforming_strings."""
    assert a.context.names is not None
    for conforming in (True, False):
        plan = a.context.names.plan(either_way(text.encode(), conforming=conforming)[0], ())
        if not plan.identity or plan.touches or plan.effects != Effects():
            return False
    return True


def _query(a: Analysis, call: Node, number: int = 0) -> bool:
    text = _constant(a, call, number)
    return text is not None and _passes(a, text)


def _table(a: Analysis, call: Node) -> bool:
    name = _constant(a, call)
    return name is not None and _TABLE.fullmatch(name) is not None and _passes(a, "SELECT * FROM " + name)


def _cursor(a: Analysis, call: Node) -> bool:
    name = _constant(a, call)
    return name is not None and a.context.names is not None and a.context.names.portal(name) is None


def _schema(a: Analysis, call: Node) -> bool:
    name = _constant(a, call)
    tables = {(t.schema, t.name) for t in a.context.protection.tables}
    if name is None or name in {t.schema for t in a.context.protection.tables} | {a.context.protection.registry_schema}:
        return False
    here = [r for r in a.context.catalog.relations if r.schema == name]
    return not any((r.schema, r.name) in tables or r.name in a.context.catalog.reaching for r in here)


_Check = Callable[[Analysis, Node], bool]
# What is not here (database_to_xml, dblink, crosstab …) reads too much, or text that is not the server's own to read.
_CHECKS: dict[str, _Check] = {
    "ts_stat": _query,
    "ts_rewrite": lambda a, call: len(call.get("args", ())) == 3 or _query(a, call, 1),  # with three arguments it takes no SQL
    **{f"{given}_to_{what}": check for given, check in (("query", _query), ("table", _table), ("schema", _schema))
       for what in ("xml", "xmlschema", "xml_and_xmlschema")},
    **{f"cursor_to_{what}": _cursor for what in ("xml", "xmlschema")},
}  # fmt: skip
