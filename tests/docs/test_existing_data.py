"""docs/existing-data.md: filled tables are loaded through the proxy, into a new database and in place."""

from __future__ import annotations

import base64
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from tests.docs.pages import Page, Shell
from tests.docs.reader import application, reading
from tests.harness.server import PostgresServer

PAGE = Page("docs/existing-data.md")
START = Page("docs/protect-your-table.md")
ROWS = "SELECT count(*), count(DISTINCT ssn) FROM patients"


@pytest.fixture
def shell(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Shell]:
    """A database with a table of 500 patients, the proxy's role and its configuration."""
    if postgres_server.bindir is None and shutil.which("pg_dump") is None:
        pytest.skip("this machine has no pg_dump")
    with reading(postgres_server, tmp_path, "clinic") as shell:
        application(postgres_server)
        for title in ("Protect your own table", "1. The proxy's own role", "2. Two files"):
            shell.walk(START.section(title))
        shell.run(
            "psql -qc \"INSERT INTO patients (ssn, full_name, notes) SELECT '123-45-' || n, 'Ann ' || n, 'seen' FROM"
            ' generate_series(1000, 1499) n"\n'
        )
        yield shell


def test_into_a_new_database(shell: Shell) -> None:
    printed = shell.walk(PAGE.section("Into a new database"))
    assert "500\nthe same\n" in printed
    assert printed.count("guards and tag indexes are there") == 2
    assert shell.run("psql -d clinic_new -Atc \"SELECT count(*) FROM patients WHERE left(ssn::text, 9) = '\\xf550010'\"") == "500\n"
    shell.close()
    assert shell.walk(PAGE.section("The old name")).endswith("\n500\n")


def test_observe(shell: Shell) -> None:
    """From a log before there is a registry, and behind a proxy that serves the table as it is; then AES-ECB is taken over."""
    key = secrets.token_bytes(16)
    shell.run(f"export PHIPROXY_SERVICE_PASSWORD=change-me-proxy KEY={key.hex()}\n")
    cards_in_ecb(shell, key)
    shell.run("echo \"12:00 LOG:  statement: SELECT id FROM patients WHERE notes LIKE '%seen%'\" >postgresql.log\n")
    printed = shell.walk(PAGE.section("Observe"))
    assert "refused          1  SELECT id FROM patients WHERE notes LIKE ?\n" in printed
    assert re.search(r"column left in clear +public\.patients\.notes", printed)
    through = "psql postgresql://clinic_app:change-me-app@127.0.0.1:6432/clinic -Atc"
    assert shell.run(f"{through} \"SELECT count(*) FROM patients WHERE notes LIKE '%seen%'\"") == "500\n"
    shell.run('psql -qc "GRANT clinic_app TO phiproxy; GRANT SET ON PARAMETER session_replication_role TO phiproxy"\n')
    assert shell.walk(PAGE.section("What another scheme has encrypted")).endswith("\nAnn 1\n")
    shell.run('psql -qc "REVOKE SET ON PARAMETER session_replication_role FROM phiproxy"\n')


def cards_in_ecb(shell: Shell, key: bytes) -> None:
    """A table of card numbers that its application has encrypted, which the policy lists."""
    padder, cipher = PKCS7(128).padder(), Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    card = base64.b64encode(cipher.update(padder.update(b"4111111111111111") + padder.finalize()) + cipher.finalize()).decode()
    shell.run(
        'psql -qc "SET ROLE clinic_app; CREATE TABLE cards (id int PRIMARY KEY, holder text, number text);'
        f" INSERT INTO cards VALUES (1, 'Ann 1', '{card}'); GRANT SELECT, UPDATE ON cards TO phiproxy\"\n"
    )
    policy = shell.directory / "policy.yaml"
    policy.write_text(
        f"{policy.read_text()}  public.cards:\n    columns:\n      number: {{type: text, indexes: [number], distinct: 1000000}}\n"
    )


def test_encrypt_in_place(shell: Shell) -> None:
    shell.run("export PHIPROXY_SERVICE_PASSWORD=change-me-proxy\nphiproxy keys init\nphiproxy serve\n")
    through = "psql postgresql://clinic_app:change-me-app@127.0.0.1:6432/clinic -Atc"
    view, check = "CREATE VIEW names AS SELECT id, full_name FROM patients", "ADD CONSTRAINT filled CHECK (ssn <> '')"
    shell.run(f'{through} "{view}; ALTER TABLE patients {check}"')
    printed = shell.walk(PAGE.section("Encrypt in place"))
    assert "public.patients.ssn (text) becomes bytea with a guard" in printed
    assert "view public.names is converted with it" in printed
    assert "CHECK constraint filled of public.patients is converted with it" in printed
    assert "statements were held for" in printed
    assert "guards and tag indexes are there" in printed
    assert shell.run(f"{through} \"SELECT full_name FROM names WHERE full_name = 'Ann 1001'\"") == "Ann 1001\n"
    with pytest.raises(AssertionError, match='violates check constraint "filled"'):
        shell.run(f"{through} \"INSERT INTO patients (ssn, full_name) VALUES ('', 'Ben')\"")
    assert shell.run(f"{through} '{ROWS}'") == "500|500\n"
    with pytest.raises(AssertionError, match="stand last"):
        shell.walk(PAGE.section("The way back"))
    assert shell.run("psql -Atc \"SELECT count(*) FROM patients WHERE left(ssn::text, 9) = '\\xf550010'\"") == "500\n"
