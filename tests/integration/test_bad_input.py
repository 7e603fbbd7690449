"""Bad input: one clear line and exit 1, never a traceback; and a client that sends garbage hurts nobody else."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from tests.harness.clinic import Clinic
from tests.harness.proxy import run_cli

COMMANDS = [("serve",), ("check",), ("ddl",), ("keys", "init"), ("keys", "list")]


@pytest.fixture
def copied(clinic: Clinic, tmp_path: Path) -> Path:
    """A copy of the site's files on a free port, to be broken."""
    for name in ("policy.yaml", "kek.json"):
        shutil.copy2(clinic.site.directory / name, tmp_path / name)
    text = clinic.site.config.read_text().replace(f"127.0.0.1:{clinic.site.proxy.port}", f"127.0.0.1:{free_port()}")
    config = tmp_path / "phiproxy.yaml"
    config.write_text(text)
    return config


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def complaint(clinic: Clinic, config: Path, command: tuple[str, ...]) -> str:
    """Run a command that must fail; return its one line. What ``check`` finds is its result, on standard output."""
    if command == ("check",):
        command = ("check", "--json")
    done = run_cli(*command, "-c", str(config), env=clinic.site.env, timeout=240)
    assert done.returncode == 1, f"exit {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    # the log of serve may stand beside it
    lines = [line for line in done.stderr.splitlines() if line.startswith("phiproxy:")]
    if command[0] == "serve":  # all that it says is its log
        lines = [" ".join(json.loads(line)["complaints"]) for line in done.stderr.splitlines() if '"cannot start"' in line]
    if not lines and command[0] == "check":
        return done.stdout
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_key(clinic: Clinic, copied: Path, command: tuple[str, ...]) -> None:
    edit(copied, "listen:", "lissen:")
    line = complaint(clinic, copied, command)
    assert f"{copied}:1:1:" in line
    assert "'lissen'" in line
    assert "'listen'" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_policy_with_an_unknown_key(clinic: Clinic, copied: Path, command: tuple[str, ...]) -> None:
    edit(copied.with_name("policy.yaml"), "pad: 64", "padd: 64")
    line = complaint(clinic, copied, command)
    assert "policy.yaml:" in line
    assert "padd" in line


@pytest.mark.parametrize("command", [("serve",), ("ddl",), ("check",)])
def test_a_policy_that_names_a_missing_column(clinic: Clinic, copied: Path, command: tuple[str, ...]) -> None:
    edit(copied.with_name("policy.yaml"), "address:   {type: text}", "adress:    {type: text}")
    done = run_cli(*command, "-c", str(copied), env=clinic.site.env)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    # one line for each thing that is wrong with it: not registered, not there
    said = done.stdout if command == ("check",) else done.stderr
    assert "policy.yaml:12:7" in said
    assert ("has no column adress" if command != ("ddl",) else "adress is not registered") in " ".join(said.split())


@pytest.mark.parametrize("command", [("serve",), ("keys", "init")])
def test_a_key_file_that_others_can_read(clinic: Clinic, copied: Path, command: tuple[str, ...]) -> None:
    copied.with_name("kek.json").chmod(0o644)
    line = complaint(clinic, copied, command)
    assert "kek.json" in line
    assert "0600" in line


@pytest.mark.parametrize("keep", [0, 1, 20, -3])
def test_a_truncated_key_file(clinic: Clinic, copied: Path, keep: int) -> None:
    kek = copied.with_name("kek.json")
    kek.write_bytes(kek.read_bytes()[:keep])
    assert "kek.json" in complaint(clinic, copied, ("serve",))


def test_no_key_file(clinic: Clinic, copied: Path) -> None:
    copied.with_name("kek.json").unlink()
    assert "kek.json" in complaint(clinic, copied, ("serve",))


def test_another_key_file(clinic: Clinic, copied: Path) -> None:
    """With keys of another KEK nothing can be opened: said at the start or at the first use, but never a plaintext."""
    kek = copied.with_name("kek.json")
    before = kek.read_bytes()
    flipped = re.sub(rb'("key": ?")', rb"\1AAAA", before, count=1)
    assert flipped != before
    kek.write_bytes(flipped)
    assert "kek.json" in complaint(clinic, copied, ("serve",))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_down(clinic: Clinic, copied: Path, command: tuple[str, ...]) -> None:
    port = free_port()
    edit(copied, f"address: {clinic.site.tap.host}:{clinic.site.tap.port}", f"address: 127.0.0.1:{port}")
    assert str(port) in complaint(clinic, copied, command)


def test_a_wrong_service_password(clinic: Clinic, copied: Path) -> None:
    done = run_cli("serve", "-c", str(copied), env={"PHIPROXY_SERVICE_PASSWORD": "not-the-one"})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "not-the-one" not in done.stderr
    missing = run_cli("serve", "-c", str(copied))
    assert missing.returncode == 1
    assert "PHIPROXY_SERVICE_PASSWORD" in missing.stderr


def test_a_port_in_use(clinic: Clinic) -> None:
    line = complaint(clinic, clinic.site.config, ("serve",))
    assert str(clinic.site.proxy.port) in line


def test_a_missing_file_and_a_directory(clinic: Clinic, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.yaml", tmp_path):
        assert str(path) in complaint(clinic, path, ("serve",))


def test_usage_is_exit_2(clinic: Clinic) -> None:
    assert run_cli("nonsense").returncode == 2
    assert run_cli("serve", "--nonsense").returncode == 2


# What a client may send instead of PostgreSQL's protocol, before and after it has logged in.

STARTUPS = {
    "http": b"GET / HTTP/1.1\r\nHost: clinic\r\n\r\n",
    "zeros": bytes(64),
    "huge": struct.pack("!II", 2**31 - 1, 196608),
    "short": struct.pack("!I", 3),
    "random": os.urandom(512),
    "unknown-version": struct.pack("!II", 8, 0x00090000),
    "nothing": b"",
}


@pytest.mark.parametrize("name", sorted(STARTUPS))
def test_garbage_instead_of_a_startup(clinic: Clinic, name: str) -> None:
    clinic.seed(1)
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as other:
        with socket.create_connection((clinic.site.proxy.host, clinic.site.proxy.port), timeout=240) as client:
            answer = b""
            client.sendall(STARTUPS[name])
            with suppress(OSError):  # already closed
                client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):  # closed with something unread, as PostgreSQL closes it
                answer = client.recv(65536)
        assert answer == b"" or answer[:1] == b"E"
        assert other.execute("SELECT ssn FROM patients").fetchall() == [(clinic.patients[0].ssn,)]


def parse(text: bytes) -> bytes:
    body = b"\0" + text + b"\0" + struct.pack("!H", 0)
    return b"P" + struct.pack("!I", 4 + len(body)) + body


PROTECTED = parse(b"SELECT id FROM patients WHERE ssn = $1")
HARMLESS = parse(b"SELECT $1::text")
SYNC = b"S" + struct.pack("!I", 4)
PARSE_COMPLETE = b"1" + struct.pack("!I", 4)
READY = b"Z" + struct.pack("!I", 5) + b"I"
LIES: dict[str, Callable[[], bytes]] = {
    "length-3": lambda: b"Q" + struct.pack("!I", 3),
    "length-2GiB": lambda: b"Q" + struct.pack("!I", 2**31 - 1) + b"SELECT",
    "length-negative": lambda: b"P" + struct.pack("!i", -1),
    "unknown-tag": lambda: b"\x07" + struct.pack("!I", 4),
    "backend-tag": lambda: b"T" + struct.pack("!IH", 6, 0),
    "query-without-end": lambda: b"Q" + struct.pack("!I", 4 + 6) + b"SELECT",
    "bind-too-short": lambda: PROTECTED + b"B" + struct.pack("!I", 6) + b"\0\0",
    "bind-lies": lambda: PROTECTED + b"B" + struct.pack("!I", 14) + b"\0\0" + struct.pack("!HHi", 0, 1, 9999),
    "bind-lies-unprotected": lambda: HARMLESS + b"B" + struct.pack("!I", 14) + b"\0\0" + struct.pack("!HHi", 0, 1, 9999),
    "parse-lies": lambda: b"P" + struct.pack("!I", 4 + 2 + 2) + b"\0\0" + struct.pack("!H", 500),
}


@pytest.mark.parametrize("name", sorted(LIES))
def test_garbage_in_a_session_is_08p01_and_hurts_nobody_else(clinic: Clinic, name: str) -> None:
    clinic.seed(1)
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as other, psycopg.connect(clinic.proxy_dsn) as bad:
        with socket.socket(fileno=os.dup(bad.pgconn.socket)) as raw:
            raw.setblocking(True)
            raw.settimeout(240)
            # a Bind whose inside is wrong is answered by the server itself, with an ERROR that a Sync ends
            raw.sendall(LIES[name]() + SYNC)
            answer = b""
            while not answer.endswith(READY) and (part := raw.recv(65536)):
                answer += part
        assert answer.removeprefix(PARSE_COMPLETE)[:1] == b"E", answer[:1]
        assert answer.count(b"C08P01\0") == 1, answer
        assert other.execute("SELECT ssn FROM patients").fetchall() == [(clinic.patients[0].ssn,)]
        bad.close()
    assert clinic.site.proxy.running
