"""WITH: each query is a source of those behind it, and of itself if it is recursive (manual 7.8)."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import clear, query
from phiproxy.sql.queries.set_operations import set_operation
from phiproxy.sql.resolve.functional_dependencies import Dependency, combined_in, dependencies, passed_on
from phiproxy.sql.resolve.protected_values import CLEAR, Clear, Output, Protected, list_groups
from phiproxy.sql.resolve.scope import Scope, Source, SourceColumn, source_of
from phiproxy.sql.table_names import rename
from phiproxy.sql.text.parse import Node, messages, only


def with_clause(a: Analysis, clause: Node, outer: Scope) -> None:
    """Analyse WITH: each CTE becomes a source of the innermost CTE level.

    WITH p AS (SELECT ssn AS s FROM patients) SELECT s FROM p WHERE s = 'x'
    → WITH p AS (SELECT ssn AS s FROM patients) SELECT s FROM p WHERE tag(s) = tag('x')

    WITH RECURSIVE r AS (SELECT ssn FROM patients UNION SELECT ssn FROM r) SELECT ssn FROM r
    → refused 0A000
    """
    ctes = [only(node)[1] for node in clause["ctes"]]
    for cte in _ordered(a, ctes) if clause.get("recursive") else ctes:
        if clause.get("recursive") and cte["ctename"] in _referred(cte["ctequery"]):
            outputs = _recursive(a, cte, outer)
        else:
            outputs = query(a, *only(cte["ctequery"]), Scope((), outer))
        for group in list_groups(value for _, value in outputs):
            group.references -= 1  # only who names the CTE uses it
        _name(a, cte, outputs)


def ctes_of(a: Analysis, body: Node, outer: Scope) -> AbstractContextManager[None]:
    """Analyse the WITH of a query, and let its CTEs be in sight inside."""
    return _in_sight(a, body["withClause"], outer) if "withClause" in body else nullcontext()


@contextmanager
def _in_sight(a: Analysis, clause: Node, outer: Scope) -> Iterator[None]:
    a.ctes.append({})
    try:
        with_clause(a, clause, outer)
        yield
    finally:
        a.ctes.pop()


def _referred(tree: Node) -> set[str]:
    return {m["relname"] for m in messages(tree) if "relname" in m and "schemaname" not in m}


def _ordered(a: Analysis, ctes: Sequence[Node]) -> list[Node]:
    """Return the queries of WITH RECURSIVE in the order in which PostgreSQL analyses them, each behind those that it refers to."""
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
    """Make a CTE a source for the queries behind it, with the columns that SEARCH and CYCLE add."""
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
            why = f"SEARCH or CYCLE by {column.value.column.label}, which is protected, is not in this version"
            raise a.refuse(why, clause, hint="Name columns that are not protected, such as the key.")


def _recursive(a: Analysis, cte: Node, outer: Scope) -> list[Output]:
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
        if "withClause" in body:
            with_clause(a, body["withClause"], inside)

        def start(operand: Node) -> list[Output]:
            outputs = query(a, "SelectStmt", operand, inside)
            for _, value in outputs:
                if not isinstance(value, Clear | Protected):
                    value.users.append(None)  # what the step makes of it would be a value of the server's
            a.ctes[-1][cte["ctename"]] = rename(source_of(cte["ctename"], outputs), {"colnames": cte.get("aliascolnames", ())})
            return outputs

        outputs = set_operation(a, body, start, lambda step: query(a, "SelectStmt", step, inside), by_envelopes=True)
        if not body.get("all"):
            _check_rows(a, cte, outputs)
        return outputs
    finally:
        del a.ctes[levels:]


def _check_rows(a: Analysis, cte: Node, outputs: Sequence[Output]) -> None:
    """Refuse a recursive UNION, which compares rows by their envelopes, unless equal rows have equal envelopes.

    They have where each query takes the protected columns from one row of a table and selects its primary key too, or takes them
    from the rows found before.
    """
    common_keys: list[set[Dependency]] | None = None
    source = a.ctes[-1][cte["ctename"]]
    for selected in combined_in(outputs):
        if selected is None:
            common_keys = [set() for _ in outputs]
            break
        own_keys = dependencies(a.context.catalog, selected)
        if common_keys is None:
            common_keys = own_keys
            continue
        passed = passed_on(selected, source, common_keys)
        common_keys = [before & (own | same_row) for before, own, same_row in zip(common_keys, own_keys, passed, strict=True)]
    for (_, value), keys in zip(outputs, common_keys or (), strict=True):
        if isinstance(value, Protected) and not keys:
            raise a.refuse(
                f"a recursive UNION over {value.column.label} compares rows, and stored values that are equal differ",
                cte,
                hint=f"Let each of its queries select {value.column.name} and the primary key of its table, in the same places; "
                "or use UNION ALL, and let the step end by a condition; or CYCLE over the key.",
            )
