"""The clinic: patients and visits, in plaintext and sealed, and what a test does with them.

``clinic_site`` is one for the whole run; ``clinic`` empties both twins before a test and asks the leak oracle after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tests.harness.oracle import LeakOracle
from tests.harness.site import Site

POLICY = """\
database: {database}
deployment: clinic-test
domains:
  mrn: {type: varchar(12), indexes: [value], distinct: 1000000}
tables:
  public.patients:
    columns:
      mrn:       {domain: mrn}
      ssn:       {type: text, indexes: [ssn], distinct: 100000000}
      full_name: {type: text, indexes: [full_name], distinct: 1000000}
      phone:     {type: varchar(20), indexes: [phone], distinct: 1000000}
      address:   {type: text}
      notes:     {type: text, pad: 64}
  public.visits:
    columns:
      mrn:       {domain: mrn}
      diagnosis: {type: text, indexes: [diagnosis], accept_leakage: "the tests: there is no patient here"}
"""

DDL = """\
CREATE TABLE patients (
    id serial PRIMARY KEY,
    mrn varchar(12),
    ssn text,
    full_name text,
    phone varchar(20),
    address text,
    notes text,
    city text,
    active boolean,
    visits_count int
);
CREATE TABLE visits (
    id serial PRIMARY KEY,
    patient_id int REFERENCES patients (id),
    mrn varchar(12),
    diagnosis text,
    room text
);
"""

PROTECTED = {
    "patients": ("mrn", "ssn", "full_name", "phone", "address", "notes"),
    "visits": ("mrn", "diagnosis"),
}


@dataclass
class Patient:
    """One planted patient; every protected value is unique and unmistakable."""

    mrn: str
    ssn: str
    full_name: str
    phone: str
    address: str
    notes: str
    city: str = "Springfield"
    active: bool = True
    visits_count: int = 0

    def row(self) -> tuple[str | int | bool, ...]:
        """Return the values in the order of the columns after id."""
        return tuple(vars(self).values())


INSERT = (
    "INSERT INTO patients (mrn, ssn, full_name, phone, address, notes, city, active, visits_count)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
)


@dataclass
class Clinic:
    """The site, empty, with the oracle that watches this test."""

    site: Site
    oracle: LeakOracle
    patients: list[Patient] = field(default_factory=list)

    @property
    def plain_dsn(self) -> str:
        """Straight to the plaintext twin."""
        return self.site.plain_dsn

    @property
    def proxy_dsn(self) -> str:
        """Through the proxy to the sealed database."""
        return self.site.proxy_dsn

    def plant(self, shape: str = "text") -> str:
        """Return a value that must never be seen behind the proxy."""
        return self.oracle.plant(shape)

    def new_patient(self, **changes: str | int | bool) -> Patient:
        """Make a patient of planted values; it is not stored."""
        kinds = {"mrn": "mrn", "ssn": "ssn", "full_name": "name", "phone": "phone", "address": "text", "notes": "text"}
        values: dict[str, str | int | bool] = {column: self.plant(shape) for column, shape in kinds.items()}
        return Patient(**{**values, **changes})  # type: ignore[arg-type]

    def seed(self, count: int = 5) -> list[Patient]:
        """Store patients and one visit each in both twins, each by its own way; ids are 1…count on both."""
        fresh = [self.new_patient(visits_count=n, city=("Springfield", "Shelbyville")[n % 2]) for n in range(count)]
        diagnoses = [self.plant() for _ in range(2)]
        with psycopg.connect(self.proxy_dsn) as proxied:
            for conn in (self.site.server.standing(self.site.plain), proxied):
                for number, patient in enumerate(fresh, len(self.patients) + 1):
                    conn.execute(INSERT, patient.row())
                    conn.execute(
                        "INSERT INTO visits (patient_id, mrn, diagnosis, room) VALUES (%s, %s, %s, %s)",
                        (number, patient.mrn, diagnoses[number % 2], f"R{number}"),
                    )
        self.patients += fresh
        return fresh

    def raw(self, table: str, column: str, order: str = "id") -> list[bytes | None]:
        """Return one column of the sealed database as it is stored."""
        query = sql.SQL("SELECT {} FROM {} ORDER BY {}").format(*map(sql.Identifier, (column, table, order)))
        values = [value for (value,) in self.site.server.standing(self.site.sealed).execute(query)]
        return [v.encode() if isinstance(v, str) else v if v is None else bytes(v) for v in values]  # type: ignore[call-overload]

    def superuser(self) -> psycopg.Connection[TupleRow]:
        """Connect to the sealed database directly, as superuser: what a thief or a careless DBA can do."""
        return psycopg.connect(self.site.server.dsn(self.site.sealed), autocommit=True)

    def assert_sealed(self) -> int:
        """Every stored protected value is an envelope; returns how many there are."""
        count = 0
        conn = self.site.server.standing(self.site.sealed)
        for table, columns in PROTECTED.items():
            named = sql.SQL(", ").join(map(sql.Identifier, columns))
            for row in conn.execute(sql.SQL("SELECT {} FROM {}").format(named, sql.Identifier(table))):
                for column, value in zip(columns, row, strict=True):
                    if value is not None:
                        count += 1
                        sealed = isinstance(value, bytes) and value[:3] == b"\xf5\x50\x01"
                        assert sealed, f"{table}.{column} holds something that is not an envelope"
        return count

    def assert_twins_equal(self) -> None:
        """Everything in the sealed database, read through the proxy, equals the plaintext twin."""
        plain = self.site.server.standing(self.site.plain)
        with psycopg.connect(self.proxy_dsn) as proxied:
            for table in PROTECTED:
                query = sql.SQL("SELECT * FROM {} ORDER BY id").format(sql.Identifier(table))
                expected, found = plain.execute(query), proxied.execute(query)
                assert [c.name for c in found.description or ()] == [c.name for c in expected.description or ()]
                assert found.fetchall() == expected.fetchall(), f"{table} differs between the twins"


def empty(site: Site) -> None:
    """Empty both twins and restart their sequences, behind the proxy's back."""
    for database in (site.plain, site.sealed):
        site.server.standing(database).execute("TRUNCATE patients, visits RESTART IDENTITY CASCADE")


@contextmanager
def watched_clinic(site: Site, files: Callable[[], Iterable[Path]] = tuple, *, of_many: bool = False) -> Iterator[Clinic]:
    """Yield the emptied clinic; afterwards the oracle must find nothing and every stored value must be sealed.

    ``files`` are more that it searches; ``of_many``: the site is that of many tests, whose values are their own.
    """
    if not site.proxy.running:
        site.proxy.start()
    empty(site)
    site.tap.reset()
    logs = lambda: sorted(site.directory.glob("*.log"))  # noqa: E731
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=logs, files=files, of_many=of_many)
    clinic = Clinic(site, oracle)
    clinic.plant()  # so that a test which plants nothing is still searched for something
    yield clinic
    clinic.assert_sealed()
    oracle.assert_no_leak()
