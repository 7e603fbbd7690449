"""However the bytes of either peer are cut, the other gets the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.session.substitutes_and_questions import PATH_QUERY
from phiproxy.wire import framing
from tests.session.frames import (
    AUTHENTICATION_OK,
    BIND_COMPLETE,
    COPY_DONE,
    COPY_IN,
    COPY_OUT,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    SYNC,
    bind,
    column,
    command_complete,
    copy_data,
    data_row,
    describe,
    error,
    execute,
    notice,
    parse,
    query,
    ready,
    row_description,
    show_client,
    show_server,
    split,
)
from tests.session.screenplay import SECRET, SSN, Screenplay, envelope, hexed, legible, path_answer

SELECT = "SELECT ssn, city FROM public.patients"
FIELDS = column("ssn", 17, table=100, attnum=2), column("city", 25, table=100, attnum=6)
Step = tuple[str, bytes]

DIALOGUES: dict[str, list[Step]] = {
    "login": [("server", AUTHENTICATION_OK + ready()), ("server", b"".join(path_answer(("public",))))],
    "extended": [
        ("client", parse(SELECT) + bind(results=(0,)) + describe() + execute("", 2) + execute() + SYNC),
        ("server", PARSE_COMPLETE + BIND_COMPLETE + row_description(*(f._replace(format=1) for f in FIELDS))),
        ("server", data_row(envelope(SSN, SECRET), b"Turku") + data_row(None, None) + PORTAL_SUSPENDED),
        ("server", notice("n") + data_row(envelope(SSN, b""), b"") + command_complete("SELECT 1") + ready()),
    ],
    "simple": [
        ("client", query(f"{SELECT}; INSERT INTO public.patients (ssn) VALUES ('{SECRET.decode()}'); SELECT msg FROM log")),
        ("server", row_description(*FIELDS) + data_row(hexed(envelope(SSN, SECRET)), b"x") * 3 + command_complete("SELECT 3")),
        ("server", command_complete("INSERT 0 1") + data_row(b"a") * 5 + command_complete("SELECT 5") + ready()),
    ],
    "refused": [
        (
            "client",
            parse("SELECT upper(ssn) FROM patients", "s") + bind(SECRET, statement="s") + execute() + SYNC + query("SELECT 1"),
        ),
        ("server", error("42883") + ready() + command_complete("SELECT 1") + ready()),
    ],
    "path": [
        ("client", query("SET ROLE nurse") + query("SELECT ssn FROM patients") + query("SELECT 1")),
        ("server", command_complete("SET") + ready()),
        ("server", b"".join(path_answer(("public",)))),
        ("server", data_row(hexed(envelope(SSN, SECRET))) + command_complete("SELECT 1") + ready() + error("22012") + ready()),
    ],
    "copy": [
        ("client", query("COPY log FROM STDIN")),
        ("server", COPY_IN),
        ("client", copy_data(b"1\t2\n") + copy_data(b"") + COPY_DONE + query("SELECT 1")),
        ("server", command_complete("COPY 1") + ready() + command_complete("SELECT 1") + ready()),
    ],
    "unprotected": [
        ("client", parse("SELECT $1, msg FROM log", "s") + bind(b"z" * 60, statement="s") + execute() + SYNC),
        ("server", PARSE_COMPLETE + BIND_COMPLETE + data_row(b"z" * 60, b"m") * 3 + command_complete("SELECT 3") + ready()),
        ("client", bind(b"z" * 60, statement="none") + bind(b"z" * 60, statement="s") + execute() + copy_data(b"late" * 9) + SYNC),
        ("server", error("26000") + ready()),
        ("client", query("COPY log TO STDOUT")),
        ("server", COPY_OUT + copy_data(b"1\t2\n" * 9) * 3 + COPY_DONE + command_complete("COPY 1") + ready()),
    ],
    "broken": [
        ("client", query(SELECT)),
        ("server", data_row(b"\\xf550", None) + data_row(None, None) + command_complete("SELECT 2") + ready()),
        ("client", query("SELECT 1") + b"Q\0\0\0\1"),
    ],
}


def played(dialogue: list[Step], sizes: list[int], *, logged_in: bool) -> tuple[list[str], list[str]]:
    """Return what both sides got, each step's bytes cut into pieces of these sizes, again and again."""
    session = Screenplay(log_in=logged_in).session
    pieces = iter(sizes * 1000)
    for side, data in dialogue:
        pos = 0
        while pos < len(data):
            end = pos + next(pieces)
            assert (session.from_client if side == "client" else session.from_server)(data[pos:end]) is None
            pos = end
    to_server = [show_client(legible(f)) for f in split(b"".join(session.to_server))]
    return to_server, [show_server(f) for f in split(b"".join(session.to_client))]


@pytest.mark.parametrize("name", DIALOGUES)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_any_cutting_of_the_bytes_is_the_same(name: str, sizes: list[int]) -> None:
    logged_in = name != "login"
    whole = played(DIALOGUES[name], [1 << 20], logged_in=logged_in)
    assert played(DIALOGUES[name], sizes, logged_in=logged_in) == whole


@pytest.mark.parametrize("name", DIALOGUES)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30), slice_=st.integers(5, 60))
def test_long_messages_that_pass_as_they_come_are_the_same(name: str, sizes: list[int], slice_: int) -> None:
    """Every message counts as long here."""
    logged_in = name != "login"
    whole = played(DIALOGUES[name], [1 << 20], logged_in=logged_in)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "SLICE", slice_)
        assert played(DIALOGUES[name], sizes, logged_in=logged_in) == whole


@pytest.mark.parametrize("name", DIALOGUES)
def test_byte_by_byte(name: str) -> None:
    logged_in = name != "login"
    assert played(DIALOGUES[name], [1], logged_in=logged_in) == played(DIALOGUES[name], [1 << 20], logged_in=logged_in)


def test_the_dialogues_get_somewhere() -> None:
    """A corpus that is refused at its first message would show nothing."""
    for name, dialogue in DIALOGUES.items():
        to_server, to_client = played(dialogue, [1 << 20], logged_in=name != "login")
        assert to_server
        assert to_client[-1].startswith("ErrorResponse S='FATAL'" if name == "broken" else "ReadyForQuery"), name
    asked, _ = played(DIALOGUES["path"], [7], logged_in=True)
    assert [line for line in asked if "current_schemas" in line] == [show_client(next(split(PATH_QUERY)))]
