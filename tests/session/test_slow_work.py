"""What takes long waits for its outcome, and everything behind it keeps its order."""

from __future__ import annotations

from typing import cast

import pytest

from phiproxy.crypto import seal
from phiproxy.crypto.keyring import Keyring
from phiproxy.long_values import LONG_VALUE
from phiproxy.net.session_computations import QueryCanceled
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.convert_values import MANY, at_once
from phiproxy.plan.planner import Planner
from phiproxy.session.fast_path import runs
from phiproxy.session.needs import NeedWork
from phiproxy.session.slow_work import LONG_TEXT, MANY_QUERIES, MANY_STATEMENTS, MUCH, PORTION, SHORT_TEXT
from phiproxy.wire.framing import LONG as LONG_MESSAGE
from tests.clinic_model import CATALOG, PROTECTION
from tests.session.frames import (
    BIND_COMPLETE,
    COPY_DONE,
    COPY_IN,
    PARSE_COMPLETE,
    SYNC,
    bind,
    command_complete,
    copy_data,
    data_row,
    error,
    execute,
    parameter_status,
    parse,
    query,
    raw,
    ready,
    split,
)
from tests.session.screenplay import (
    FULL_NAME,
    REFUSED_QUERY,
    SECRET,
    SSN,
    FakeDatabase,
    Says,
    Screenplay,
    envelope,
    fill,
    full_ring,
    legible,
    refused_parse,
    sealed,
)

# A text too long to be known by its shape.
ROWS = 2 * MANY
BLANKS = " " * LONG_TEXT
LONG = f"INSERT INTO public.patients (ssn){BLANKS}VALUES ($1)"
SELECT = "SELECT ssn FROM public.patients"
SELECT_TWO = "SELECT ssn, full_name FROM public.patients"
REFUSED = f"SELECT ssn FROM public.patients{BLANKS}ORDER BY ssn"
MANY_ROWS = "INSERT INTO public.patients (ssn) VALUES " + ", ".join(["('078-05-1120')"] * ROWS)


def fresh(ring: Keyring | None = None) -> Screenplay:
    """Return a conversation whose planner has seen nothing."""
    return Screenplay(FakeDatabase(Planner(PROTECTION, CATALOG, Ciphers(ring if ring is not None else full_ring()))))


def works(play: Screenplay, *, apart: bool) -> None:
    """Do the work that the session waits for."""
    need = play.need
    assert isinstance(need, NeedWork), need
    assert (need.work.apart is not None) is apart
    try:
        if need.work.apart is not None:
            need.work.done(need.work.apart())
        else:
            assert need.work.steps is not None
            need.work.done(at_once(need.work.steps()))
    except Exception as failure:
        need.work.failed(failure)
    play.session.worked.append(need.work)
    play.need = play.session.resume(worked=True)


def test_a_long_parse_waits_and_what_comes_meanwhile_comes_behind_it() -> None:
    with fresh() as play:
        play.client_says(parse(LONG))
        play.server_gets()
        assert play.session.from_client(bind(SECRET) + execute() + SYNC) is None
        play.server_gets()
        works(play, apart=True)
        play.server_gets(parse(LONG, oids=(17,)), bind(sealed(SECRET), formats=(1,)), execute(), SYNC)


def test_a_long_text_that_is_kept_is_no_work() -> None:
    with fresh() as play:
        play.client_says(parse(LONG))
        works(play, apart=True)
        play.client_says(parse(LONG, "again"))
        play.server_gets(parse(LONG, oids=(17,)), parse(LONG, "again", oids=(17,)))


def test_a_long_query_is_planned_apart_and_sealed_in_steps() -> None:
    with fresh() as play:
        play.client_says(query(MANY_ROWS))
        works(play, apart=True)
        play.server_gets()
        works(play, apart=False)
        (sent,) = split(b"".join(play.session.to_server))
        assert legible(sent).count(sealed(SECRET)) == ROWS
        play.session.to_server = []
        assert not play.session.worked
        parts = cast("list[list[object]]", play.session.over)
        assert max(map(len, parts)) == MANY, "it is let go of in parts"
        assert sum(map(len, parts)) > 2 * ROWS


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_a_text_of_many_kilobytes_is_read_and_judged_apart(protocol: str) -> None:
    """What is looked at in all of it is not looked at by the loop, nor each time that the message is taken again."""
    text = f"INSERT INTO public.patients (ssn){' ' * MUCH}VALUES ('{SECRET.decode()}')"
    looked_at: list[int] = []
    with fresh() as play:
        play.session.guard = lambda given: looked_at.append(len(given))
        play.client_says(query(text) if protocol == "simple" else parse(text))
        if protocol == "extended":
            works(play, apart=True)  # it is cut out
        assert not looked_at
        works(play, apart=True)
        assert looked_at == [len(text)]
        play.server_gets()
        works(play, apart=True)  # it is planned
        assert b"".join(play.session.to_server).count(b"VALUES") == 1
        assert looked_at == [len(text)]
        play.session.to_server = []


def test_what_is_long_only_when_it_is_sealed_is_sealed_once() -> None:
    """Another thread writes it in the client's encoding; the text that is taken again then is the same."""
    value = "é" * (LONG_VALUE // 3)
    setting, told = query("SET client_encoding TO latin1"), parameter_status("client_encoding", "LATIN1")
    with fresh() as play:
        play.client_says(setting)
        play.server_gets(setting)
        play.server_says(command_complete("SET"), told, ready())
        play.client_gets(command_complete("SET"), told, ready())
        play.client_says(raw(b"Q", f"INSERT INTO public.patients (ssn) VALUES ('{value}')\0".encode("latin-1")))
        for _ in range(3):  # it is read, planned, and written
            works(play, apart=True)
        assert legible(b"".join(play.session.to_server)).count(sealed(value.encode())) == 1
        play.session.to_server = []
        assert not play.session.worked


def test_many_short_statements_are_planned_apart() -> None:
    with fresh() as play:
        play.client_says(query("; ".join([SELECT] * MANY_STATEMENTS)))
        play.server_gets(query("; ".join([SELECT] * MANY_STATEMENTS)))
    with fresh() as play:
        play.client_says(query("; ".join([SELECT] * (MANY_STATEMENTS + 1))))
        works(play, apart=True)
        play.server_gets(query("; ".join([SELECT] * (MANY_STATEMENTS + 1))))


def test_many_queries_within_one_another_are_planned_apart() -> None:
    nested = SELECT
    for _ in range(MANY_QUERIES):
        nested = f"Select nested.ssn FROM ({nested}) nested"
    assert SHORT_TEXT <= len(nested) < LONG_TEXT
    for said in (query(nested), parse(nested)):
        with fresh() as play:
            play.client_says(said)
            play.server_gets()
            works(play, apart=True)
            play.server_gets(said)


def test_keys_that_the_steps_need_are_fetched_and_the_plan_is_not_made_again() -> None:
    ring = Keyring(lambda: 0.0)
    with fresh(ring) as play:
        play.client_says(query(MANY_ROWS))
        works(play, apart=True)
        works(play, apart=False)
        play.needs_keys()
        fill(ring)
        play.resumes()
        works(play, apart=False)  # not the plan: that is there
        assert legible(b"".join(play.session.to_server)).count(sealed(SECRET)) == ROWS
        play.session.to_server = []


def test_many_parameters_are_sealed_in_steps() -> None:
    text = f"INSERT INTO public.patients (ssn){BLANKS}VALUES " + ", ".join(f"(${n})" for n in range(1, MANY + 1))
    values = [SECRET] * MANY
    with fresh() as play:
        play.client_says(parse(text, "many"), bind(*values, statement="many"), execute(), SYNC)
        works(play, apart=True)
        works(play, apart=False)
        works(play, apart=True)  # the message is put together
        play.server_gets(
            parse(text, "many", oids=(17,) * MANY),
            bind(*[sealed(SECRET)] * MANY, statement="many", formats=(1,) * MANY),
            execute(),
            SYNC,
        )
        play.server_says(PARSE_COMPLETE, BIND_COMPLETE, command_complete("INSERT 0 1"), ready())
        play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, command_complete("INSERT 0 1"), ready())
        # Once more: the hot path leaves it to the steps as well.
        play.client_says(bind(*values, statement="many"), execute(), SYNC)
        works(play, apart=False)
        works(play, apart=True)
        play.server_gets(bind(*[sealed(SECRET)] * MANY, statement="many", formats=(1,) * MANY), execute(), SYNC)
        assert play.session.counters.rewritten == 2


def test_a_refusal_that_was_found_apart_comes_in_its_place() -> None:
    with fresh() as play:
        play.client_says(parse(REFUSED), SYNC, parse(LONG, "next"), SYNC)
        works(play, apart=True)
        play.server_gets(refused_parse(), SYNC)
        works(play, apart=True)
        play.server_gets(parse(LONG, "next", oids=(17,)), SYNC)
        play.server_says(error("42883"), ready())
        play.client_gets(Says("0A000", "ssn"), ready())


def test_what_the_client_cancels_is_refused_and_the_next_goes_on() -> None:
    with fresh() as play:
        play.client_says(query(MANY_ROWS))
        assert isinstance(play.need, NeedWork)
        play.need = play.session.resume(QueryCanceled("canceling statement due to user request"), worked=True)
        play.server_gets(REFUSED_QUERY)
        play.server_says(error("42883"), ready())
        play.client_gets(Says("57014", "canceling statement due to user request"), ready())


def test_another_planner_works_anew() -> None:
    """What was found out under a catalogue that is no longer true is not used."""
    with fresh() as play:
        play.client_says(parse(LONG))
        assert isinstance(play.need, NeedWork)
        assert play.database is not None
        play.database.planner = Planner(PROTECTION, CATALOG, Ciphers(full_ring()))
        works(play, apart=True)
        works(play, apart=True)
        play.server_gets(parse(LONG, oids=(17,)))


def test_a_long_definition_is_sealed_by_the_loop() -> None:
    """DDL whose values are sealed into the text: another thread uses no key."""
    text = f"ALTER TABLE public.patients ALTER COLUMN ssn SET DEFAULT{BLANKS}'{SECRET.decode()}'"
    with fresh(Keyring(lambda: 0.0)) as play:
        play.client_says(parse(text))
        works(play, apart=True)
        play.needs_keys()
        play.need = play.session.resume(QueryCanceled("enough"))
        play.server_gets(refused_parse())


def test_a_message_of_many_megabytes_is_put_together_and_sealed_apart() -> None:
    value = SECRET + b"x" * LONG_MESSAGE
    insert = "INSERT INTO public.patients (ssn) VALUES ($1)"
    with fresh() as play:
        play.client_says(parse(insert, "s"), SYNC)
        play.server_gets(parse(insert, "s", oids=(17,)), SYNC)
        play.server_says(PARSE_COMPLETE, ready())
        play.client_gets(PARSE_COMPLETE, ready())
        said = bind(value, statement="s") + execute() + SYNC
        play.client_says(said[:1000])
        play.client_says(said[1000:])
        works(play, apart=True)  # it is put together
        assert play.session.from_client(SYNC) is None  # what comes meanwhile is kept beside it
        works(play, apart=True)  # its values are cut out
        works(play, apart=False)  # and sealed
        play.server_gets(bind(sealed(value), statement="s", formats=(1,)), execute(), SYNC, SYNC)


def test_what_becomes_of_long_copy_data_is_sent_before_the_rest_of_it_is_read() -> None:
    copy, row, portions = query("COPY public.patients (id, ssn) FROM STDIN"), b"1\t" + SECRET + b"\n", list[bytes]()
    rows = 2 * PORTION // len(row) + 2
    with fresh() as play:
        play.client_says(copy)
        play.server_gets(copy)
        play.server_says(COPY_IN)
        play.client_gets(COPY_IN)
        play.client_says(copy_data(row * rows), COPY_DONE)
        for _ in range(3):
            assert not play.session.to_server
            works(play, apart=False)
            portions.append(b"".join(play.session.to_server))
            play.session.to_server = []
        counts = [b"".join(frame[5:] for frame in split(portion)).count(b"\n") for portion in portions]
        assert sum(counts) == rows, "and none twice"
        assert all(0 < count <= PORTION // len(row) + 1 for count in counts)
        assert portions[-1].endswith(COPY_DONE)
        assert not play.session.worked


def test_a_row_of_many_megabytes_is_opened_apart_and_what_comes_behind_it_waits() -> None:
    value = b"x" * LONG_MESSAGE
    with fresh() as play:
        play.client_says(parse(SELECT), bind(results=(1,)), execute(), SYNC)
        play.server_gets(parse(SELECT), bind(results=(1,)), execute(), SYNC)
        said = PARSE_COMPLETE + BIND_COMPLETE + data_row(envelope(SSN, value)) + command_complete("SELECT 1") + ready()
        play.server_says(said[:1000])
        play.server_says(said[1000:-10])
        play.client_gets(PARSE_COMPLETE, BIND_COMPLETE)
        assert play.session.from_server(said[-10:]) is None
        play.client_gets()
        works(play, apart=True)  # it is put together
        works(play, apart=True)  # and opened
        play.client_gets(data_row(value), command_complete("SELECT 1"), ready())
        assert not play.session.worked
        assert len(play.session.over) == 1  # what it came to is let go of in a turn of its own
        play.is_idle()


def test_a_long_row_with_a_wrong_tag_shows_nothing() -> None:
    value = b"x" * LONG_MESSAGE
    with fresh() as play:
        play.client_says(parse(SELECT), bind(results=(1,)), execute(), SYNC)
        play.server_gets(parse(SELECT), bind(results=(1,)), execute(), SYNC)
        wrong = bytearray(envelope(SSN, value))
        wrong[-1] ^= 1
        said = PARSE_COMPLETE + BIND_COMPLETE + data_row(bytes(wrong)) + command_complete("SELECT 1") + ready()
        play.server_says(said[:1000])
        play.server_says(said[1000:])
        play.client_gets(PARSE_COMPLETE, BIND_COMPLETE)
        works(play, apart=True)
        works(play, apart=True)
        play.client_gets(Says("XX001", "does not open"), ready())
        play.is_idle()


def test_what_was_opened_of_a_row_that_is_not_shown_is_not_taken_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (seal, runs):
        monkeypatch.setattr(module, "LONG_VALUE", 8)  # so that each value is one
    group = parse(SELECT_TWO), bind(results=(1, 1)), execute(), SYNC
    asked = parse(SELECT_TWO), bind(), execute(), SYNC
    first, second = envelope(SSN, SECRET), envelope(SSN, b"219-09-9999")
    with fresh() as play:
        play.client_says(*asked, *asked)
        play.server_gets(*group, *group)
        play.server_says(PARSE_COMPLETE, BIND_COMPLETE, data_row(first, b"\xf5\x50\x01\x01\x00 not an envelope"))
        works(play, apart=True)
        play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, Says("XX001"))
        play.server_says(command_complete("SELECT 1"), ready())
        play.client_gets(ready())
        play.server_says(PARSE_COMPLETE, BIND_COMPLETE, data_row(second, envelope(FULL_NAME, b"Zo Mueller")))
        works(play, apart=True)
        works(play, apart=True)
        play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, data_row(b"219-09-9999", b"Zo Mueller"))
        play.server_says(command_complete("SELECT 1"), ready())
        play.client_gets(command_complete("SELECT 1"), ready())
