"""The model of a server, with which the session is compared, against a real one: the same random dialogues, message by message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import assume, given, settings

from phiproxy.wire.messages import decode_parse, decode_query, decode_row_description
from tests.harness.backend import Backend
from tests.harness.server import PostgresServer
from tests.session.frames import error_fields, function_call, parse, query, show_client, show_server, split
from tests.session.model import Server
from tests.session.scripts import patient
from tests.session.statements import DDL, EXIT, LO_CREAT, MISTYPED, OWN_REFUSAL, OWN_SYNTAX_ERROR, REFUSED, STATEMENTS

CLEAN = [query("DISCARD ALL")]
NO_FUNCTION = 4294967290


@pytest.fixture(scope="module")
def backend(postgres_server: PostgresServer) -> Iterator[Backend]:
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        conn.execute(DDL)
    backend = Backend(postgres_server.dsn(name))
    yield backend
    backend.close()
    postgres_server.drop_database(name)


def real(frame: bytes) -> bytes:
    """Return a message as it is said to a real server."""
    tag, whole = frame[:1], frame.endswith(b"\0")
    if tag == b"F" and len(frame) >= 9 and int.from_bytes(frame[5:9], "big") != LO_CREAT:
        return function_call(NO_FUNCTION)  # what the proxy refuses, the server must refuse at the same place
    if tag == b"P" and whole:
        sent = decode_parse(frame, 5, len(frame))
        return parse(STATEMENTS[sent.query.decode()].real or sent.query.decode(), sent.name.decode())
    if tag == b"Q" and whole:
        parts = [part.strip() for part in decode_query(frame, 5, len(frame)).decode().split(";")]
        refused = next((part for part in parts if part in (REFUSED, MISTYPED)), None)
        if len(parts) > 1 and refused is not None and not any(STATEMENTS[part].syntax_error for part in parts):
            first = next(part for part in parts if part)
            # All of the string is refused: that is what the proxy promises, and more than a server does.
            own = OWN_SYNTAX_ERROR if STATEMENTS[first].utility in EXIT else OWN_REFUSAL
            return query(own if refused == REFUSED else own.replace("phiproxy_refused", "phiproxy_mistyped"))
        return query("; ".join(STATEMENTS[part].real or part for part in parts))
    return frame


def heard(frames: Sequence[bytes]) -> list[str]:
    """Return what must be the same of replies; OIDs of tables are this server's own, and it may say more while it works."""
    shown = []
    for frame in frames:
        tag = frame[:1]
        if tag == b"E":
            fields = error_fields(frame)
            refused = "phiproxy_refused" in fields["M"] or str(NO_FUNCTION) in fields["M"]
            mistyped = "phiproxy_mistyped" in fields["M"]
            shown.append(f"ErrorResponse {'0A000' if refused else '42P01' if mistyped else fields['C']}")
        elif tag == b"T":
            shown.append(str([(f.name, f.type_oid, f.format) for f in decode_row_description(frame, 5, len(frame))]))
        elif tag == b"V":
            shown.append("FunctionCallResponse")
        elif tag not in (b"N", b"S", b"A"):
            shown.append(show_server(frame))
    return shown


def calls_a_function_behind_execute(frames: Sequence[bytes]) -> bool:
    """Tell whether a FunctionCall comes before the Sync of an Execute: newer servers go on with its transaction, 15 ends it."""
    order = bytes(frame[0] for frame in frames)
    return any(b"E" in group and b"F" in group[group.index(b"E") :] for group in order.replace(b"Q", b"S").split(b"S"))


@settings(max_examples=400, deadline=None)
@given(patient)
def test_the_model_says_what_a_server_says(backend: Backend, script: list[bytes]) -> None:
    frames = list(split(b"".join(script)))
    assume(backend.version < 160000 or not calls_a_function_behind_execute(frames))
    expected = heard(backend.says([real(f) for f in frames]))
    backend.says(CLEAN)
    model = Server(physical=False)
    got = heard(list(split(model.receive_bytes(b"".join(frames)))))
    assert got == expected, "\n".join(show_client(f) for f in frames)
