"""A fork is what a new process would have been."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from tests.conformance.front import POLICY
from tests.harness.forks import Forked, can_be_forked, client_command, forked
from tests.harness.proxy import ROOT, command, environment, run_cli
from tests.harness.waiting import until


def start(*arguments: str) -> Forked:
    with tempfile.TemporaryFile() as sink:
        return forked(arguments, environment(), str(ROOT), sink, sink)


@pytest.mark.parametrize("arguments", [("--help",), ("keys", "rotate", "--help"), ("check", "-c", "/no/such/file"), ("wibble",)])
def test_says_and_returns_the_same(arguments: tuple[str, ...]) -> None:
    real = subprocess.run(command(*arguments), env=environment(), cwd=ROOT, capture_output=True, text=True, check=False)
    fork = run_cli(*arguments)
    assert fork.returncode == real.returncode
    assert (fork.stdout, fork.stderr) == (real.stdout, real.stderr)
    program = [*client_command(environment(), str(ROOT)), *arguments]
    shells = subprocess.run(program, env=environment(), cwd="/", capture_output=True, text=True, check=False)
    assert (shells.returncode, shells.stdout, shells.stderr) == (real.returncode, real.stdout, real.stderr)


def test_a_signal_goes_from_what_a_shell_has_started_to_the_fork(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.yaml")
    program = [*client_command(environment(), str(ROOT)), "check", "-c", "never.yaml"]
    with subprocess.Popen(program, env=environment(), cwd=tmp_path) as process:
        writing: list[int] = []

        def is_read() -> bool:
            with contextlib.suppress(OSError):  # nobody reads yet
                writing.append(os.open(tmp_path / "never.yaml", os.O_WRONLY | os.O_NONBLOCK))
            return bool(writing)

        until(is_read, "the file is not read")
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM
        with pytest.raises(BrokenPipeError):
            os.write(writing[0], b"x")
        os.close(writing[0])


def test_the_environment_is_the_one_given(tmp_path: Path) -> None:
    config = tmp_path / "phiproxy.yaml"
    config.write_text(
        "upstream: {address: 127.0.0.1:1, tls: disable}\nservice: {user: x, password: env:OF_THIS_TEST}\n"
        "keys: {kek: local:kek.json}\npolicies: [policy.yaml]\n"
    )
    (tmp_path / "policy.yaml").write_text(POLICY.format(database="clinic"))
    without = run_cli("keys", "list", "-c", str(config))
    within = run_cli("keys", "list", "-c", str(config), env={"OF_THIS_TEST": "y"})
    assert "OF_THIS_TEST" in without.stderr
    assert within.stderr
    assert "OF_THIS_TEST" not in within.stderr


def test_the_end_is_told_to_every_thread() -> None:
    process = start("--help")
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(process.wait(240))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 4
    assert process.poll() == 0


def test_a_signal_that_ends_it_is_told_and_patience_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.yaml")  # opening it waits for a writer
    process = start("check", "-c", f"{tmp_path}/never.yaml")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.kill()
    assert process.wait(240) == -signal.SIGKILL
    process.terminate()  # nothing to end any more, and no complaint


def test_what_the_interpreter_must_read_is_not_forked() -> None:
    assert can_be_forked(["serve"], {"PHIPROXY_SERVICE_PASSWORD": "x"})
    assert not can_be_forked(["serve"], {"OPENSSL_CONF": "x"})
    assert not can_be_forked(["demo", "--once"], {})
