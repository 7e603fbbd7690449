"""The tables of rules are filled, and a query without a rule is refused."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.sql.analysis import Analysis, Context
from phiproxy.sql.meaning import Meaning
from phiproxy.sql.rules import EXPRESSIONS, FROM_ITEMS, QUERIES, query
from phiproxy.sql.scope import Scope
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.sql.ask import PLANNER


def test_the_tables_hold_what_is_understood() -> None:
    assert PLANNER is not None
    assert set(QUERIES) == {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}
    assert {"RangeVar", "RangeSubselect", "RangeFunction", "RangeTableSample", "JoinExpr"} == set(FROM_ITEMS)
    assert {"ColumnRef", "ParamRef", "A_Const", "TypeCast", "NullTest", "A_Expr", "FuncCall", "SubLink"} <= set(EXPRESSIONS)


def test_a_query_without_a_rule_is_refused() -> None:
    a = Analysis(b"VALUE", Context(PROTECTION, CATALOG, PATH, "clinic"), Meaning("write", 0, 5))
    with pytest.raises(StatementRefused):
        query(a, "PLAssignStmt", {}, Scope(()))
