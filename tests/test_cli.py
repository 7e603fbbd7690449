"""The command line: help, exit codes, and that nothing ends in a traceback."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import typer.main

from phiproxy import __version__, cli
from phiproxy.errors import ConfigError, ProviderDenied
from tests.harness.proxy import environment, run_cli


def commands() -> list[list[str]]:
    top = typer.main.get_command(cli.app)
    groups = {name: getattr(command, "commands", None) for name, command in top.commands.items()}  # type: ignore[attr-defined]
    inside = [[group, name] for group, commands in groups.items() for name in commands or ()]
    return [*inside, *([name] for name, commands in groups.items() if commands is None)]


def test_what_is_there() -> None:
    assert sorted(" ".join(c) for c in commands()) == [
        "audit export",
        "audit key",
        "audit prune",
        "audit review",
        "audit search",
        "audit subject",
        "audit verify",
        "check",
        "ddl",
        "decrypt",
        "demo",
        "encrypt",
        "explain",
        "init",
        "jobs abort",
        "jobs pause",
        "jobs resume",
        "keys accept-rollback",
        "keys compromise",
        "keys export",
        "keys import",
        "keys init",
        "keys list",
        "keys retire",
        "keys rewrap",
        "keys rotate",
        "observe report",
        "open",
        "recrypt",
        "reindex",
        "report",
        "respond",
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
        (ConfigError("one\ntwo", hint="do this"), "phiproxy: one\nphiproxy: two; do this (docs/errors.md#err-config)\n"),
        (FileNotFoundError(2, "No such file", "x.yaml"), "phiproxy: x.yaml: No such file (docs/errors.md#err-config)\n"),
        (ProviderDenied("no"), "phiproxy: no (docs/errors.md#err-keys)\n"),
        (OSError(98, "Address already in use"), "phiproxy: Address already in use (docs/errors.md#err-config)\n"),
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


def test_that_the_server_has_ended_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("consuming input failed: server closed\nthe connection")

    monkeypatch.setattr("phiproxy.commands.check.check", fail)
    assert cli.main(["check"]) == 1
    said = "phiproxy: the database server: consuming input failed: server closed the connection (docs/errors.md#err-config)\n"
    assert capsys.readouterr().err == said


def test_an_unexpected_error_does_not_say_its_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("123-45-6789")

    monkeypatch.setattr("phiproxy.commands.check.check", fail)
    assert cli.main(["check"]) == 1
    err = capsys.readouterr().err
    assert re.search(r"internal error: ValueError at phiproxy/cli\.py:\d+ tests/test_cli\.py:\d+;", err)
    assert err.endswith("; please report it (docs/errors.md#err-internal)\n")
    assert "123-45" not in err


def test_as_a_process(tmp_path: Path) -> None:
    done = run_cli("check", "-c", str(tmp_path / "none.yaml"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"phiproxy: {tmp_path}/none.yaml: cannot be read: No such file or directory (docs/errors.md#err-config)\n"
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
    assert capsys.readouterr().err == "phiproxy: the demo needs faker; pip install 'phiproxy[demo]' (docs/errors.md#err-config)\n"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"phiproxy {__version__}\n"


def test_the_configuration_may_be_named_by_the_environment(tmp_path: Path) -> None:
    named = {"PHIPROXY_CONFIG": str(tmp_path / "named.yaml")}
    assert f"phiproxy: {tmp_path}/named.yaml: cannot be read" in run_cli("check", env=named).stderr
    assert f"phiproxy: {tmp_path}/other.yaml: cannot be read" in run_cli("check", "-c", f"{tmp_path}/other.yaml", env=named).stderr


def test_help_says_where_the_documentation_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    docs, _, config = capsys.readouterr().out.partition("Documentation, and examples of both files: ")[2].split()
    assert (Path(docs) / "errors.md").is_file()
    assert (Path(config) / "policy.example.yaml").is_file()


# Each completes `phiproxy keys re` as somebody types it, once the script that the program gives is read.
COMPLETED = {
    "bash": """
source <(_PHIPROXY_COMPLETE=source_bash phiproxy)
COMP_WORDS=(phiproxy keys re) COMP_CWORD=2
"$(complete -p phiproxy | sed 's/.*-F \\([^ ]*\\) .*/\\1/')" phiproxy
printf '%s\\n' "${COMPREPLY[@]}"
""",
    # Without a terminal there is no completion system: its two functions that the script calls say what they are told.
    "zsh": """
compdef() { print -r -- "compdef $@" >&2; }
_arguments() { print -r -- "$@"; }
source <(_PHIPROXY_COMPLETE=source_zsh phiproxy)
words=(phiproxy keys re) CURRENT=3
_phiproxy_completion
""",
    "fish": """
_PHIPROXY_COMPLETE=source_fish phiproxy | source
complete -C "phiproxy keys re"
""",
}


@pytest.mark.parametrize("shell", COMPLETED)
def test_completion(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "phiproxy").write_text(f'#!/bin/sh\nexec {sys.executable} -m phiproxy "$@"\n')
    (tmp_path / "phiproxy").chmod(0o755)
    env = {**environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "PHIPROXY_TEST": "1"}
    done = subprocess.run([program, "-c", COMPLETED[shell]], env=env, capture_output=True, text=True, timeout=240, check=False)
    assert {"retire", "rewrap"} <= set(re.findall(r"\w+", done.stdout)), done.stdout + done.stderr
    assert "rotate" not in done.stdout
