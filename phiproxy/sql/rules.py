"""The table of rules: which function understands which node of a statement."""

from phiproxy.sql.context import Rules
from phiproxy.sql.expressions import case_and_coalesce, conditions, documents, equality, expression, function_calls, operators
from phiproxy.sql.queries import from_items, joins, order_by, select
from phiproxy.sql.statements.ddl import alter_table, create_index, create_table, rename, row_security
from phiproxy.sql.writes import insert_update_delete, merge

RULES = Rules(
    expressions={
        "A_Const": expression.parameter_or_constant,
        "A_Expr": operators.operator_expression,
        "A_Indirection": documents.subscripts,
        "BoolExpr": conditions.bool_expression,
        "BooleanTest": conditions.boolean_test,
        "CaseExpr": case_and_coalesce.term_value,
        "CoalesceExpr": case_and_coalesce.term_value,
        "CollateClause": case_and_coalesce.term_value,
        "ColumnRef": expression.column_ref,
        "FuncCall": function_calls.function_call,
        "GroupingFunc": function_calls.grouping_function,
        "MinMaxExpr": order_by.greatest_or_least,
        "NullTest": equality.null_test,
        "ParamRef": expression.parameter_or_constant,
        "SortBy": order_by.sort_by,
        "SubLink": equality.subquery_expression,
        "TypeCast": function_calls.type_cast,
    },
    term_parts={
        "A_Expr": case_and_coalesce.nullif_term,
        "CaseExpr": case_and_coalesce.case_term,
        "CoalesceExpr": case_and_coalesce.coalesce_term,
        "CollateClause": case_and_coalesce.collate_term,
        "SubLink": case_and_coalesce.subquery_term,
    },
    from_items={
        "JoinExpr": joins.join,
        "RangeFunction": from_items.function,
        "RangeSubselect": from_items.subquery,
        "RangeTableSample": from_items.table_sample,
        "RangeVar": from_items.relation,
    },
    queries={
        "DeleteStmt": insert_update_delete.delete,
        "InsertStmt": insert_update_delete.insert,
        "MergeStmt": merge.merge,
        "SelectStmt": select.select,
        "UpdateStmt": insert_update_delete.update,
    },
    definitions={
        "AlterObjectSchemaStmt": rename.set_schema,
        "AlterPolicyStmt": row_security.policy,
        "AlterTableStmt": alter_table.alter_table,
        "CreatePolicyStmt": row_security.policy,
        "CreateStmt": create_table.create_table,
        "IndexStmt": create_index.create_index,
        "RenameStmt": rename.rename,
    },
)
