"""An application's own migrations: the same statements directly on the plaintext twin and through the proxy, the same results."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.clinic import POLICY
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import pair

TABLES = (
    "CREATE TABLE patients (id serial PRIMARY KEY, mrn varchar(12) UNIQUE, ssn text NOT NULL, full_name text, phone varchar(20),"
    " address text, notes text, city text DEFAULT 'Capital City')",
    "CREATE INDEX patients_name ON patients (full_name)",
    "CREATE TABLE visits (id int PRIMARY KEY, patient_id int REFERENCES patients (id), mrn varchar(12), diagnosis text)",
)


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names tables that nobody has made yet."""
    directory = tmp_path_factory.mktemp("migrations")
    with open_site(postgres_server, directory, policy=POLICY, ddl="SELECT", planned=True) as site:
        yield site


@pytest.mark.parametrize("prepare", [None, True])
@pytest.mark.parametrize("autocommit", [True, False])
def test_tables_and_their_use(site: Site, autocommit: bool, prepare: bool | None) -> None:
    with pair(site, autocommit=autocommit) as both:
        for statement in TABLES:
            both.run(statement, prepare=prepare)
        ssn, name, mrn = both.oracle.plant("ssn"), both.oracle.plant("name"), both.oracle.plant("mrn")
        insert = "INSERT INTO patients (mrn, ssn, full_name) VALUES (%s, %s, %s) RETURNING *"
        assert both.run(insert, (mrn, ssn, name), prepare=prepare)[0] == "INSERT 0 1"
        both.run("SELECT * FROM patients WHERE ssn = %s", (ssn,), prepare=prepare)
        both.run("SELECT id, city FROM patients WHERE full_name = %s", (name,), prepare=prepare)
        both.run("INSERT INTO visits VALUES (1, 1, %s, 'none')", (mrn,), prepare=prepare)
        both.run("SELECT p.*, v.* FROM patients p JOIN visits v ON p.mrn = v.mrn", prepare=prepare)
        both.run("ALTER TABLE patients ADD COLUMN zip text", prepare=prepare)
        both.run("UPDATE patients SET zip = '12345' WHERE ssn = %s RETURNING *", (ssn,), prepare=prepare)
        both.commit()
        site.cli("check")  # fails where it is not green
        both.run(insert, (mrn, ssn, name), prepare=prepare)
        both.rollback()
        both.run(insert, (None, None, name), prepare=prepare)
        both.rollback()
        both.run("ALTER TABLE patients DROP CONSTRAINT patients_mrn_key", prepare=prepare)
        both.run(insert, (mrn, ssn, name), prepare=prepare)
        both.run("ALTER TABLE patients DROP COLUMN notes, ALTER COLUMN ssn TYPE text, ALTER COLUMN ssn DROP NOT NULL")
        both.run("SELECT * FROM patients", prepare=prepare)
        both.run("DROP TABLE visits", prepare=prepare)
        both.run("DROP TABLE patients", prepare=prepare)
        both.run("SELECT ssn FROM patients", prepare=prepare)
        both.rollback()
