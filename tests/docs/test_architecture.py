"""The page on architecture is about the tree that is there: its floors, its folders, and the files that it names."""

from __future__ import annotations

import re
import tomllib

from phiproxy.sql.passes import PASSES
from tests.docs.pages import ROOT, Page

TEXT = Page("docs/architecture.md").text
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def rows(heading: str) -> list[str]:
    """Return the first cells of the table under a heading."""
    section = TEXT[TEXT.index(f"\n## {heading}\n") :][1:].partition("\n## ")[0]
    return re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)


def layers(container: str) -> list[list[str]]:
    """Return the floors of the contract for the whole, or for a part of it."""
    contracts = [c for c in SETUP["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    (found,) = [c["layers"] for c in contracts if c.get("containers", [""]) == [container]]
    return [sorted(layer.split(" | ")) for layer in found]


def test_the_floors_are_those_that_are_checked() -> None:
    assert [sorted(re.findall(r"`(phiproxy\.\w+)`", cell)) for cell in rows("Floors")] == layers("")


def test_the_floors_of_the_analysis_and_its_passes_are_those_of_the_code() -> None:
    told = [sorted(re.findall(r"`(\w+)`", cell)) for cell in rows("sql")]
    assert told == layers("phiproxy.sql") + [[step.__name__] for step in PASSES]


def test_every_path_leads_somewhere() -> None:
    paths = set(re.findall(r"`((?:phiproxy|tests|config)/[\w/.-]*)`", TEXT))
    assert len(paths) > 20
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []
