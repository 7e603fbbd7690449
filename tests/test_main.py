"""``python -m phiproxy`` is the command line."""

from __future__ import annotations

from tests.harness.proxy import run_cli


def test_runs_the_command_line() -> None:
    done = run_cli("--help", fresh=True)
    assert done.returncode == 0
    assert "serve" in done.stdout


def test_hands_on_the_exit_code() -> None:
    assert run_cli("no-such-command", fresh=True).returncode == 2
