"""Migrations that rename what is protected: to names that the policy says beforehand, in both directions, and rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import Pair, pair

POLICY = """\
database: {database}
deployment: renaming-test
domains:
  mrn: {type: varchar(12), indexes: [value], distinct: 1000000}
tables:
  public.patients:
    renamed_to: public.other
    columns:
      mrn: {domain: mrn}
      number: {domain: mrn}
      ssn: {type: text, indexes: [ssn], distinct: 100000000, renamed_to: social}
      notes: {type: text}
  public.visits:
    renamed_to: moved.visits
    columns:
      diagnosis: {type: text}
  ward.beds:
    renamed_to: wing.beds
    columns:
      note: {type: text, indexes: [note], distinct: 100000000}
"""
TABLE = "CREATE TABLE patients (id int PRIMARY KEY, mrn varchar(12), ssn text NOT NULL UNIQUE, notes text)"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names tables that nobody has made yet, each under two names."""
    directory = tmp_path_factory.mktemp("renaming")
    schemas = "CREATE SCHEMA moved; CREATE SCHEMA ward"
    with open_site(postgres_server, directory, policy=POLICY, ddl="SELECT", planned=True) as site:
        for database in (site.plain, site.sealed):
            with site.server.connect(database) as conn:
                conn.execute(f"GRANT CREATE ON DATABASE {database} TO {site.role}; SET ROLE {site.role}; {schemas}".encode())
                conn.execute(f"GRANT USAGE ON SCHEMA moved, ward TO {site.service}".encode())
                conn.execute(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {site.service}".encode())
        yield site


def use(both: Pair, table: str, column: str, key: int, *, prepare: bool | None) -> None:
    """Store and search under these names."""
    ssn = both.oracle.plant("ssn")
    both.run(f"INSERT INTO {table} (id, {column}, notes) VALUES (%s, %s, '') RETURNING *", (key, ssn), prepare=prepare)
    both.run(f"INSERT INTO {table} (id, {column}) VALUES (%s, %s)", (key + 50, ssn), prepare=prepare)  # 23505 on both
    both.run(f"SELECT * FROM {table} WHERE {column} = %s", (ssn,), prepare=prepare)
    both.run(f"SELECT {column}, count(*) FROM {table} GROUP BY {column}", prepare=prepare)


@pytest.mark.parametrize("prepare", [None, True])
def test_columns_and_tables(site: Site, prepare: bool | None) -> None:
    with pair(site) as both:
        both.run(TABLE)
        use(both, "patients", "ssn", 1, prepare=prepare)
        both.run("ALTER TABLE patients RENAME COLUMN ssn TO social", prepare=prepare)
        use(both, "patients", "social", 2, prepare=prepare)
        both.run("SELECT ssn FROM patients", prepare=prepare)
        site.cli("check")
        both.run("ALTER TABLE patients RENAME mrn TO number", prepare=prepare)
        both.run("INSERT INTO patients (id, social, number) VALUES (9, 'x', %s)", (both.oracle.plant("mrn"),), prepare=prepare)
        both.run("ALTER TABLE patients RENAME TO other", prepare=prepare)
        use(both, "other", "social", 3, prepare=prepare)
        both.run("SELECT * FROM patients", prepare=prepare)
        site.cli("check")
        both.run("ALTER TABLE other RENAME social TO ssn", prepare=prepare)
        use(both, "other", "ssn", 4, prepare=prepare)
        both.run("ALTER TABLE other RENAME TO patients", prepare=prepare)
        use(both, "patients", "ssn", 5, prepare=prepare)
        site.cli("check")


@pytest.mark.parametrize("prepare", [None, True])
def test_rolled_back(site: Site, prepare: bool | None) -> None:
    with pair(site, autocommit=False) as both:
        both.run(TABLE)
        both.commit()
        both.run("ALTER TABLE patients RENAME COLUMN ssn TO social", prepare=prepare)
        both.run("ALTER TABLE patients RENAME TO other", prepare=prepare)
        use_in_transaction = "INSERT INTO other (id, social) VALUES (1, %s) RETURNING *"
        both.run(use_in_transaction, (both.oracle.plant("ssn"),), prepare=prepare)
        both.run("SAVEPOINT a")
        both.run("ALTER TABLE other RENAME COLUMN social TO ssn", prepare=prepare)
        both.run("SELECT ssn FROM other", prepare=prepare)
        both.run("ROLLBACK TO a")
        both.run("SELECT social FROM other", prepare=prepare)
        both.rollback()
        ssn = both.oracle.plant("ssn")
        both.run("INSERT INTO patients (id, ssn) VALUES (1, %s) RETURNING *", (ssn,), prepare=prepare)
        both.run("SELECT * FROM patients WHERE ssn = %s", (ssn,), prepare=prepare)
        both.commit()
        site.cli("check")


def test_another_proxy_knows_the_new_name_before_it_is_there(site: Site) -> None:
    """Its catalogue is never so old that it takes the renamed column for an unprotected one."""
    with pair(site) as both, site.another_proxy("second") as second:
        both.run(TABLE)
        both.run("INSERT INTO patients (id, ssn) VALUES (1, %s)", (both.oracle.plant("ssn"),))
        with psycopg.connect(second.dsn(site.sealed, site.role, site.password), autocommit=True) as conn:
            directly, mine = both.sides
            try:
                for key, (column, statement) in enumerate(
                    [("social", "ALTER TABLE patients RENAME ssn TO social"), ("ssn", "ALTER TABLE patients RENAME social TO ssn")]
                    * 5,
                    start=2,
                ):
                    conn.execute("SELECT count(*) FROM patients")
                    both.run(statement)
                    both.sides[1] = conn
                    use(both, "patients", column, key, prepare=None)
                    both.sides[1] = mine
            finally:
                both.sides[:] = [directly, mine]


def test_schemas(site: Site) -> None:
    with pair(site) as both:
        both.run("CREATE TABLE visits (id int, diagnosis text)")
        both.run("CREATE TABLE ward.beds (id int, note text UNIQUE)")
        value = both.oracle.plant("name")
        both.run("ALTER TABLE visits SET SCHEMA moved")
        both.run("INSERT INTO moved.visits VALUES (1, %s) RETURNING *", (value,))
        both.run("ALTER TABLE moved.visits SET SCHEMA public")
        both.run("SELECT * FROM visits")
        both.refused("ALTER SCHEMA ward RENAME TO annex")
        both.run("ALTER SCHEMA ward RENAME TO wing")
        both.run("INSERT INTO wing.beds VALUES (1, %s)", (value,))
        both.run("INSERT INTO wing.beds VALUES (2, %s)", (value,))
        both.run("SELECT * FROM wing.beds WHERE note = %s", (value,))
        site.cli("check")
        both.run("ALTER SCHEMA wing RENAME TO ward")
        both.run("SELECT * FROM ward.beds")
        both.run("DROP TABLE ward.beds")


def test_what_the_policy_does_not_say_is_refused(site: Site) -> None:
    with pair(site) as both:
        both.run(TABLE)
        for change in (
            "RENAME ssn TO number", "RENAME notes TO remarks", "RENAME id TO social", "RENAME TO clients", "SET SCHEMA moved",
        ):  # fmt: skip
            assert both.refused(f"ALTER TABLE patients {change}").diag.message_hint
        both.run("CREATE TABLE unprotected (social text)")
        both.refused("ALTER TABLE unprotected RENAME TO other")
        both.run("DROP TABLE unprotected")


def test_the_policy_follows(site: Site) -> None:
    """Once the migration is everywhere, the policy says only the new name, with the old one's id."""
    with pair(site) as both:
        both.run(TABLE)
        use(both, "patients", "ssn", 1, prepare=None)
        both.run("ALTER TABLE patients RENAME ssn TO social")
        file = site.directory / "policy.yaml"
        before = file.read_text()
        new = (
            before.replace("ssn: {", "social: {id: public.patients.ssn, ")
            .replace("[ssn]", "[social]")
            .replace(", renamed_to: social", "")
        )
        file.write_text(new)
        try:
            site.cli("keys", "init")
            site.cli("check")
            with site.another_proxy("after") as after, psycopg.connect(after.dsn(site.sealed, site.role, site.password)) as conn:
                assert (
                    conn.execute("SELECT social FROM patients").fetchall()
                    == both.sides[0].execute("SELECT social FROM patients").fetchall()
                )
        finally:
            file.write_text(before)
        site.cli("check")
