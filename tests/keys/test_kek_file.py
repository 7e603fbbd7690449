"""The KEK file: strict to read, never overwritten, never quoted."""

from __future__ import annotations

import json
import os
import stat
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.kek_file import Argon2Cost, PlainKek, SealedKek, add, create, read

KEY = b64encode(b"K" * 32).decode()
SEALED = {"sealed": b64encode(b"S" * 60).decode(), "argon2id": {"salt": b64encode(b"a" * 16).decode(), "t": 3, "m": 65536, "p": 4}}


def write(path: Path, content: object, mode: int = 0o600) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


def document(**changed: Any) -> dict[str, Any]:
    return {"phiproxy_kek": 1, "current": 1, "keys": {"1": {"key": KEY}}} | changed


def refuse(path: Path) -> str:
    with pytest.raises(ProviderMisconfigured) as caught:
        read(path)
    text = caught.value.message
    assert str(path) in text
    assert "\n" not in text
    assert "KKKK" not in repr(caught.value)
    assert KEY[:8] not in text
    return text


def test_what_is_created_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys" / "kek.json"
    assert create(path, b"K" * 32) is True
    assert path.stat().st_mode & 0o7777 == 0o600
    assert read(path).keys == {1: PlainKek(b"K" * 32)}
    assert json.loads(path.read_text()) == document()
    assert [p.name for p in path.parent.iterdir()] == ["kek.json"]


def test_a_sealed_key_is_created_and_read_back(tmp_path: Path) -> None:
    entry = SealedKek(b"S" * 60, Argon2Cost(b"a" * 16))
    assert create(tmp_path / "kek.json", entry) is True
    assert read(tmp_path / "kek.json").keys == {1: entry}
    assert json.loads((tmp_path / "kek.json").read_text())["keys"]["1"] == SEALED


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "kek.json", "something else")
    assert create(path, b"K" * 32) is False
    assert path.read_text() == "something else"
    assert [p.name for p in tmp_path.iterdir()] == ["kek.json"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProviderMisconfigured, match="cannot be created"):
        create(tmp_path / "file" / "kek.json", b"K" * 32)


def test_several_versions(tmp_path: Path) -> None:
    found = read(write(tmp_path / "k", document(current=12, keys={"3": {"key": KEY}, "12": SEALED})))
    assert found.current == 12
    assert found.keys == {3: PlainKek(b"K" * 32), 12: SealedKek(b"S" * 60, Argon2Cost(b"a" * 16))}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o700, 0o604, 0o200])
def test_other_modes_are_refused(tmp_path: Path, mode: int) -> None:
    assert f"{mode:04o}" in refuse(write(tmp_path / "k", document(), mode))


def test_the_stricter_mode_is_taken(tmp_path: Path) -> None:
    assert read(write(tmp_path / "k", document(), 0o400)).current == 1


def test_another_owner_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "k", document())
    other = os.geteuid() + 1
    monkeypatch.setattr("phiproxy.keys.kek_file.os.geteuid", lambda: other)
    assert "owner" in refuse(path)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    assert "regular file" in refuse(tmp_path)
    assert "No such file" in refuse(tmp_path / "absent")
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "regular file" in refuse(tmp_path / "fifo")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = json.dumps(document(keys={"1": {"key": KEY}, "2": SEALED}))
    for end in range(len(whole)):
        refuse(write(tmp_path / "k", whole[:end]))


BROKEN: list[object] = [
    [],
    "null",
    document(phiproxy_kek=2),
    document(phiproxy_kek=True),
    document(phiproxy_kek="1"),
    document(extra=1),
    document(current=2),
    document(current="1"),
    document(current=True),
    document(current=0),
    document(keys=[]),
    document(keys={"1": {"key": KEY}, "01": {"key": KEY}}),
    document(keys={"1": {"key": KEY}, "x": {"key": KEY}}),
    document(keys={"1": KEY}),
    document(keys={"1": {}}),
    document(keys={"1": {"key": KEY, "sealed": "x"}}),
    document(keys={"1": {"key": 5}}),
    document(keys={"1": {"key": KEY[:-4]}}),
    document(keys={"1": {"key": b64encode(b"K" * 31).decode()}}),
    document(keys={"1": {"key": KEY + "\n"}}),
    document(keys={"1": {"sealed": SEALED["sealed"]}}),
    document(keys={"1": SEALED | {"sealed": KEY}}),
    *(
        document(keys={"1": SEALED | {"argon2id": {"salt": b64encode(b"a" * 16).decode(), "t": 3, "m": 65536, "p": 4} | bad}})
        for bad in ({"t": 0}, {"t": 65}, {"m": 8}, {"m": 1 << 22}, {"p": 65}, {"p": True}, {"salt": "YQ=="}, {"x": 1})
    ),
    json.dumps(document()).replace('"current": 1', '"current": 1, "current": 1'),
    "[" * 100_000,
]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_every_other_content_is_refused(tmp_path: Path, content: object) -> None:
    refuse(write(tmp_path / "k", content))


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    assert "too large" in refuse(write(tmp_path / "k", " " * (1 << 20) + json.dumps(document())))


@given(content=st.binary(max_size=80))
def test_garbage_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ProviderMisconfigured):
        read(path)


def test_no_repr_holds_a_key(tmp_path: Path) -> None:
    content = read(write(tmp_path / "k", document(keys={"1": {"key": KEY}, "2": SEALED})))
    assert "KKK" not in repr(content)
    assert "SSS" not in repr(content)


def test_a_key_is_added_whole_and_only_to_the_file_that_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "kek.json"
    create(path, b"1" * 32)
    seen = read(path)
    assert add(path, seen, b"2" * 32) == 2
    assert add(path, seen, b"3" * 32) is None
    now = read(path)
    assert (now.current, set(now.keys)) == (2, {1, 2})
    assert now.keys[1] == seen.keys[1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["kek.json"]
    with pytest.raises(ProviderMisconfigured, match="cannot be changed"):
        add(tmp_path / "none.json", seen, b"2" * 32)
