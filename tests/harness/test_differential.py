"""The differential harness sees a difference when there is one. No proxy here: a plain forwarder stands for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clinic import DDL, Clinic
from tests.harness.differential import Differential
from tests.harness.oracle import LeakOracle
from tests.harness.proxy import ProxyUnderTest
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.tap import Tap


@pytest.fixture
def forwarded(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Differential]:
    server = postgres_server
    plain, other = server.create_database(), server.create_database()
    for database in (plain, other):
        with server.connect(database) as conn:
            conn.execute(DDL)
    with Tap(server.host, server.port) as tap:
        proxy = ProxyUnderTest(tmp_path / "none", tap.port, tmp_path / "none.log")
        names = {"plain": plain, "sealed": other, "role": server.superuser, "password": server.password}
        site = Site(server, tmp_path, service="", env={}, tap=tap, proxy=proxy, **names)
        clinic = Clinic(site, LeakOracle(server, other, tap=tap))
        clinic.seed(3)
        with Differential(clinic) as both:
            yield both
    for database in (plain, other):
        server.drop_database(database)


def change(differential: Differential, statement: str) -> None:
    with differential.clinic.superuser() as conn:
        conn.execute(statement.encode())


def test_equal_databases_are_equal(forwarded: Differential) -> None:
    mrn = forwarded.clinic.patients[0].mrn
    assert len(forwarded.read("SELECT * FROM patients").rows) == 3
    assert len(forwarded.read("SELECT p.*, v.id FROM patients p JOIN visits v USING (mrn) WHERE p.mrn = $1", [mrn]).rows) == 1
    assert forwarded.run("UPDATE visits SET room = $1", ["x"]).tag == "UPDATE 3"
    assert forwarded.run("SELECT nothing FROM patients").sqlstate == "42703"
    assert forwarded.run("SELECT 1; SELECT 2", protocol="simple").text == [("2",)]
    assert forwarded.run("INSERT INTO visits (patient_id) VALUES ($1)", [7], types=[23], param_format=1).sqlstate == "23503"
    forwarded.clinic.assert_twins_equal()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM visits WHERE id = 1", "rows"),
        ("UPDATE visits SET room = 'other' WHERE id = 1", "rows"),
        ("ALTER TABLE visits ALTER room TYPE varchar(9)", "fields"),
        ("ALTER TABLE visits RENAME room TO cell", "fields"),
        ("DROP TABLE visits", "sqlstate"),
    ],
)
def test_a_difference_is_found(forwarded: Differential, statement: str, named: str) -> None:
    change(forwarded, statement)
    with pytest.raises(AssertionError, match=named):
        forwarded.run("SELECT * FROM visits")


def test_different_parameter_types_are_found(forwarded: Differential) -> None:
    change(forwarded, "ALTER TABLE visits ALTER room TYPE varchar(9)")
    with pytest.raises(AssertionError, match="parameter types differ"):
        forwarded.run("INSERT INTO visits (room) VALUES ($1)", ["a"], named=True)


def test_order_counts_only_where_it_is_asked_for(forwarded: Differential) -> None:
    change(forwarded, "UPDATE visits SET room = room WHERE id = 1")  # moves the row to the end of the heap
    forwarded.run("SELECT id FROM visits")
    with pytest.raises(AssertionError, match="rows"):
        forwarded.run("SELECT id FROM visits", ordered=True)


def test_what_is_not_refused_fails(forwarded: Differential) -> None:
    with pytest.raises(AssertionError, match="TUPLES_OK"):
        forwarded.refused("SELECT upper(ssn) FROM patients")
    with pytest.raises(AssertionError, match="42703"):
        forwarded.refused("SELECT nothing FROM patients")


def test_a_plain_forwarder_leaks(forwarded: Differential) -> None:
    with pytest.raises(AssertionError, match=r"table public\.patients.*server log.*upstream"):
        forwarded.clinic.oracle.assert_no_leak()
    with pytest.raises(AssertionError, match="not an envelope"):
        forwarded.clinic.assert_sealed()
