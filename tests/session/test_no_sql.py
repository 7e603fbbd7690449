"""Nothing that session imports is SQL's, by whatever module it comes: what the import contract cannot see."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

from phiproxy.session import core

SESSION = Path(core.__file__).parent


def test_no_name_that_session_imports_from_plan_is_defined_in_sql() -> None:
    imported = {
        (node.module, name.name)
        for path in SESSION.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("phiproxy.plan.")
        for name in node.names
    }
    assert imported
    for module, name in imported:
        home = getattr(getattr(import_module(module), name), "__module__", module)
        assert not home.startswith("phiproxy.sql"), f"{name}, which {module} passes on, is {home}'s"
