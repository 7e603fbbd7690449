"""The items of FROM: tables, subqueries, functions, TABLESAMPLE (manual 7.2.1)."""

from dataclasses import replace

from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import clear, query
from phiproxy.sql.queries.select import from_item
from phiproxy.sql.queries.unnest import unnest_source
from phiproxy.sql.queries.views import is_pulled_up, view_source
from phiproxy.sql.resolve.protected_values import Protected
from phiproxy.sql.resolve.scope import Joined, Scope, Source, joined_of, source_of
from phiproxy.sql.table_names import from_source, rename
from phiproxy.sql.text.parse import Node, only


def relation(a: Analysis, body: Node, _outer: Scope, _left: Joined) -> Joined:
    """A table, view or CTE, under its alias.

    SELECT p.ssn FROM patients AS p
    → SELECT p.ssn FROM "public".patients AS p

    SELECT n, ssn FROM names_of_cities, patients
    → SELECT n, ssn FROM names_of_cities, patients
    """
    return joined_of(view_source(a, body) or from_source(a, body))


def subquery(a: Analysis, body: Node, outer: Scope, left: Joined) -> Joined:
    """A subquery, with its outputs as columns.

    SELECT s.ssn FROM (SELECT ssn FROM patients) AS s WHERE s.ssn = 'x'
    → SELECT s.ssn FROM (SELECT ssn FROM patients) AS s WHERE tag(s.ssn) = tag('x')
    """
    outputs = query(a, *only(body["subquery"]), left.scope(outer) if body.get("lateral") else outer)
    alias = body.get("alias", {})
    if not is_pulled_up(only(body["subquery"])[1]):
        outputs = [(n, replace(v, planned=None) if isinstance(v, Protected) and v.planned is not None else v) for n, v in outputs]
    return joined_of(rename(source_of(alias.get("aliasname", "\0"), outputs), alias))


def function(a: Analysis, body: Node, outer: Scope, left: Joined) -> Joined:
    """A function. Its columns are not known, and none is protected; ``unnest`` of given arrays has their elements.

    SELECT p.id FROM patients p JOIN unnest($1::text[]) AS u (s) ON p.ssn = u.s
    → SELECT p.id FROM patients p JOIN unnest(tags($1)) AS u (s) ON tag(p.ssn) = u.s

    SELECT ssn FROM patients, pairs()
    → SELECT ssn FROM "public".patients, pairs()
    """
    scope = left.scope(outer)
    given = unnest_source(a, body, scope)
    if given is not None:
        return given
    label = body.get("alias", {}).get("aliasname")
    for function in body["functions"]:
        # A List of the call and, perhaps, its column definitions, which are no expressions.
        for node in only(function)[1]["items"]:
            if not node:
                continue
            kind, call = only(node)
            if kind == "List":
                continue
            clear(a, node, scope)
            if label is None and kind == "FuncCall":
                label = only(call["funcname"][-1])[1].get("sval")
    return Joined([Source(label or "\0", (), opaque=True, system=False)])


def table_sample(a: Analysis, body: Node, outer: Scope, left: Joined) -> Joined:
    """TABLESAMPLE: the server chooses the rows, whatever their values are.

    SELECT ssn FROM patients TABLESAMPLE system (1)
    → SELECT ssn FROM "public".patients TABLESAMPLE system (1)
    """
    for part in (*body.get("args", ()), *([body["repeatable"]] if "repeatable" in body else ())):
        clear(a, part, left.scope(outer))
    return from_item(a, *only(body["relation"]), outer, left)
