"""What is installed: documentation, examples and schemas that messages point to; and a version that changes are listed under."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

import phiproxy

ROOT = Path(__file__).parent.parent
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NAMES = sorted(path.name for path in (ROOT / "config").iterdir() if path.is_file())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_configuration_is_in_the_package(name: str) -> None:
    """There is one: what is in the package is a link, of which the wheel has the content."""
    assert (files("phiproxy") / "config" / name).read_bytes() == (ROOT / "config" / name).read_bytes()
    assert (ROOT / "phiproxy" / "config" / name).resolve() == ROOT / "config" / name
    patterns = SETUP["tool"]["setuptools"]["package-data"]["phiproxy"]
    assert any(Path(f"config/{name}").match(pattern) for pattern in patterns)


def test_both_files_have_an_example_and_a_schema() -> None:
    assert NAMES == ["phiproxy.example.yaml", "phiproxy.schema.json", "policy.example.yaml", "policy.schema.json"]


def test_the_changes_of_this_version_are_listed_below_those_of_the_next() -> None:
    versions = re.findall(r"^## (?:\[)?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[:2] == ["Unreleased", phiproxy.__version__]
    assert SETUP["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "phiproxy.__version__"}


def test_a_version_of_the_changes_has_each_part_once() -> None:
    """A merge that puts entries of one version below another, or twice, is found."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for version in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        parts = re.findall(r"^### (.+)$", version, re.MULTILINE)
        assert len(parts) == len(set(parts))
        assert set(parts) <= {"Added", "Changed", "Fixed", "Removed", "Security", "Stored format", "SQL"}


def test_the_wheel_has_everything_that_messages_point_to(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check", "-w", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=550)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        page = archive.read("phiproxy/docs/errors.md").decode()
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "phiproxy").rglob("*.py"))
    pages = set(re.findall(r"docs/[\w/-]+\.md", code))
    assert "docs/errors.md" in pages
    assert {f"phiproxy/{page}" for page in pages} <= names
    assert {f"phiproxy/config/{name}" for name in NAMES} <= names
    assert f"phiproxy-{phiproxy.__version__}.data/data/share/man/man1/phiproxy.1" in names
    anchors = set(re.findall(r'anchor="([\w-]+)"', code))
    assert len(anchors) > 5
    assert {anchor for anchor in anchors if f"## {anchor}" not in page} == set()
