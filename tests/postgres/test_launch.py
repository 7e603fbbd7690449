"""The exec wrapper: another user without groups, a signal at the parent's death, a plain word when there is nothing to run."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from phiproxy.postgres import launch
from tests.harness.waiting import has_ended, until

SHELL = "/bin/sh"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", launch.__file__, *arguments], capture_output=True, text=True, check=False, cwd="/")


def test_without_a_user_it_is_a_plain_exec() -> None:
    done = run("-", "-", "-", SHELL, "-c", "id -u; echo $0; exit 7", "argument")
    assert done.stdout.split() == [str(os.geteuid()), "argument"]
    assert done.returncode == 7


@as_root
def test_becomes_the_user_and_loses_every_group() -> None:
    nobody = pwd.getpwnam("nobody")
    done = run(str(nobody.pw_uid), str(nobody.pw_gid), "-", SHELL, "-c", "id -u; id -G; umask")
    assert done.stdout.split() == [str(nobody.pw_uid), str(nobody.pw_gid), "0077"]


@pytest.mark.parametrize("before", ["ulimit -c 0", "ulimit -S -c 1000000", "ulimit -S -c 0"])
def test_there_are_no_core_files(before: str) -> None:
    show = "import resource; print(*resource.getrlimit(resource.RLIMIT_CORE))"
    command = shlex.join([sys.executable, "-I", launch.__file__, "-", "-", "-", sys.executable, "-c", show])
    done = subprocess.run([SHELL, "-c", f"{before}; exec {command}"], capture_output=True, text=True, check=True)
    # Not every root may raise a limit.
    assert done.stdout.split() == ["1", "1"] or (before == "ulimit -c 0" and done.stdout.split() == ["0", "0"])


def test_a_missing_program_is_one_line() -> None:
    done = run("-", "-", "-", "/nowhere/postgres")
    assert done.returncode == 1
    assert done.stderr == "/nowhere/postgres: No such file or directory\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a signal at the parent's death is Linux's")
def test_does_not_start_when_the_parent_is_already_gone() -> None:
    done = run("-", "-", str(os.getpid() + 1), SHELL, "-c", "echo started")
    assert (done.stdout, done.returncode) == ("", 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a signal at the parent's death is Linux's")
@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=as_root)])
def test_dies_with_its_parent(tmp_path: Path, user: str | None) -> None:
    ids = ["-", "-"] if user is None else [str(pwd.getpwnam(user).pw_uid), str(pwd.getpwnam(user).pw_gid)]
    code = (
        "import os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"  # what a shell has started behind itself ignores it
        "command = [sys.executable, '-I', sys.argv[1], *sys.argv[2:4], str(os.getpid()), '/bin/sleep', '600']\n"
        "print(subprocess.Popen(command, cwd='/').pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", code, launch.__file__, *ids]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        command = Path(f"/proc/{child}/cmdline")
        until(lambda: b"sleep" in command.read_bytes().split(b"\0")[0], "it does not begin")
        parent.kill()
    until(lambda: has_ended(child), "it lives on")
