"""Clients that do not speak UTF-8: statements, values, results, errors and COPY are converted as the server converts them."""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from phiproxy.wire.encodings import ENCODINGS
from tests.harness.clinic import Clinic
from tests.harness.results import ANSWERED, Form, encode

Session = psycopg.Connection[Any]
Answer = tuple[list[bytes | None], list[list[bytes | None]], bytes | None, bytes | None, bytes | None]
SPOKEN = [
    ("LATIN1", "latin-1", "Zoë Müller"),
    ("WIN1252", "cp1252", "Zoë €"),
    ("GB18030", "gb18030", "张伟 £"),
    ("GBK", "gbk", "俓张伟"),
    ("KOI8R", "koi8-r", "Иванов"),
    ("SJIS", "cp932", "山田表ソ"),  # whose trail bytes are backslashes
    ("EUC_JP", "euc_jp", "山田 太郎"),
    ("BIG5", "cp950", "許功蓋"),
    ("EUC_KR", "cp949", "김철수"),
    ("UHC", "cp949", "뷁 김"),
    ("EUC_JIS_2004", "euc_jis_2004", "山田か\u309a"),  # the last two are one character
    ("SHIFT_JIS_2004", "shift_jis_2004", "表か\u309a田"),
    ("EUC_TW", "", "中乂"),
    ("JOHAB", "johab", "字☏"),
]


@pytest.fixture
def sessions(clinic: Clinic) -> Iterator[tuple[Session, Session]]:
    clinic.seed(2)
    plain = psycopg.connect(clinic.plain_dsn, autocommit=True)
    with plain, psycopg.connect(clinic.proxy_dsn, autocommit=True) as proxied:
        yield plain, proxied


def results(conn: PGconn) -> list[PGresult]:
    """Return the results up to the end of a query, or up to the end of one in a pipeline."""
    found: list[PGresult] = []
    while True:
        while conn.is_busy():
            assert select.select([conn.socket], [], [], ANSWERED)[0], "no answer"
            conn.consume_input()
        result = conn.get_result()
        if result is None:
            return found
        found.append(result)
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return found


def said(session: Session, text: bytes, params: Sequence[bytes | None] | None = None, form: Form | None = None) -> list[Answer]:
    """Return all that a client gets for bytes that nobody else has touched; without parameters for a simple query."""
    conn = session.pgconn
    if params is None:
        conn.send_query(text)
    else:
        form = form or Form()
        conn.send_query_params(text, params, form.types, [form.parameters] * len(params), form.results)
    return [
        (
            [result.fname(c) for c in range(result.nfields)],
            [[result.get_value(r, c) for c in range(result.nfields)] for r in range(result.ntuples)],
            result.error_field(pq.DiagnosticField.SQLSTATE),
            result.error_field(pq.DiagnosticField.STATEMENT_POSITION),
            result.command_status,
        )
        for result in results(conn)
    ]


def both(sessions: tuple[Session, Session], text: bytes, *rest: Any) -> list[Answer]:
    expected, found = (said(session, text, *rest) for session in sessions)
    assert found == expected, text
    return found


def refused(sessions: tuple[Session, Session], text: bytes) -> None:
    assert [state for _, _, state, _, _ in said(sessions[1], text)] == [b"0A000"]


@pytest.mark.slow
def test_every_way(sessions: tuple[Session, Session], clinic: Clinic) -> None:
    for name, codec, value in SPOKEN:
        spoken = value.encode(codec) if codec else ENCODINGS[name].from_utf8(value.encode())
        both(sessions, b"SET client_encoding TO " + name.encode())
        insert = b"INSERT INTO patients (full_name, notes, city) VALUES ('%s', E'%s', '%s!') RETURNING full_name, city"
        both(sessions, insert % (spoken, spoken, spoken))
        both(sessions, b"INSERT INTO patients (full_name, city) VALUES ($1, $2) RETURNING *", [spoken, spoken + b"!"])
        for form in (Form(), Form(None, 1, 1), Form((25,), 0, 1), Form((25,), 1, 0)):
            select_ = b'SELECT full_name, city AS "%s" FROM patients WHERE full_name = $1' % spoken
            assert len(both(sessions, select_, [spoken], form)[0][1]) == 2
        for code in (0, 1):
            array = encode(["x", value], code)
            assert array is not None
            array = array.replace(value.encode(), spoken).replace(len(value.encode()).to_bytes(4), len(spoken).to_bytes(4))
            rows = both(sessions, b"SELECT notes FROM patients WHERE full_name = ANY($1)", [array], Form((1009,), code, 0))[0][1]
            assert len(rows) == 2
        both(sessions, b"SELECT id FROM patients WHERE full_name = '%s' AND 1/0 = 1" % spoken)
        both(sessions, b"SELECT '%s', nowhere, full_name FROM patients" % spoken)
        both(sessions, b'PREPARE "of %s" AS SELECT id FROM patients WHERE full_name = $1' % spoken)
        both(sessions, b"EXECUTE \"of %s\" ('%s')" % (spoken, spoken))
        both(sessions, b'CREATE TEMP TABLE "%s" (a int UNIQUE); INSERT INTO "%s" VALUES (1), (1)' % (spoken, spoken))
        both(sessions, b"RESET client_encoding")
    assert clinic.assert_sealed()
    clinic.assert_twins_equal()


def test_what_the_encoding_cannot_say(sessions: tuple[Session, Session]) -> None:
    both(sessions, "UPDATE patients SET full_name = '张伟', city = '张伟!'".encode())
    both(sessions, b"SET client_encoding TO latin1")
    both(sessions, b"SELECT full_name FROM patients")
    both(sessions, b"SELECT city FROM patients WHERE full_name IS NOT NULL")
    both(sessions, b"BEGIN")
    both(sessions, b"SELECT full_name FROM patients")
    both(sessions, b"SELECT 1")
    both(sessions, b"ROLLBACK")
    both(sessions, b"SET client_encoding TO EUC_CN")
    both(sessions, b"SELECT id FROM patients WHERE full_name = '\xff\xff'")
    both(sessions, b"SELECT id FROM patients WHERE full_name = $1", [b"\xb0"])
    both(sessions, b"SELECT id, full_name FROM patients WHERE full_name = $1", ["张伟".encode("gb2312")])


def test_a_change_takes_effect_with_the_next_message(sessions: tuple[Session, Session]) -> None:
    both(sessions, "UPDATE patients SET full_name = 'é', notes = 'é'".encode())
    both(sessions, b"BEGIN; SET LOCAL client_encoding = latin1")
    both(sessions, b"SELECT full_name FROM patients WHERE full_name = '\xe9'")
    both(sessions, b"COMMIT")
    both(sessions, "SELECT full_name FROM patients WHERE full_name = 'é'".encode())
    both(sessions, b"SELECT pg_catalog.set_config('client_encoding', 'win1252', false)")
    both(sessions, b"SELECT full_name FROM patients WHERE full_name = $1", [b"\xe9"])
    both(sessions, b"DISCARD ALL")
    both(sessions, "SELECT full_name FROM patients WHERE full_name = 'é'".encode())
    refused(sessions, b"SET NAMES 'latin1'; SELECT full_name FROM patients")
    refused(sessions, b"BEGIN; SET LOCAL client_encoding = latin1; ROLLBACK; TABLE patients")


def test_a_pipeline_waits_for_a_change(sessions: tuple[Session, Session]) -> None:
    both(sessions, "UPDATE patients SET full_name = 'é'".encode())
    for session in sessions:
        conn = session.pgconn
        conn.enter_pipeline_mode()
        for text in (b"SET client_encoding TO latin1", b"SELECT full_name FROM patients WHERE full_name = '\xe9'"):
            conn.send_query_params(text, ())
            conn.pipeline_sync()
        while conn.flush():
            pass
        found = [r.get_value(0, 0) if r.ntuples else r.status for _ in range(4) for r in results(conn)]
        conn.exit_pipeline_mode()
        assert found == [pq.ExecStatus.COMMAND_OK, pq.ExecStatus.PIPELINE_SYNC, b"\xe9", pq.ExecStatus.PIPELINE_SYNC]


@pytest.mark.slow
def test_copy(sessions: tuple[Session, Session], clinic: Clinic) -> None:
    both(sessions, b"DELETE FROM visits; DELETE FROM patients")
    columns = "patients (id, full_name, notes, city)"
    for name, value, options in (
        ("LATIN1", "Zoë", ""),
        ("LATIN1", "Zoë", "(FORMAT csv, HEADER)"),
        ("LATIN1", "Zoë", "(FORMAT binary)"),
        ("LATIN1", "Zoë", "(ENCODING 'utf8')"),
        ("GBK", "俓\\N\t张", ""),
        ("GBK", "俓张", "(FORMAT binary)"),
        ("GBK", "£", "(ENCODING 'iso-8859-15')"),
    ):
        read = []
        for session in sessions:
            session.execute("INSERT INTO patients (id, full_name, notes, city) VALUES (100, %s, %s, %s)", (value, value, value))
            session.execute(f"SET client_encoding TO {name}")
            with (
                session.cursor() as cur,
                cur.copy(f"COPY {columns} TO STDOUT {options}".encode()) as out,
            ):
                read.append([bytes(data) for data in out])
        assert read[0] == read[1]
        data = b"".join(read[0])
        both(sessions, b"DELETE FROM patients")
        for session in sessions:
            with (
                session.cursor() as cur,
                cur.copy(f"COPY {columns} FROM STDIN {options}".encode()) as into,
            ):
                for n in range(len(data)):
                    into.write(data[n : n + 1])
        both(sessions, b"RESET client_encoding")
        assert both(sessions, b"SELECT full_name, notes FROM patients")[0][1] == [[value.encode(), value.encode()]]
        both(sessions, b"DELETE FROM patients")
    clinic.assert_twins_equal()


@pytest.mark.parametrize("data", [b"ok\na\xb0b\n", b"ok\na\xff\xff\n", b"ok\na\xb0"])
def test_bytes_of_no_character_end_a_copy(sessions: tuple[Session, Session], data: bytes) -> None:
    def state(session: Session) -> str | None:
        session.execute("SET client_encoding TO EUC_CN")
        try:
            with session.cursor() as cur, cur.copy(b"COPY patients (full_name) FROM STDIN") as copy:
                copy.write(data)
        except psycopg.Error as error:
            return error.sqlstate
        return None

    expected, found = map(state, sessions)
    assert expected == found == "22021"


def test_encodings_that_are_not_known_are_refused(sessions: tuple[Session, Session]) -> None:
    both(sessions, b"SET client_encoding TO SQL_ASCII")
    both(sessions, b"SELECT '\xd9\xa1'")
    both(sessions, b"SELECT '\xd9\xa1' FROM nowhere")
    refused(sessions, b"SELECT full_name FROM patients")
