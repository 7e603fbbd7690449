"""``make docs`` fails for a dead link, a dead anchor and a page that nobody finds, and what it builds fetches nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT

CONFIG = (ROOT / "tools" / "mkdocs.yml").read_text(encoding="utf-8")


def build(directory: Path, pages: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Build a site of these pages as the project's own is built, its table of contents being the page README.md."""
    (directory / "docs").mkdir()
    for name, text in pages.items():
        (directory / "docs" / name).write_text(text)
    settings = CONFIG[: CONFIG.index("nav:\n  - ")].replace("../docs", "docs").replace("../build/site", "site")
    (directory / "mkdocs.yml").write_text(f"{settings}nav: [README.md]\n")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--config-file", str(directory / "mkdocs.yml")],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def test_what_is_built_fetches_nothing(tmp_path: Path) -> None:
    done = build(tmp_path, {"README.md": "# One\n\n[Here](#here)\n\n## Here\n\n```sh\ntrue\n```\n"})
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "index.html").read_text()
    assert "stylesheet" in page
    assert re.findall(r'<(?:script|link|img)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*', page) == []


@pytest.mark.parametrize(
    ("pages", "told"),
    [
        ({"README.md": "[gone](gone.md)"}, "gone.md"),
        ({"README.md": "# One\n\n[gone](#gone)"}, "#gone"),
        ({"README.md": "# One\n", "two.md": "# Two\n"}, "two.md"),
        ({"README.md": "[code](../phiproxy/cli.py)"}, "../phiproxy/cli.py"),
    ],
    ids=["link", "anchor", "page outside of the table", "link out of the documentation"],
)
def test_what_leads_nowhere_fails(tmp_path: Path, pages: dict[str, str], told: str) -> None:
    done = build(tmp_path, pages)
    assert done.returncode != 0
    assert told in done.stderr


def test_the_table_of_contents_has_each_page_once() -> None:
    listed = re.findall(r"^ +- (?:\w+: )?([\w/.-]+\.md)$", CONFIG[CONFIG.index("\nnav:") :], re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} <= set(listed)
