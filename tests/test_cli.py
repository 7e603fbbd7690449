"""The command line: help, exit codes, and that nothing ends in a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from phiproxy import __version__, cli
from phiproxy.errors import ConfigError
from tests.harness.proxy import run_cli


def commands() -> list[list[str]]:
    top = typer.main.get_command(cli.app)
    found = [["keys", name] for name in top.commands["keys"].commands]  # type: ignore[attr-defined]
    return [*found, *([name] for name in top.commands if name != "keys")]  # type: ignore[attr-defined]


def test_what_is_there() -> None:
    assert sorted(" ".join(c) for c in commands()) == [
        "check",
        "ddl",
        "demo",
        "explain",
        "keys accept-rollback",
        "keys compromise",
        "keys export",
        "keys import",
        "keys init",
        "keys list",
        "keys retire",
        "keys rewrap",
        "keys rotate",
        "open",
        "serve",
    ]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Example: phiproxy {' '.join(command)}" in text


@pytest.mark.parametrize("arguments", [["wibble"], ["check", "--wibble"], ["explain"], ["open"], ["keys", "compromise", "1"]])
def test_usage_is_2(arguments: list[str]) -> None:
    assert cli.main(arguments) == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("one\ntwo", hint="do this"), "phiproxy: one\nphiproxy: two; do this\n"),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), "phiproxy: x.yaml: No such file or directory\n"),
        (OSError(98, "Address already in use"), "phiproxy: Address already in use\n"),
    ],
)
def test_what_goes_wrong_is_told_in_lines(
    error: Exception, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("phiproxy.commands.check.check", fail)
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().err == text


def test_an_unexpected_error_does_not_say_its_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("123-45-6789")

    monkeypatch.setattr("phiproxy.commands.check.check", fail)
    assert cli.main(["check"]) == 1
    err = capsys.readouterr().err
    assert "internal error: ValueError at tests/test_cli.py:" in err
    assert "123" not in err.replace("test_cli.py:", "")


def test_as_a_process(tmp_path: Path) -> None:
    done = run_cli("check", "-c", str(tmp_path / "none.yaml"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"phiproxy: {tmp_path}/none.yaml: cannot be read: No such file or directory\n"
    assert run_cli("wibble").returncode == 2


def test_help_imports_none_of_the_commands() -> None:
    program = (
        "import sys; from phiproxy.cli import main; main(['--help']);"
        "print([m for m in ('psycopg', 'pydantic', 'cryptography', 'pglast') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_the_demo_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError("No module named 'faker'", name="faker")

    monkeypatch.setattr(cli, "import_module", missing)
    assert cli.main(["demo", "--once"]) == 1
    assert capsys.readouterr().err == "phiproxy: the demo needs faker; pip install 'phiproxy[demo]'\n"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"phiproxy {__version__}\n"
