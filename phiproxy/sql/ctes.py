"""WITH: each query a source of those behind it, and of itself where it is recursive (manual 7.8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phiproxy.sql.analysis import Analysis, rename
from phiproxy.sql.dependent import Dependency, dependencies, passed_on
from phiproxy.sql.expressions import clear
from phiproxy.sql.parse import Node, messages, only
from phiproxy.sql.rules import query
from phiproxy.sql.scope import CLEAR, Clear, Output, Protected, Scope, Source, SourceColumn, list_groups, source_of
from phiproxy.sql.setops import set_operation


def with_clause(a: Analysis, clause: Node | None, outer: Scope) -> None:
    """Analyse WITH: each CTE becomes a source of the innermost CTE level."""
    if clause is None:
        return
    ctes = [only(node)[1] for node in clause["ctes"]]
    for cte in _ordered(a, ctes) if clause.get("recursive") else ctes:
        if clause.get("recursive") and cte["ctename"] in _referred(cte["ctequery"]):
            outputs = _recursive(a, cte, outer)
        else:
            outputs = query(a, *only(cte["ctequery"]), Scope((), outer))
        for group in list_groups(value for _, value in outputs):
            group.references -= 1  # only who names the CTE uses it
        _name(a, cte, outputs)


def _referred(tree: Node) -> set[str]:
    return {m["relname"] for m in messages(tree) if "relname" in m and "schemaname" not in m}


def _ordered(a: Analysis, ctes: Sequence[Node]) -> list[Node]:
    """Return the queries of WITH RECURSIVE with each behind those that it refers to, as PostgreSQL sorts them."""
    names = {cte["ctename"] for cte in ctes}
    waiting = [(cte, names & _referred(cte["ctequery"]) - {cte["ctename"]}) for cte in ctes]
    ordered: list[Node] = []
    while waiting:
        done = {cte["ctename"] for cte in ordered}
        following = next((entry for entry in waiting if entry[1] <= done), None)
        if following is None:
            why = "mutual recursion between WITH items is not implemented"
            raise a.refuse(why, waiting[0][0], hint="PostgreSQL has none: let one query do both.")
        ordered.append(following[0])
        waiting.remove(following)
    return ordered


def _name(a: Analysis, cte: Node, outputs: list[Output]) -> None:
    """Let the queries behind refer to a CTE, with the columns that SEARCH and CYCLE add."""
    source = rename(source_of(cte["ctename"], outputs), {"colnames": cte.get("aliascolnames", ())})
    search, cycle = cte.get("search_clause", {}), cte.get("cycle_clause", {})
    for clause, key in ((search, "search_col_list"), (cycle, "cycle_col_list")):
        for node in clause.get(key, ()):
            _check_column(a, clause, source, only(node)[1].get("sval", ""))
    for key in ("cycle_mark_value", "cycle_mark_default"):
        if key in cycle:
            clear(a, cycle[key], Scope(()))
    names = (search.get("search_seq_column"), cycle.get("cycle_mark_column"), cycle.get("cycle_path_column"))
    added = [SourceColumn(name, CLEAR) for name in names if name is not None]
    a.ctes[-1][cte["ctename"]] = Source(source.alias, (*source.columns, *added), None, source.opaque, system=False)


def _check_column(a: Analysis, clause: Node, source: Source, name: str) -> None:
    for column in source.owns(name):
        if isinstance(column.value, Protected):
            raise a.refuse(
                f"SEARCH or CYCLE by {column.value.column.label}, which is protected, is not in this version",
                clause,
                hint="Name columns that are not protected, such as the key.",
            )


def _recursive(a: Analysis, cte: Node, outer: Scope) -> list[Output]:
    """Analyse UNION of a start and a step that refers to what is already there."""
    kind, body = only(cte["ctequery"])
    if kind != "SelectStmt" or body.get("op") != "SETOP_UNION":
        why = f'the recursive query "{cte["ctename"]}" is no UNION of a start and a step'
        raise a.refuse(why, cte, hint="Write … UNION ALL ….")
    inside = Scope((), outer)
    levels = len(a.ctes)
    a.ctes.append({})
    try:
        if cte["ctename"] in _referred(body.get("withClause", {})):
            why = f'a query of WITH inside of the recursive query "{cte["ctename"]}" refers to it'
            raise a.refuse(why, cte, hint="Refer to it in the step of the UNION.")
        with_clause(a, body.get("withClause"), inside)

        def start(operand: Node) -> list[Output]:
            outputs = query(a, "SelectStmt", operand, inside)
            for _, value in outputs:
                if not isinstance(value, Clear | Protected):
                    value.users.append(None)  # what the step makes of it would be a value of the server's
            a.ctes[-1][cte["ctename"]] = rename(source_of(cte["ctename"], outputs), {"colnames": cte.get("aliascolnames", ())})
            return outputs

        def step(operand: Node) -> list[Output]:
            return query(a, "SelectStmt", operand, inside)

        starts, steps = list(_parts(body["larg"])), list(_parts(body["rarg"]))
        outputs = set_operation(a, body, start, step, as_it_is=True)
        if not body.get("all"):
            _check_rows(a, cte, outputs, starts, steps)
        return outputs
    finally:
        del a.ctes[levels:]


def _parts(body: Node) -> Iterator[Node]:
    """Yield the queries whose rows a UNION passes on; of another set operation itself, since no query has its rows."""
    if body.get("op") == "SETOP_UNION":
        yield from _parts(body["larg"])
        yield from _parts(body["rarg"])
    else:
        yield body


def _check_rows(a: Analysis, cte: Node, outputs: Sequence[Output], starts: Sequence[Node], steps: Sequence[Node]) -> None:
    """Refuse a recursive UNION, which compares rows, unless the rows that are equal have the same envelopes.

    They have where each part takes the protected columns, or all that was found before, from one row of a table and shows its
    primary key too.
    """
    known: list[set[Dependency]] | None = None
    source = a.ctes[-1][cte["ctename"]]
    for part in (*starts, *steps):
        selected = a.selected.get(id(part))
        if selected is None:
            known = [set() for _ in outputs]
            break
        found = dependencies(a, selected)
        if known is None:
            known = found
            continue
        passed = passed_on(selected, source, known)
        known = [before & (own | kept) for before, own, kept in zip(known, found, passed, strict=True)]
    for (_, value), keys in zip(outputs, known or (), strict=True):
        if isinstance(value, Protected) and not keys:
            raise a.refuse(
                f"a recursive UNION over {value.column.label} compares rows, and stored values that are equal differ",
                cte,
                hint=f"Let each of its queries select {value.column.name} and the primary key of its table, in the same places; "
                "or use UNION ALL, and let the step end by a condition; or CYCLE over the key.",
            )
