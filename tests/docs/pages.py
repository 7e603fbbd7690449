"""Pages of the documentation and their commands, run as a reader runs them: from the top, in one directory and one shell.

How a page is written so that its commands can be run:

- A fenced block whose language is ``sh`` or ``console`` is run; of ``console`` the lines that begin with ``$ `` (and ``> `` below
  them), the others show output. ``sql`` is given to psql. ``yaml`` whose first line is a comment with a file's name
  (``# policy.yaml``) is written into that file; other ``yaml`` replaces its top-level keys in ``phiproxy.yaml``.
- A line ``<!-- not run: WHY -->`` directly above a block says that it is not run. ``tests/docs/test_pages.py`` finds blocks of
  ``sh`` and ``console`` that are neither run by a test nor marked so.
- ``phiproxy serve`` on a line of its own goes on in the background, as in another terminal, until the shell is closed.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from phiproxy.policy.load import load_settings
from tests.harness.forks import can_be_forked, client_command
from tests.harness.proxy import environment
from tests.harness.server import PostgresServer

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
COMMANDS = frozenset({"sh", "console"})

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+)(?P<language>[\w-]*)")
_NOT_RUN = re.compile(r"^\s*<!-- not run: (?P<why>.+) -->$")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+?)\s*$")
_SERVE = re.compile(r"^phiproxy serve\b")


@dataclass(frozen=True)
class Block:
    """A fenced block: the heading it stands under, its language, its text without indentation, and why it is not run (or None)."""

    section: str
    language: str
    text: str
    not_run: str | None

    @property
    def commands(self) -> str:
        """The shell commands of a block of ``sh`` or ``console``."""
        if self.language != "console":
            return self.text
        lines = [line[2:] for line in self.text.splitlines() if line.startswith(("$ ", "> "))]
        return "".join(f"{line}\n" for line in lines)


def fenced_blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a Markdown text in order; a fence that is not closed is a ValueError."""
    blocks: list[Block] = []
    section, above, lines = "", "", iter(text.splitlines())
    for line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            heading = _HEADING.match(line)
            section = heading["title"] if heading else section
            above = line.strip() and line
            continue
        inside: list[str] = []
        for row in lines:
            if row.strip() == fence["fence"]:
                break
            inside.append(row.removeprefix(fence["indent"]))
        else:
            raise ValueError(f"under {section!r}: a fence that is not closed")
        mark = _NOT_RUN.match(above)
        blocks.append(Block(section, fence["language"], "".join(f"{row}\n" for row in inside), mark and mark["why"]))
        above = ""
    return blocks


@dataclass(frozen=True)
class Page:
    """A page by its path from the root of the checkout, ``docs/restore-the-registry.md``."""

    name: str

    @property
    def text(self) -> str:
        """What is in the file."""
        return (ROOT / self.name).read_text(encoding="utf-8")

    @property
    def blocks(self) -> list[Block]:
        """All blocks that are run, in order."""
        return [block for block in fenced_blocks(self.text) if block.not_run is None]

    def section(self, title: str) -> list[Block]:
        """Return the blocks that are run under one heading; that there are none is a KeyError."""
        blocks = [block for block in self.blocks if block.section == title]
        if not blocks:
            raise KeyError(f"{self.name} has no block under {title!r}")
        return blocks


@dataclass
class Shell:
    """A reader's terminal: a directory, an environment, and the servers that were started in it.

    What one block exports, defines as a function or changes into is there for the next. ``replace`` are texts of the page that are
    others here, such as addresses. With ``server`` there is a ``psql`` of its version that goes to ``database`` unless told.
    ``phiproxy`` is a fork, see forks.py, unless ``env`` has something for the interpreter.
    ``programs`` are further scripts for the search path, by name; each is run by this Python.
    """

    directory: Path
    env: Mapping[str, str] = field(default_factory=dict)
    replace: Mapping[str, str] = field(default_factory=dict)
    server: PostgresServer | None = None
    database: str = "postgres"
    programs: Mapping[str, Path] = field(default_factory=dict)
    _serving: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._bin = self.directory / ".bin"
        self._bin.mkdir(exist_ok=True)
        self._state = self._bin / "state"
        self._state.write_text(f"cd {shlex.quote(str(self.directory))}\n")
        program = [sys.executable, "-m", "phiproxy"]
        if can_be_forked((), self.env):
            program = client_command(environment(), str(ROOT))
        self._program("phiproxy", f'exec {shlex.join(program)} "$@"')
        for name, script in self.programs.items():
            self._program(name, f'exec {sys.executable} {script} "$@"')
        if self.server is not None and self.server.bindir is not None:
            self._program("psql", f'exec {self.server.bindir}/psql -X "$@"')

    def walk(self, blocks: Iterable[Block]) -> str:
        """Do what the blocks say, one after the other; what the commands printed on standard output is returned."""
        printed = []
        for block in blocks:
            if block.language in COMMANDS:
                printed.append(self.run(block.commands))
            elif block.language == "sql":
                printed.append(self.run(f"psql -v ON_ERROR_STOP=1 -q <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\n"))
            elif block.language == "yaml":
                self.write(block.text)
        return "".join(printed)

    def write(self, yaml: str) -> None:
        """Write a whole file that names itself in its first line, or put top-level keys into ``phiproxy.yaml``."""
        text = self._local(yaml)
        first, _, _ = text.partition("\n")
        named = re.fullmatch(r"# ([\w./-]+\.yaml)\b.*", first)
        if named is not None:
            (self.directory / named[1]).write_text(text)
            return
        config = self.directory / "phiproxy.yaml"
        sections = re.split(r"(?m)^(?=[a-z])", config.read_text())
        for section in re.split(r"(?m)^(?=[a-z])", text):
            key = section.partition(":")[0]
            sections = [old for old in sections if old.partition(":")[0] != key or not old.strip()] + [section]
        config.write_text("".join(sections))

    def run(self, commands: str) -> str:
        """Run commands under bash, which ends at the first that fails; returns standard output, a failure shows everything."""
        printed, waiting = [], ""
        for line in self._local(commands).splitlines(keepends=True):
            if _SERVE.match(line):
                printed.append(self._bash(waiting))
                self._serve(line)
                waiting = ""
            else:
                waiting += line
        return "".join([*printed, self._bash(waiting)])

    def close(self) -> None:
        """End the servers."""
        for process in self._serving:
            process.terminate()
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._serving.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _bash(self, commands: str) -> str:
        if not commands.strip():
            return ""
        script = f'. "{self._state}"\n{commands}\n{{ export -p; declare -f; printf "cd %q\\n" "$PWD"; }} >"{self._state}"\n'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=self._environment(), cwd=self.directory, capture_output=True, text=True, check=False, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _serve(self, line: str) -> None:
        arguments = shlex.split(line, comments=True)[1:]
        config = arguments[arguments.index("-c") + 1] if "-c" in arguments else "phiproxy.yaml"
        address = load_settings(self.directory / config).listen[0]
        log = self.directory / f"serve-{len(self._serving)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", f'. "{self._state}"\nexec {line}'],
                env=self._environment(), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        self._serving.append(process)
        end = time.monotonic() + 240
        while time.monotonic() < end and process.poll() is None:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((address.host, address.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{line.strip()}: it does not listen:\n{log.read_text(errors='replace')[-2000:]}")

    def _program(self, name: str, command: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)

    def _local(self, text: str) -> str:
        for there, here in self.replace.items():
            text = text.replace(there, here)
        return text

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        paths = {"PATH": f"{self._bin}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        if self.server is None:
            return {**inherited, **paths, **self.env}
        postgres = {
            "PGHOST": self.server.host,
            "PGPORT": str(self.server.port),
            "PGUSER": self.server.superuser,
            "PGPASSWORD": self.server.password,
            "PGDATABASE": self.database,
        }
        return {**inherited, **paths, **postgres, **self.env}
