"""No files of phiproxy import each other in a circle, not for types either."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CODE = Path(__file__).parent.parent / "phiproxy"


def _module(file: Path) -> str:
    return ".".join(file.relative_to(CODE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_module(file): file for file in sorted(CODE.rglob("*.py"))}


def _imported(source: str) -> set[str]:
    """Return the modules of phiproxy that a file imports, wherever in it; a name of a package's own is the package."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names}
    return found & MODULES.keys()


def _in_order(imports: dict[str, set[str]]) -> None:
    TopologicalSorter(imports).prepare()


def test_no_circle() -> None:
    _in_order({name: _imported(file.read_text()) - {name} for name, file in MODULES.items()})


def test_a_circle_of_types_is_found() -> None:
    one = _imported("if TYPE_CHECKING:\n    from phiproxy.wire.oids import TEXT_OID\n")
    other = _imported("def late():\n    from phiproxy import frozen\n    import phiproxy.errors\n")
    assert one == {"phiproxy.wire.oids"}
    assert other == {"phiproxy.frozen", "phiproxy.errors"}
    with pytest.raises(CycleError):
        _in_order({"phiproxy.frozen": one, "phiproxy.wire.oids": other})
