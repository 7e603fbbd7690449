"""A stored value that was changed or moved never opens: XX001, and never data, NULL or ciphertext."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from tests.harness.clinic import Clinic


class Vandal:
    """Writes raw values past the proxy and its guards, and reads them back through the proxy."""

    def __init__(self, clinic: Clinic, direct: psycopg.Connection, through: psycopg.Connection) -> None:
        self.clinic = clinic
        self.direct = direct
        self.through = through

    def put(self, column: str, value: bytes, *, table: str = "patients", row: int = 1) -> None:
        query = sql.SQL("UPDATE {} SET {} = %s WHERE id = %s").format(sql.Identifier(table), sql.Identifier(column))
        self.direct.execute(query, (value, row))

    def get(self, column: str, *, table: str = "patients", row: int = 1, binary: bool = False) -> object:
        query = sql.SQL("SELECT {} FROM {} WHERE id = %s").format(sql.Identifier(column), sql.Identifier(table))
        if self.through.closed:
            self.through = psycopg.connect(self.clinic.proxy_dsn, autocommit=True)
        found = self.through.execute(query, (row,), binary=binary).fetchone()
        assert found is not None
        return found[0]

    def assert_refused(self, column: str, what: str, *, table: str = "patients", row: int = 1) -> None:
        try:
            found = self.get(column, table=table, row=row)
        except psycopg.Error as error:
            answer = f"{error.sqlstate} {'by phiproxy' if str(error).startswith('phiproxy:') else ''}"
        else:
            answer = "NULL" if found is None else "data" if found in self.clinic.oracle.planted else "something"
        assert answer == "XX001 by phiproxy", f"{what}: {answer} was returned"


@pytest.fixture
def vandal(clinic: Clinic) -> Iterator[Vandal]:
    clinic.seed(2)
    with clinic.superuser() as direct, psycopg.connect(clinic.proxy_dsn, autocommit=True) as through:
        # The guards stop careless hands; a thief drops them, or writes files.
        guards = direct.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint"
            " WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
        ).fetchall()
        definitions = [
            direct.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s", (name,)).fetchone()
            for _, name in guards
        ]
        for table, name in guards:
            direct.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(table), sql.Identifier(name)))
        made = Vandal(clinic, direct, through)
        try:
            yield made
        finally:
            made.through.close()
            direct.execute("TRUNCATE patients, visits CASCADE")
            for (table, name), definition in zip(guards, definitions, strict=True):
                assert definition is not None
                direct.execute(
                    sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} ").format(sql.Identifier(table), sql.Identifier(name))
                    + sql.SQL(definition[0])
                )


def test_one_bit_in_every_byte(vandal: Vandal) -> None:
    (stored, _) = vandal.clinic.raw("patients", "notes")
    assert stored is not None
    assert vandal.get("notes") == vandal.clinic.patients[0].notes
    for at in range(len(stored)):
        changed = bytearray(stored)
        changed[at] ^= 1 << (at % 8)
        vandal.put("notes", bytes(changed))
        vandal.assert_refused("notes", f"bit {at % 8} of byte {at}")
    vandal.put("notes", stored)
    assert vandal.get("notes") == vandal.clinic.patients[0].notes


def test_every_bit_of_a_short_value(vandal: Vandal) -> None:
    (stored, _) = vandal.clinic.raw("patients", "ssn")
    assert stored is not None
    for bit in range(8 * len(stored)):
        changed = bytearray(stored)
        changed[bit // 8] ^= 1 << (bit % 8)
        vandal.put("ssn", bytes(changed))
        vandal.assert_refused("ssn", f"bit {bit % 8} of byte {bit // 8}")


CUTS: list[Callable[[bytes], bytes]] = [
    lambda v: v[:-1],
    lambda v: v + b"\0",
    lambda v: v[:3],
    lambda v: v[:12],
    lambda _: b"",
    lambda _: b"plaintext",
    lambda v: v[1:],
    lambda v: v + v,
    lambda v: v[:12] + v[28:],
    lambda v: v[:11] + bytes([v[11] + 1]) + v[12:28] + v[12:28] + v[28:],
]


@pytest.mark.parametrize("cut", CUTS)
def test_other_lengths_and_other_bytes(vandal: Vandal, cut: Callable[[bytes], bytes]) -> None:
    stored = vandal.clinic.raw("patients", "ssn")[0]
    assert stored is not None
    vandal.put("ssn", cut(stored))
    vandal.assert_refused("ssn", "a cut value")


@pytest.mark.parametrize(
    ("source", "table", "column"),
    [
        ("ssn", "patients", "full_name"),
        ("full_name", "patients", "ssn"),
        ("notes", "patients", "address"),
        ("address", "patients", "notes"),
        ("ssn", "patients", "mrn"),
        ("mrn", "patients", "ssn"),
        ("full_name", "visits", "diagnosis"),
        ("ssn", "visits", "mrn"),
        ("notes", "visits", "diagnosis"),
    ],
)
def test_a_value_moved_to_another_identity(vandal: Vandal, source: str, table: str, column: str) -> None:
    moved = vandal.clinic.raw("patients", source)[0]
    assert moved is not None
    vandal.put(column, moved, table=table)
    vandal.assert_refused(column, f"{source} in {table}.{column}", table=table)
    # with the number of the column it was moved to, which is what a guard looks at
    own = vandal.clinic.raw(table, column)[1]
    assert own is not None
    vandal.put(column, moved[:9] + own[9:11] + moved[11:], table=table)
    vandal.assert_refused(column, f"{source} in {table}.{column} under its number", table=table)


def test_a_value_moved_within_its_identity_opens(vandal: Vandal) -> None:
    """The boundary that spec/stored-format 8 draws: rows of one identity can be exchanged by who can write the tables."""
    moved = vandal.clinic.raw("patients", "mrn")[1]
    assert moved is not None
    vandal.put("mrn", moved, table="visits")
    assert vandal.get("mrn", table="visits") == vandal.clinic.patients[1].mrn


@pytest.mark.parametrize("binary", [False, True])
def test_the_session_goes_on_after_a_plain_select(vandal: Vandal, binary: bool) -> None:
    stored = vandal.clinic.raw("patients", "ssn")[0]
    assert stored is not None
    vandal.put("ssn", stored[:-1] + bytes([stored[-1] ^ 1]))
    with pytest.raises(psycopg.errors.DataCorrupted, match=r"^phiproxy:"):
        vandal.through.execute("SELECT id, ssn FROM patients ORDER BY id", binary=binary)
    assert vandal.through.execute("SELECT ssn FROM patients WHERE id = 2").fetchone() == (vandal.clinic.patients[1].ssn,)
    assert vandal.through.execute("SELECT count(ssn) FROM patients").fetchone() == (2,)


@pytest.mark.parametrize(
    "text",
    ["SELECT * FROM patients", "UPDATE patients SET city = 'x' RETURNING ssn", "SELECT p.ssn FROM patients p"],
)
def test_every_statement_that_returns_it_fails(vandal: Vandal, text: str) -> None:
    stored = vandal.clinic.raw("patients", "ssn")[0]
    assert stored is not None
    vandal.put("ssn", stored[:40] + bytes([stored[40] ^ 8]) + stored[41:])
    with pytest.raises(psycopg.Error) as caught:
        vandal.through.execute(text.encode())
    assert caught.value.sqlstate == "XX001"
