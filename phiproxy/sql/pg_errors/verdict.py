"""PostgreSQL's own error for a statement that the proxy refuses, if PostgreSQL would reject it too, by rules for each node."""

from collections import Counter
from collections.abc import Sequence

from phiproxy.errors import DatatypeMismatch, PhiproxyError, StatementRefused, WrongCount
from phiproxy.policy.signatures import UNKNOWN
from phiproxy.sql import rules
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.expressions.user_types import note_declared
from phiproxy.sql.pg_errors import calls, expression_types, operators, whole_statements, writes
from phiproxy.sql.pg_errors.expression_types import type_of
from phiproxy.sql.pg_errors.names_and_signatures import Level, Outputs, Rules, Verdict, first
from phiproxy.sql.text.parse import Node, Statement, messages, only
from phiproxy.types.names import sql_name

RULES = Rules(
    expressions={
        "A_ArrayExpr": expression_types.array,
        "A_Const": expression_types.constant,
        "A_Expr": operators.operator_expression,
        "A_Indirection": expression_types.indirection,
        "BoolExpr": expression_types.bool_expression,
        "BooleanTest": expression_types.boolean_test,
        "CaseExpr": operators.case,
        "CoalesceExpr": expression_types.choice,
        "CollateClause": expression_types.collate,
        "ColumnRef": expression_types.column_ref,
        "FuncCall": calls.function_call,
        "MinMaxExpr": expression_types.choice,
        "NullTest": expression_types.null_test,
        "ParamRef": expression_types.parameter,
        "RowExpr": expression_types.row_expression,
        "SQLValueFunction": expression_types.value_function,
        "SubLink": operators.subquery_expression,
        "TypeCast": expression_types.type_cast,
    },
    queries={
        "DeleteStmt": writes.update_or_delete,
        "InsertStmt": writes.insert,
        "MergeStmt": writes.merge,
        "SelectStmt": whole_statements.select,
        "UpdateStmt": writes.update_or_delete,
    },
)


# What may stand around a query, and the field that holds it.
_AROUND = ("ExplainStmt", "DeclareCursorStmt", "CopyStmt", "CreateTableAsStmt", "PrepareStmt", "ViewStmt")


def rejection(statement: Statement, text: bytes, context: Context) -> StatementRefused | None:
    """Return PostgreSQL's error for a statement that was refused; None where it may accept it, or that is not known."""
    a = Analysis(text, context, statement, rules.RULES)
    try:
        note_declared(a.whole(), context.catalog, context.declared)
        _judge(a, refused=True)
    except StatementRefused as said:
        said.confirmed = said.confirmed or said.sqlstate != StatementRefused.sqlstate
        return said if said.confirmed else None
    except (PhiproxyError, RecursionError):
        return None  # the refusal stands, whatever this is
    return None


def confirm(a: Analysis) -> None:
    """Check a statement that was analysed: PostgreSQL must accept it, and its results must have the types that are shown.

    ``SELECT coalesce(age, 2.5)`` is a numeric, as which a protected integer is not shown. Raises PostgreSQL's error, or
    StatementRefused where a result has another type.
    """
    try:
        outputs = _judge(a, sent=True)
    except StatementRefused as said:
        said.confirmed = said.confirmed or said.sqlstate != StatementRefused.sqlstate
        if said.confirmed:
            raise
        return
    except (PhiproxyError, RecursionError):
        return
    signatures, reveals = a.context.catalog.signatures, a.answer.outputs
    if outputs is None or reveals is None or signatures is None or len(outputs) != len(reveals):
        return
    for output, reveal in zip(outputs, reveals, strict=True):
        output_type = signatures.base(output.type) if reveal is not None else None
        if reveal is not None and output_type not in (None, UNKNOWN, signatures.base(reveal.type.oid)):
            why = f"{reveal.column.label} would be shown as {signatures.shown(output_type)}, together with values of that type"
            raise StatementRefused(why, hint=f"Give them as {sql_name(reveal.column.type)}.", position=a.at(first(output.node)))


def types(a: Analysis, body: Node) -> tuple[Verdict, Outputs]:
    """Return what is known of the types in a query that PostgreSQL accepts, and its results; StatementRefused where it does not."""
    assert a.context.catalog.signatures is not None
    verdict = Verdict(a, a.context.catalog.signatures, RULES)
    return verdict, RULES.queries["SelectStmt"](verdict, body, None)


def check_executed(a: Analysis, values: Sequence[Node], wanted: Sequence[int], starts: Sequence[int]) -> None:
    """Check that the values of an EXECUTE, which begin at these offsets, may be assigned to its parameters; DatatypeMismatch.

    ``EXECUTE q (true)`` is 42804 where ``q`` was prepared with an int.
    """
    signatures = a.context.catalog.signatures
    if signatures is None:
        return
    verdict = Verdict(a, signatures, RULES)
    for number, (node, target, start) in enumerate(zip(values, wanted, starts, strict=True), start=1):
        source = type_of(verdict, node, Level())
        if not signatures.takes(target, source, "a"):
            why = f"parameter ${number} of type {signatures.shown(source)} cannot be coerced to the expected type"
            hint = "You will need to rewrite or cast the expression."
            raise verdict.error(DatatypeMismatch, f"{why} {signatures.shown(target)}", start, hint)


def _judge(a: Analysis, *, sent: bool = False, refused: bool = False) -> Outputs:
    """Check the types of a statement, and return those of its results, None where they are not known."""
    signatures = a.context.catalog.signatures
    kind, body = a.statement.kind, a.statement.body
    while kind in _AROUND and "query" in body:
        kind, body = only(body["query"])
    if signatures is None or kind not in RULES.queries:
        return None
    verdict = Verdict(a, signatures, RULES, sent=sent, refused=refused, once=_once(a.statement) if refused else frozenset())
    outputs = RULES.queries[kind](verdict, body, None)
    named = a.statement.body.get("aliases", ()) if a.statement.kind == "ViewStmt" else ()
    if outputs is not None and len(named) > len(outputs):
        raise WrongCount("CREATE VIEW specifies more column names than columns", hint="Name as many as the query has.")
    return outputs


def _once(statement: Statement) -> frozenset[int]:
    """Return the numbers of the parameters that stand at one place only; of SQL's PREPARE, which may say their types, none.

    Elsewhere the first place would give a parameter its type (parse_param.c).
    """
    if statement.kind == "PrepareStmt":
        return frozenset()
    references = [m["ParamRef"] for m in messages(statement.body) if isinstance(m.get("ParamRef"), dict)]
    places = Counter(body.get("number", 0) for body in references)
    return frozenset(number for number, count in places.items() if count == 1)
