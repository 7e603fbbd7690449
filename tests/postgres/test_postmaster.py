"""A server as a process: made, started, awaited, stopped; also when it does not obey, or never starts."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from phiproxy.postgres import binaries, postmaster
from phiproxy.postgres.binaries import Runner
from tests.engine.both import computed_for
from tests.harness.waiting import has_ended, until

OPTIONS = ("-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8", "--no-sync")


@pytest.fixture
def place() -> Iterator[tuple[Runner, Path, Path]]:
    """Who runs it, where its programs are, and an empty directory of theirs."""
    who = binaries.runner()
    directory = Path(tempfile.mkdtemp(prefix="phiproxy-postmaster-", dir=binaries.roomy_directory(who)))
    who.own(directory)
    yield who, binaries.find(who, directory), directory
    shutil.rmtree(directory)


def test_a_server_is_made_started_and_stopped(place: tuple[Runner, Path, Path]) -> None:
    who, bindir, directory = place
    data = directory / "data"
    assert postmaster.initdb(who, bindir, data, *OPTIONS).returncode == 0
    postmaster.write_settings(data, {"listen_addresses": "", "unix_socket_directories": str(directory)})
    process = postmaster.launch(who, bindir, data, "-c", "fsync=off", output=subprocess.DEVNULL)
    assert postmaster.wait_ready(process, data)
    assert (directory / ".s.PGSQL.5432").is_socket()
    postmaster.stop(process)
    assert process.returncode == 0
    assert not postmaster.is_ready(process, data)


def test_what_a_killed_postmaster_leaves_behind_is_killed(place: tuple[Runner, Path, Path]) -> None:
    who, bindir, directory = place
    data = directory / "data"
    assert postmaster.initdb(who, bindir, data, *OPTIONS).returncode == 0
    settings = {"listen_addresses": "", "unix_socket_directories": str(directory)}
    postmaster.write_settings(data, settings)
    process = postmaster.launch(who, bindir, data, output=subprocess.DEVNULL)
    assert postmaster.wait_ready(process, data)
    with closing(psycopg.connect(f"host={directory} user=postgres dbname=postgres", autocommit=True)) as conn:
        backend = conn.info.backend_pid
        conn.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000)")
        conn.pgconn.flush()
        until(lambda: computed_for(backend) > 0.1, "it does not begin")  # one that waits for a query would end by itself
        process.kill()
        process.wait()
        time.sleep(0.3)
        assert not has_ended(backend)
        postmaster.kill_orphans(data)
        until(lambda: has_ended(backend), "it lives on")


def test_what_does_not_obey_is_killed(place: tuple[Runner, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postmaster, "_STOPPING", ((signal.SIGINT, 0.2), (signal.SIGQUIT, 0.2), (signal.SIGKILL, 5.0)))
    process = subprocess.Popen(["/bin/sh", "-c", "trap '' INT QUIT; echo; while :; do sleep 1; done"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    postmaster.stop(process)
    assert process.returncode == -signal.SIGKILL
    process.stdout.close()


def test_a_server_that_does_not_start_is_noticed(place: tuple[Runner, Path, Path]) -> None:
    who, bindir, directory = place
    data = directory / "data"
    assert postmaster.initdb(who, bindir, data, *OPTIONS).returncode == 0
    log = directory / "log"
    with log.open("wb") as output:
        process = postmaster.launch(who, bindir, data, "-c", "shared_buffers=nonsense", output=output)
    assert not postmaster.wait_ready(process, data)
    assert process.wait(240) != 0
    assert "shared_buffers" in postmaster.last_words(log.read_text())


def test_the_last_words() -> None:
    text = "x LOG:  starting\nx FATAL:  no room\nx HINT: y\nx LOG:  database system is shut down\n"
    assert postmaster.last_words(text) == "no room; database system is shut down"
    assert postmaster.last_words("plain\n") == "plain"
    assert postmaster.last_words("") == "it said nothing"
