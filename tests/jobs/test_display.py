"""What a job says while it runs: lines to read, lines of JSON, and a bar that draws itself."""

from __future__ import annotations

import json

import pytest

from phiproxy.jobs.display import Bar, display


def test_lines_of_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phiproxy.jobs.display.JSON_EVERY", 0.0)
    with display(as_json=True) as shown:
        shown.phase("filling", 10)
        shown.advance(4)
        shown.waits("standby a is 20 s behind")
        shown.waits("")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"phase": "filling", "total": 10}
    assert (lines[1]["rows"], lines[1]["total"]) == (4, 10)
    assert lines[1].keys() == {"phase", "rows", "total", "rows_per_s", "seconds_left"}
    assert lines[2] == {"phase": "filling", "waits": "standby a is 20 s behind"}


def test_lines_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    with display(as_json=False) as shown:
        shown.phase("filling", 10)
        shown.advance(4)
        shown.waits("a lock")
        shown.waits("")
    err = capsys.readouterr().err
    assert "phiproxy: filling\n" in err
    assert "filling: waits: a lock\n" in err
    assert "filling: 4 of about 10 rows, " in err


def test_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as shown:
        shown.phase("filling", 10)
        shown.advance(4)
        shown.waits("a lock")
    assert "filling" in capsys.readouterr().err
