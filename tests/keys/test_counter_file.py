"""The counter last seen: only ever raised, by many at once, and kept over a restart."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from phiproxy.errors import ConfigError
from phiproxy.keys.counter_file import Watermark

ANCHOR, OTHER = "reg1-" + "a" * 64, "reg1-" + "b" * 64


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def kept(path: Path, anchor: str = ANCHOR) -> int:
    mark = Watermark(anchor, path)
    await mark.read()
    return mark.counter


async def test_it_is_raised_and_never_lowered(tmp_path: Path) -> None:
    path = tmp_path / "counter.json"
    mark = Watermark(ANCHOR, path, keep=True)
    await mark.read()
    assert mark.counter == 0
    for seen in (3, 9, 5):
        await mark.raise_to(seen)
    assert (mark.counter, await kept(path), await kept(path, OTHER)) == (9, 9, 0)
    behind = Watermark(ANCHOR, path, keep=True)
    await behind.raise_to(4)
    await Watermark(OTHER, path, keep=True).raise_to(2)
    assert (await kept(path), await kept(path, OTHER)) == (9, 2)
    assert json.loads(path.read_text()) == {"phiproxy_counters": 1, "counters": {ANCHOR: 9, OTHER: 2}}
    assert names(tmp_path) == ["counter.json", "counter.json.lock"]


async def test_of_many_workers_the_highest_stays(tmp_path: Path) -> None:
    path = tmp_path / "counter.json"
    await asyncio.gather(*(Watermark(ANCHOR, path, keep=True).raise_to(n) for n in range(1, 40)))
    assert await kept(path) == 39


async def test_a_command_reads_and_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "counter.json"
    await Watermark(ANCHOR, path).raise_to(7)
    assert names(tmp_path) == []


async def test_what_cannot_be_written_is_told_once_and_remembered_all_the_same(tmp_path: Path) -> None:
    told: list[OSError] = []
    mark = Watermark(ANCHOR, tmp_path / "nowhere" / "counter.json", keep=True)
    mark.trouble = told.append
    await mark.raise_to(1)
    await mark.raise_to(2)
    assert (mark.counter, len(told)) == (2, 1)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"phiproxy_counters": 1, "counters": {"x": "y"}}', '{"phiproxy_counters": 2}'])
async def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counter.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not a file of registry counters"):
        await Watermark(ANCHOR, path).read()
