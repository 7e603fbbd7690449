"""The rules of the wire where a proxy is easily told from a server: the same messages to both twins, message by message."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from struct import pack

import psycopg
import pytest

from tests.harness.backend import Backend, both_ways
from tests.harness.clinic import Clinic
from tests.session.frames import (
    FLUSH,
    SYNC,
    Frame,
    bind,
    close,
    describe,
    error_fields,
    execute,
    function_call,
    parse,
    query,
    raw,
    show_server,
    split,
)

INSERT = "INSERT INTO patients (mrn, city) VALUES ($1, $2)"
SELECT = "SELECT ssn, city, mrn FROM patients ORDER BY id"
OTHER = "SELECT city, full_name FROM patients ORDER BY id"


@pytest.fixture
def twins(clinic: Clinic) -> Iterator[tuple[Backend, Backend]]:
    """Raw connections to the seeded clinic: straight to the plaintext twin, and through the proxy."""
    clinic.seed(3)
    with both_ways(clinic) as both:
        yield both


def heard(frames: Sequence[bytes]) -> list[str]:
    """Return what must be the same: all but OIDs of tables, and of errors the words, which the proxy signs."""
    shown = []
    for frame in frames:
        if frame[:1] == b"E":
            fields = error_fields(frame)
            shown.append(f"{fields['S']} {fields['C']} {'D' in fields and 'Key' in fields['D']}")
        elif frame[:1] == b"T":
            shown.append(show_server(frame).partition(", 16")[0])
        else:
            shown.append(show_server(frame))
    return shown


def bound(formats: tuple[int, ...], *values: bytes, results: tuple[int, ...] = ()) -> Frame:
    return bind(*values, formats=formats, results=results)


LONG = b"far too long for it"
DIALOGUES: dict[str, list[bytes]] = {
    # A plan made for these values folds the cast to varchar(n): the server itself complains at Bind.
    "a value too long": [parse(INSERT), bind(LONG, b"x"), describe(), execute(), SYNC, bind(b"short", b"x"), execute(), SYNC],
    "a value too long in a block": [query("BEGIN"), parse(INSERT), bind(LONG, b"x"), execute(), SYNC, query("COMMIT")],
    "too many parameter formats": [parse(INSERT), bound((0, 0, 0), b"a", b"b"), execute(), SYNC],
    "formats for other parameters": [parse(INSERT), bound((0, 0), b"a"), execute(), SYNC],
    "too few parameters": [parse(INSERT), bound((), b"a"), execute(), SYNC],
    "no such parameter format": [parse(INSERT), bound((2, 0), b"a", b"b"), execute(), SYNC],
    "no such format of an unprotected parameter": [parse(INSERT), bound((0, 7), b"a", b"b"), execute(), SYNC],
    "too many result formats": [parse(SELECT), bound((), results=(0, 0)), describe(), execute(), SYNC],
    "no such result format": [parse(SELECT), bound((), results=(2,)), execute(), SYNC],
    "result formats that nobody needs": [
        parse("UPDATE patients SET ssn = ssn WHERE false"),
        bound((), results=(0, 1)),
        execute(),
        SYNC,
    ],
    "formats in an aborted block": [
        query("BEGIN"),
        query("SELECT 1/0"),
        parse("ROLLBACK"),
        bound((), results=(0, 0)),
        execute(),
        SYNC,
    ],
    "a Bind that cannot be read": [parse(INSERT), raw(b"B", b"\0\0" + pack("!HHi", 0, 2, 99)), execute(), SYNC, query("SELECT 1")],
    "a Parse that cannot be read": [raw(b"P", b"\0SELECT ssn FROM patients\0"), bind(), SYNC, query("SELECT 1")],
    "a Describe that cannot be read": [raw(b"D", b"X\0"), parse("SELECT 1"), SYNC, query("SELECT 1")],
    "an Execute that cannot be read": [parse("SELECT 1"), bind(), raw(b"E", b"\0"), SYNC],
    "a Close that cannot be read": [raw(b"C", b"Sx\0x"), SYNC],
    "a Query that cannot be read": [parse("SELECT 1", "s"), parse(SELECT), SYNC, raw(b"Q", b"SELECT 1"), bind(), execute(), SYNC],
    "a FunctionCall that cannot be read": [raw(b"F", b"x"), query("SELECT 1")],
    "a FunctionCall of no function": [
        *(function_call(987654, b"x"), query("BEGIN"), function_call(987654), function_call(987654), query("ROLLBACK")),
        query("SELECT 1"),
    ],
    "two portals of the unnamed statement": [
        *(parse(SELECT), bind(portal="p1"), parse(OTHER), bind(portal="p2", results=(0, 1))),
        *(execute("p1", 2), describe("p2"), FLUSH, execute("p2"), execute("p1"), execute("p1"), SYNC),
    ],
    "a portal that outlives its statement": [parse(SELECT, "s"), bind(statement="s", portal="p"), close("s"), execute("p"), SYNC],
    "a failed Parse of a name": [parse(SELECT, "s"), SYNC, parse("SELECT nope", "s"), SYNC, bind(statement="s"), execute(), SYNC],
    "a failed Parse of no name": [parse(SELECT), SYNC, parse("SELECT nope"), SYNC, bind(), execute(), SYNC],
    "many statements": [query(f"{SELECT}; BEGIN; {OTHER}; ROLLBACK; SELECT 1/0; {SELECT}"), query(""), query(";")],
    "portals end with their transaction": [parse(SELECT), bind(portal="p"), execute("p", 1), SYNC, execute("p", 1), SYNC],
    "bytea as it was": [query("SET bytea_output = escape"), query(SELECT), query("RESET bytea_output")],
    "a large object": [function_call(964, pack("!I", 1)), query("BEGIN"), query("SELECT 1/0"), function_call(964, pack("!I", 1))],
}


_TABLE = re.compile(r"(\(b'[^']*', )[1-9]\d*,")


@pytest.mark.parametrize("name", DIALOGUES)
def test_both_twins_say_the_same(twins: tuple[Backend, Backend], name: str) -> None:
    plain, proxied = (heard(backend.says(DIALOGUES[name])) for backend in twins)
    # The tables of the two databases have OIDs of their own.
    assert [_TABLE.sub(r"\1oid,", line) for line in proxied] == [_TABLE.sub(r"\1oid,", line) for line in plain]


@pytest.mark.parametrize("output", ["hex", "escape"])
def test_an_error_about_a_row_shows_nothing_of_it(clinic: Clinic, twins: tuple[Backend, Backend], output: str) -> None:
    said = [query(f"SET bytea_output = {output}"), query(f"INSERT INTO patients (id, ssn) VALUES (NULL, '{clinic.plant()}')")]
    plain, proxied = (next(f for f in backend.says(said) if f[:1] == b"E") for backend in twins)
    expected = error_fields(plain)
    assert expected.pop("D").startswith("Failing row")
    assert error_fields(proxied) == expected


def test_a_refused_string_that_begins_by_leaving_an_aborted_transaction(twins: tuple[Backend, Backend]) -> None:
    """A server would have left it and then failed; nothing of a refused string runs, and the client is told why."""
    said = [query("BEGIN"), query("SELECT 1/0"), query("ROLLBACK; SELECT upper(ssn), ssn || 'x' FROM patients")]
    frames = list(twins[1].says(said))
    assert heard(frames)[-2:] == ["ERROR 0A000 False", "ReadyForQuery E"]
    assert heard(twins[1].says([query("SELECT count(*) FROM patients")]))[-1] == "ReadyForQuery I"


def test_a_refusal_and_an_error_of_the_server_have_the_same_consequences(twins: tuple[Backend, Backend]) -> None:
    """In a pipeline: what came before stays, what comes behind is skipped, the next group runs, the block is aborted."""
    groups = [
        *(parse(SELECT), bind(), execute(), parse("{}"), bind(), execute(), parse("DELETE FROM visits"), bind(), execute(), SYNC),
        *(parse(OTHER), bind(), execute(), SYNC, query("BEGIN"), parse("{}"), SYNC, query(SELECT), query("ROLLBACK")),
        *(query("{}; DELETE FROM visits"), query("SELECT count(*) FROM visits")),
    ]
    told = []
    for backend, fails in zip(twins, ("SELECT nope", "SELECT upper(ssn) FROM patients"), strict=True):
        said = [parse(fails) if f == parse("{}") else f for f in groups]
        said = [query(f"{fails}; DELETE FROM visits") if f == query("{}; DELETE FROM visits") else f for f in said]
        told.append([line.replace("0A000", "42703") for line in heard(backend.says(said))])
    assert told[0] == told[1]


@pytest.mark.parametrize("through", [False, True])
def test_a_client_that_does_not_answer_the_request_for_its_password(clinic: Clinic, through: bool) -> None:
    dsn = psycopg.conninfo.conninfo_to_dict(clinic.proxy_dsn if through else clinic.plain_dsn)
    with socket.create_connection((str(dsn["host"]), int(str(dsn["port"]))), timeout=240) as client:
        body = pack("!I", 196608) + f"user\0{dsn['user']}\0database\0{dsn['dbname']}\0\0".encode()
        client.sendall(pack("!I", len(body) + 4) + body)
        assert client.recv(1) == b"R"
        client.sendall(query("SELECT 1"))
        got = b"R"
        while part := client.recv(1 << 16):
            got += part
    last = error_fields(list(split(got))[-1])
    assert (last["S"], last["C"]) == ("FATAL", "08P01")
    assert "expected SASL response, got message type 81" in last["M"]
