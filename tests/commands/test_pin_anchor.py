"""One line is added to phiproxy.yaml, in whichever style that is written, and nothing else of it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from phiproxy.commands.pin_anchor import line, pin
from phiproxy.policy.load import load_settings

ANCHOR, OTHER = "reg1-" + "a" * 64, "reg1-" + "b" * 64
ENTRY = f'"clinic": {ANCHOR}'
WRITTEN = [
    ("", f"keys:\n  anchor: {{{ENTRY}}}\n"),
    ("workers: 2 # two", f"workers: 2 # two\nkeys:\n  anchor: {{{ENTRY}}}\n"),
    ("keys: {kek: local:k.json} # here\n", f"keys: {{anchor: {{{ENTRY}}}, kek: local:k.json}} # here\n"),
    (
        "# ours\nkeys:\n    # the file\n    kek: local:k.json\n",
        f"# ours\nkeys:\n    # the file\n    anchor: {{{ENTRY}}}\n    kek: local:k.json\n",
    ),
    (
        f"keys:\n  kek: local:k.json\n  anchor: {{ward: {OTHER}}}\n",
        f"keys:\n  kek: local:k.json\n  anchor: {{{ENTRY}, ward: {OTHER}}}\n",
    ),
    ("keys: {anchor: {}}\n", f"keys: {{anchor: {{{ENTRY}}}}}\n"),
    ("keys: {}\nworkers: 1\n", f"keys: {{anchor: {{{ENTRY}}}}}\nworkers: 1\n"),
    ("? keys\n: kek: local:k\n", f"? keys\n: anchor: {{{ENTRY}}}\n  kek: local:k\n"),
    ("keys: &k {kek: local:k.json}\n", f"keys: &k {{anchor: {{{ENTRY}}}, kek: local:k.json}}\n"),
    ("keys:\r\n  kek: local:k.json # \u00e9 ours\r\n", f"keys:\r\n  anchor: {{{ENTRY}}}\n  kek: local:k.json # \u00e9 ours\r\n"),
    (f"keys:\n  anchor:\n    ward: {OTHER} # w\n", f"keys:\n  anchor:\n    {ENTRY}\n    ward: {OTHER} # w\n"),
]


@pytest.mark.parametrize(("before", "after"), WRITTEN)
def test_it_is_added(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "phiproxy.yaml"
    path.write_bytes(before.encode())
    path.chmod(0o640)
    assert pin(path, "clinic", ANCHOR)
    assert path.read_bytes().decode() == after
    assert path.stat().st_mode & 0o777 == 0o640
    assert load_settings(path).keys.anchor["clinic"] == ANCHOR
    assert [p.name for p in tmp_path.iterdir()] == ["phiproxy.yaml"]


@pytest.mark.parametrize("text", ["keys:\n", "keys: null\n", "keys:\n  ? kek\n  : local:k\n", "{workers: 1}\n"])
def test_a_form_that_is_not_known_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "phiproxy.yaml"
    path.write_text(text)
    assert not pin(path, "clinic", ANCHOR)
    assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["phiproxy.yaml"]


def test_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "phiproxy.yaml"
    path.write_text("keys: {kek: local:k.json}\n")

    def readonly(*_values: object, **_options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", readonly)
    assert not pin(path, "clinic", ANCHOR)
    assert path.read_text() == "keys: {kek: local:k.json}\n"
    assert line("clinic", ANCHOR) == f"anchor: {{{ENTRY}}}"
