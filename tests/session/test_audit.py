"""What was opened under a compromised key is recorded once for each execution of a statement, and for no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.crypto.envelope import envelope_parts
from phiproxy.crypto.keyring import DataKey
from phiproxy.plan.cache import Planner
from phiproxy.plan.ciphers import Ciphers
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.session.audit import Doubt
from tests.clinic_model import CATALOG, PROTECTION
from tests.session.frames import (
    BIND_COMPLETE,
    COPY_DONE,
    COPY_OUT,
    PARSE_COMPLETE,
    SYNC,
    bind,
    column,
    command_complete,
    copy_data,
    data_row,
    execute,
    parse,
    query,
    ready,
    row_description,
)
from tests.session.screenplay import FAR, MRN, SECRET, SSN, FakeDatabase, Screenplay, envelope, full_ring, hexed

SELECT = "SELECT ssn, mrn FROM public.patients"
COLUMNS = (column("ssn", 17, table=100, attnum=2), column("mrn", 17, table=100, attnum=4))


def doubt(column: ProtectedColumn, value: bytes) -> Doubt:
    """Return what is told of this value, by the key that its envelope names."""
    return Doubt(column.label, envelope_parts(value, column.number)[0], "compromised")


SSN_VALUE, MRN_VALUE = envelope(SSN, SECRET), envelope(MRN, b"A1")
SSN_READ, MRN_READ = doubt(SSN, SSN_VALUE), doubt(MRN, MRN_VALUE)


@pytest.fixture
def database() -> FakeDatabase:
    """One whose data keys are all compromised."""
    ring = full_ring()
    database = FakeDatabase()

    def noticed(label: str, key: DataKey) -> None:
        database.doubtful[Doubt(label, key.id, key.state)] += 1

    for number in ring.held():
        key = ring.data_key(number)
        ring.put_data_key(replace(key, secret=bytes(key.secret), state="compromised"), FAR)
    database.planner = Planner(PROTECTION, CATALOG, Ciphers(ring, noticed))
    return database


def test_each_execution_is_one_record_however_its_rows_arrive(database: FakeDatabase) -> None:
    play = Screenplay(database)
    play.client_says(parse(SELECT), bind(), execute(), bind(), execute(), SYNC)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, data_row(SSN_VALUE, MRN_VALUE))
    database.doubtful[SSN_READ] += 9  # what a session opens that is no row: a constraint's condition
    play.server_says(data_row(SSN_VALUE, None), command_complete("SELECT 2"), BIND_COMPLETE)
    assert database.audited == []
    play.server_says(data_row(None, MRN_VALUE), command_complete("SELECT 1"))
    assert database.audited == [{SSN_READ: 2, MRN_READ: 1}]
    play.server_says(ready())
    assert database.audited == [{SSN_READ: 2, MRN_READ: 1}, {MRN_READ: 1}]


def test_each_statement_of_a_simple_query_is_one(database: FakeDatabase) -> None:
    play = Screenplay(database)
    play.client_says(query(f"{SELECT}; {SELECT}; SELECT city FROM public.patients"))
    row = data_row(hexed(SSN_VALUE), hexed(MRN_VALUE))
    play.server_says(row_description(*COLUMNS), row, row, command_complete("SELECT 2"))
    play.server_says(row_description(*COLUMNS), data_row(None, None), command_complete("SELECT 1"))
    play.server_says(row_description(column("city", 25, table=100, attnum=6)), data_row(b"Turku"), command_complete("SELECT 1"))
    play.server_says(ready())
    assert database.audited == [{SSN_READ: 2, MRN_READ: 2}]


def test_a_copy_is_one(database: FakeDatabase) -> None:
    play = Screenplay(database)
    play.client_says(query("COPY public.patients (id, ssn) TO STDOUT"))
    row = copy_data(b"1\t\\\\x" + SSN_VALUE.hex().encode() + b"\n")
    play.server_says(COPY_OUT, row, row)
    play.server_says(row, COPY_DONE, command_complete("COPY 3"), ready())
    assert database.audited == [{SSN_READ: 3}]


def test_what_was_shown_before_the_conversation_ended_is_told(database: FakeDatabase) -> None:
    play = Screenplay(database)
    play.client_says(parse(SELECT), bind(), execute(), SYNC)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, data_row(SSN_VALUE, MRN_VALUE))
    play.session.tell_doubtful()
    play.session.tell_doubtful()
    assert database.audited == [{SSN_READ: 1, MRN_READ: 1}]


def test_under_good_keys_there_is_none() -> None:
    play = Screenplay()
    play.client_says(query(SELECT))
    play.server_says(row_description(*COLUMNS), data_row(hexed(SSN_VALUE), None), command_complete("SELECT 1"), ready())
    assert play.database is not None
    assert play.database.audited == []
