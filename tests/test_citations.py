"""Every document and section that code or documentation cites is there.

One form in code: ``spec/sql 2.4`` is section 2.4 of docs/spec/sql.md. Other pages are named by their path, with the anchor where
one is meant: ``docs/registry.md#the-anchor``. Links between pages are checked where the documentation is built (``make docs``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
KINDS = {".py", ".md", ".yaml", ".yml", ".toml", ".sql", ".sh", ".json", ""}

_SECTION = re.compile(r"(?<![\w/-])spec/([a-z-]+)(?!\.md|[\w/-])(?: (\d+(?:\.\d+)*))?")
_PAGE = re.compile(r"(?<![\w/.-])docs/([\w/-]+\.md)(?:#([\w-]+))?")
_NUMBERED = re.compile(r"^#{2,4} (\d+(?:\.\d+)*)\.? ", re.MULTILINE)
# Files of the designs that were before the specifications.
_GONE = re.compile(r"\b(?:crypto|protocol|config|sql)\.md,? (?:section|sections)\b|(?<![\w/.-])(?:crypto|config)\.md\b")


@lru_cache
def sections(document: str) -> frozenset[str] | None:
    """Return the numbers of a specification's sections, None where there is no such document."""
    path = DOCS / "spec" / f"{document}.md"
    return frozenset(_NUMBERED.findall(path.read_text(encoding="utf-8"))) if path.exists() else None


@lru_cache
def anchors(path: Path) -> frozenset[str]:
    """Return the anchors of a page: its headings as every forge makes them, and those that are written."""
    text = path.read_text(encoding="utf-8")
    headings = re.findall(r"^#{1,6} (.+?)\s*$", text, re.MULTILINE)
    made = {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in headings}
    return frozenset(made | set(re.findall(r'<a id="([\w-]+)">', text)) | set(re.findall(r"\{ ?#([\w-]+) ?\}", text)))


def faults(text: str) -> Iterator[str]:
    """Yield the citations of a text that lead nowhere."""
    for cited in _SECTION.finditer(text):
        found = sections(cited[1])
        if found is None or cited[2] is None or cited[2] not in found:
            yield cited[0]
    for cited in _PAGE.finditer(text):
        path = DOCS / cited[1]
        if not path.exists() or (cited[2] is not None and cited[2] not in anchors(path)):
            yield cited[0]
    yield from (cited[0] for cited in _GONE.finditer(text))


def files() -> list[Path]:
    """Return what is searched: code, tests, benchmarks, configuration and documentation."""
    folders = ("phiproxy", "tests", "benchmarks", "config", "docs", "tools", ".ci")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in KINDS and path.is_file()]
    top = [path for path in ROOT.glob("*") if path.suffix in KINDS and path.is_file()]
    return [path for path in found + top if path.name not in (".coverage", Path(__file__).name, "LICENSE")]


def test_every_citation_leads_somewhere() -> None:
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in files()}
    assert sum(len(_SECTION.findall(text)) for text in texts.values()) > 60
    assert {str(path.relative_to(ROOT)): told for path, text in texts.items() if (told := list(faults(text)))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "spec/sql 99", "spec/sql 2.99", "spec/nowhere 1", "as spec/sql says", "docs/nowhere.md", "docs/registry.md#nowhere",
        "crypto.md section 6", "see config.md",
    ],
)  # fmt: skip
def test_a_citation_of_nothing_is_found(text: str) -> None:
    assert list(faults(f"(… {text})")) != []


@pytest.mark.parametrize(
    "text", ["spec/sql 2.4", "(spec/stored-format 6)", "docs/registry.md", "docs/registry.md#the-anchor", "docs/spec/sql.md"]
)
def test_a_citation_of_a_section_that_exists_is_none(text: str) -> None:
    assert list(faults(f"(… {text}, …)")) == []
