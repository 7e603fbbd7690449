r"""Jobs in a database in SQL_ASCII: a value that is not UTF-8 is named by the key of its row, and the other rows are done.

``bytea`` in a statement and ``E'\xe9'`` are what the server takes as it is, whatever the client's encoding is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest

from tests.commands.conftest import Clinic

POLICY = """\
database: {database}
deployment: clinic-test
tables:
  public.patients:
    columns:
      ssn: {{type: text, indexes: [ssn], distinct: 100000}}
      note: {{type: text, pad: 64}}
      doc:
        type: jsonb
        others: clear
        fields:
          $.a: {{type: text}}
"""


@pytest.fixture
def ascii_clinic(clinic: Clinic) -> Iterator[Clinic]:
    """Rows whose keys, too, are bytes of no encoding."""
    own = Clinic(clinic.server, f"{clinic.database}_ascii", clinic.directory, clinic.capture)
    with clinic.server.connect() as conn:
        conn.execute(f"CREATE DATABASE {own.database} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'".encode())
    own.policy.write_text(POLICY.format(database=own.database))
    raw(own, b"CREATE TABLE patients (id text PRIMARY KEY, ssn text UNIQUE, note text, doc jsonb)")
    rows = b"SELECT 'k\xe9' || n, 's' || n, 'caf\xc3\xa9 ' || n, '{\"a\": \"x\"}' FROM generate_series(1, 120) n"
    raw(own, b"INSERT INTO patients " + rows)
    yield own
    own.server.drop_database(own.database)


def raw(clinic: Clinic, statement: bytes) -> list[tuple[bytes | int | None, ...]]:
    """Run a statement of such bytes; texts come as bytes."""
    with psycopg.connect(clinic.server.dsn(clinic.database), autocommit=True, client_encoding="SQL_ASCII") as conn:
        cursor = conn.execute(statement)
        return cursor.fetchall() if cursor.description else []


ROWS = b"SELECT id, ssn, note, doc::text FROM patients ORDER BY id"


def test_rows_whose_values_are_not_utf8_are_named_by_their_keys(ascii_clinic: Clinic) -> None:
    """And the others are done; once these are put right the job comes to its end."""
    clinic = ascii_clinic
    raw(clinic, b"UPDATE patients SET note = 'caf\xe9' WHERE id = 'k\xe97'")
    raw(clinic, b"INSERT INTO patients VALUES ('plain', 's0', 'n', '{\"a\": \"x\", \"b\": \"\xe9\"}')")
    assert clinic.run("keys", "init")[0] == 0
    code, _, err = clinic.run("encrypt")
    assert code == 1
    assert "sealing public.patients: 2 rows could not be done:\n" in err
    assert r"public.patients, id k\xe97: note: its bytes are not UTF-8" in err
    assert "public.patients, id plain: doc: its bytes are not UTF-8" in err
    assert "caf" not in err
    assert "phiproxy jobs resume 1" in err or "and resume" in err
    done = raw(clinic, b"SELECT count(*) FROM patients WHERE phi_new_ssn IS NOT NULL")
    assert done == [(119,)]
    raw(clinic, b"UPDATE patients SET note = convert_from(convert(note::bytea, 'LATIN1', 'UTF8'), 'SQL_ASCII') WHERE id = 'k\xe97'")
    raw(clinic, b"UPDATE patients SET doc = '{\"a\": \"x\", \"b\": 1}' WHERE id = 'plain'")
    code, _, err = clinic.run("jobs", "resume", "1")
    assert code == 0, err


def test_a_life_of_jobs_over_keys_that_are_not_utf8(ascii_clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds its rows again, and what it gives back are the bytes that there were."""
    clinic = ascii_clinic
    monkeypatch.chdir(clinic.directory)
    before = raw(clinic, ROWS)
    for arguments in (
        ("keys", "init"), ("encrypt",), ("keys", "rotate"), ("recrypt",),
        ("keys", "rotate", "--index", "public.patients.ssn"), ("respond", "--kek", "local:kek.json", "--reason", "a test"),
        ("decrypt", "public.patients", "--reorder"),
    ):  # fmt: skip
        code, _, err = clinic.run(*arguments)
        assert code == 0, (arguments, err)
    assert raw(clinic, ROWS) == before


def test_a_row_that_does_not_open_is_named_where_its_key_is_not_utf8(ascii_clinic: Clinic) -> None:
    clinic = ascii_clinic
    assert clinic.run("keys", "init")[0] == 0
    assert clinic.run("encrypt")[0] == 0
    raw(clinic, b"UPDATE patients SET ssn = set_byte(ssn, length(ssn) - 1, get_byte(ssn, length(ssn) - 1) # 1) WHERE id = 'k\xe95'")
    named = r"public.patients, id k\xe95: "
    clinic.ok("keys", "rotate")
    for arguments in (("recrypt",), ("reindex", "public.patients.ssn"), ("decrypt", "public.patients", "--reorder")):
        if arguments[0] == "reindex":
            assert clinic.run("keys", "rotate", "--index", "public.patients.ssn", "--later")[0] == 0
        code, _, err = clinic.run(*arguments)
        assert (code, named in err, ": 1 rows could not be done" in err) == (1, True, True), (arguments, err)
    states = {job["kind"]: job["state"] for job in json.loads(clinic.ok("jobs", "--json"))}
    assert states == {"encrypt": "done", "recrypt": "failed", "reindex": "failed", "decrypt": "failed"}
