"""Foreign keys between protected columns of one domain, as an application's migrations declare them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.clinic import POLICY
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import Pair, pair

OF_ITSELF = POLICY.replace("      ssn: ", "      mother:    {domain: mrn}\n      ssn: ", 1)

PATIENTS = "CREATE TABLE patients (id serial PRIMARY KEY, mrn varchar(12) UNIQUE, ssn text, notes text)"
ACTIONS = ("", "ON DELETE RESTRICT", "ON DELETE CASCADE", "ON DELETE NO ACTION ON UPDATE RESTRICT")


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names tables that nobody has made yet."""
    directory = tmp_path_factory.mktemp("foreign")
    with open_site(postgres_server, directory, policy=OF_ITSELF, ddl="SELECT", planned=True) as site:
        yield site


def use(both: Pair, *, prepare: bool | None) -> None:
    """Fill both tables, and try what the key forbids."""
    one, two, three = (both.oracle.plant("mrn") for _ in range(3))
    for mrn in (one, two):
        both.run("INSERT INTO patients (mrn, notes) VALUES (%s, '') RETURNING *", (mrn,), prepare=prepare)
    both.run("INSERT INTO visits VALUES (1, %s, 'x')", (one,), prepare=prepare)
    both.run("INSERT INTO visits SELECT 2, mrn, 'y' FROM patients WHERE mrn = %s RETURNING *", (two,), prepare=prepare)
    both.run("INSERT INTO visits VALUES (3, %s, 'x')", (three,), prepare=prepare)
    both.run("INSERT INTO visits VALUES (4, NULL, NULL)", prepare=prepare)
    both.run("UPDATE visits SET mrn = %s WHERE id = 1 RETURNING *", (three,), prepare=prepare)
    both.run("UPDATE visits SET mrn = %s WHERE id = 1 RETURNING *", (two,), prepare=prepare)
    both.run("UPDATE patients SET mrn = %s WHERE mrn = %s", (three, two), prepare=prepare)
    both.run("UPDATE patients SET mrn = %s WHERE mrn = %s", (two, two), prepare=prepare)
    both.run("UPDATE patients SET mrn = %s WHERE mrn = %s", (three, one), prepare=prepare)
    both.run("SELECT * FROM patients p JOIN visits v ON p.mrn = v.mrn", prepare=prepare)
    both.run("SELECT * FROM patients NATURAL JOIN visits", prepare=prepare)
    both.run("DELETE FROM patients WHERE mrn = %s", (two,), prepare=prepare)
    both.run("SELECT * FROM visits", prepare=prepare)
    both.run("ALTER TABLE visits ADD COLUMN room text", prepare=prepare)
    both.run("INSERT INTO visits VALUES (7, NULL, NULL, 'here') RETURNING *", prepare=prepare)
    both.run("INSERT INTO visits TABLE ONLY visits", prepare=prepare)
    both.run("WITH x AS (TABLE patients) TABLE x LIMIT 9", prepare=prepare)
    both.run("TABLE public.visits UNION ALL TABLE visits", prepare=prepare)
    both.run("TRUNCATE patients")
    both.run("TRUNCATE patients, visits")


@pytest.mark.parametrize(("action", "prepare"), list(zip(ACTIONS, [None, True, True, None], strict=True)))
def test_as_columns_tables_and_alterations_declare_them(site: Site, action: str, prepare: bool | None) -> None:
    with pair(site) as both:
        both.run(PATIENTS, prepare=prepare)
        own = "id int, mrn varchar(12), diagnosis text"
        for name, created, altered in (
            ("of a column", f"id int, mrn varchar(12) REFERENCES patients (mrn) {action}, diagnosis text", None),
            ("of a table", f"{own}, CONSTRAINT k FOREIGN KEY (mrn) REFERENCES patients (mrn) {action}", None),
            ("added", own, f"ADD FOREIGN KEY (mrn) REFERENCES public.patients (mrn) {action}"),
        ):  # fmt: skip
            both.run(f"CREATE TABLE visits ({created})", prepare=prepare)
            if altered is not None:
                both.run(f"ALTER TABLE visits {altered}", prepare=prepare)
            use(both, prepare=prepare)
            constraint = "k" if name == "of a table" else "visits_mrn_fkey"
            both.run(f"ALTER TABLE visits DROP CONSTRAINT {constraint}", prepare=prepare)
            both.run("INSERT INTO visits (mrn) VALUES (%s)", (both.oracle.plant("mrn"),), prepare=prepare)
            if altered is None:
                both.run("DROP TABLE visits", prepare=prepare)
        site.cli("check")


DEFERRED = "REFERENCES patients (mrn) DEFERRABLE INITIALLY DEFERRED"
DEFERRED_KEYS = [
    [
        "CREATE TABLE visits (id int, mrn varchar(12) REFERENCES patients (mrn))",
        f"ALTER TABLE visits ADD CONSTRAINT later FOREIGN KEY (mrn) {DEFERRED}",
        "ALTER TABLE visits DROP CONSTRAINT visits_mrn_fkey",
    ],
    [f"CREATE TABLE visits (id int, mrn varchar(12) NOT NULL {DEFERRED})"],
    ["CREATE TABLE visits (id int)", f"ALTER TABLE visits ADD mrn varchar(12) {DEFERRED.replace('DEFERRABLE', '')}"],
]


@pytest.mark.parametrize("made", DEFERRED_KEYS)
def test_errors_name_what_the_client_knows(site: Site, made: list[str]) -> None:
    with pair(site, autocommit=False) as both:
        for statement in (PATIENTS, *made):
            both.run(statement)
        both.commit()
        both.run("INSERT INTO visits VALUES (1, %s)", (both.oracle.plant("mrn"),))
        told = []
        for conn in both.sides:
            with pytest.raises(Exception, match="violates foreign key constraint") as caught:
                conn.commit()
            told.append(str(caught.value))
        assert "phi_tag" not in told[1]
        assert "\\x" not in told[1]
        assert told[1].partition("DETAIL")[0] == told[0].partition("DETAIL")[0]
        assert "Key (mrn)" in told[1]


def test_columns_that_go(site: Site) -> None:
    with pair(site) as both:
        both.run(PATIENTS)
        both.run("CREATE TABLE visits (id int, mrn varchar(12) REFERENCES patients (mrn))")
        both.run("ALTER TABLE patients DROP COLUMN mrn")
        both.run("ALTER TABLE visits DROP COLUMN mrn")
        both.run("INSERT INTO visits VALUES (1) RETURNING *")
        both.run("ALTER TABLE patients DROP COLUMN mrn")
        both.run("INSERT INTO patients VALUES (1, 'x', '') RETURNING *")


def test_what_cannot_be(site: Site) -> None:
    with pair(site) as both:
        both.run("CREATE TABLE patients (id int PRIMARY KEY, mrn varchar(12), ssn text UNIQUE)")
        for definition in (
            "mrn varchar(12) REFERENCES patients (mrn)",
            "mrn varchar(12) REFERENCES patients (ssn)",
            "mrn varchar(12) REFERENCES patients",
            "mrn varchar(12) REFERENCES patients (mrn) ON DELETE SET NULL",
            "mrn varchar(12), x text REFERENCES patients (ssn)",
        ):
            assert both.refused(f"CREATE TABLE visits (id int, {definition})").diag.message_hint


def test_keys_of_several_columns(site: Site) -> None:
    with pair(site) as both:
        both.run("CREATE TABLE patients (id int, mrn varchar(12), city text, notes text, UNIQUE (city, mrn))")
        one, two = both.oracle.plant("mrn"), both.oracle.plant("mrn")
        both.run("INSERT INTO patients VALUES (1, %s, 'here', ''), (2, %s, 'there', NULL)", (one, two))
        key = "FOREIGN KEY (mrn, room) REFERENCES patients (mrn, city)"
        both.run(f"CREATE TABLE visits (id int, room text, mrn varchar(12), {key} MATCH FULL ON DELETE CASCADE)")
        for prepare in (None, True):
            both.run("INSERT INTO visits VALUES (1, 'here', %s) RETURNING *", (one,), prepare=prepare)
            both.run("INSERT INTO visits VALUES (1, 'there', %s)", (one,), prepare=prepare)
            both.run("INSERT INTO visits VALUES (1, NULL, %s)", (one,), prepare=prepare)
            both.run("UPDATE visits SET room = 'there'", prepare=prepare)
            both.run("UPDATE visits SET room = 'there', mrn = %s RETURNING *", (two,), prepare=prepare)
        both.run("DELETE FROM patients WHERE mrn = %s", (two,))
        both.run("SELECT * FROM visits")
        both.run("ALTER TABLE visits DROP CONSTRAINT visits_mrn_room_fkey")
        both.run(f"ALTER TABLE visits ADD {key}")
        both.run("INSERT INTO visits VALUES (1, NULL, %s)", (two,))
        both.run("ALTER TABLE visits DROP COLUMN mrn")
        both.run("SELECT * FROM visits")
        site.cli("check")


def test_tables_that_refer_to_themselves(site: Site) -> None:
    with pair(site) as both:
        keys = (
            "mother varchar(12) REFERENCES patients (mrn)",
            "mother varchar(12), FOREIGN KEY (mother) REFERENCES public.patients (mrn)",
        )
        for prepare, key in zip((None, True), keys, strict=True):
            parent = "parent int REFERENCES patients (id) ON DELETE SET NULL"
            both.run(
                f"CREATE TABLE patients (id int PRIMARY KEY, mrn varchar(12) UNIQUE, {parent}, {key} ON DELETE CASCADE)",
                prepare=prepare,
            )
            one, two, three = (both.oracle.plant("mrn") for _ in range(3))
            both.run(
                "INSERT INTO patients VALUES (1, %s, NULL, NULL), (2, %s, 1, %s) RETURNING *", (one, two, one), prepare=prepare
            )
            both.run("INSERT INTO patients VALUES (3, %s, NULL, %s)", (three, both.oracle.plant("mrn")), prepare=prepare)
            both.run("INSERT INTO patients VALUES (3, %s, NULL, %s)", (three, three), prepare=prepare)
            both.run("DELETE FROM patients WHERE mrn = %s", (one,), prepare=prepare)
            both.run("SELECT * FROM patients", prepare=prepare)
            site.cli("check")
            both.run("DROP TABLE patients", prepare=prepare)
        error = both.refused("CREATE TABLE patients (mrn varchar(12), mother varchar(12) REFERENCES patients (mrn))")
        assert "unique constraint" in str(error)


def test_what_a_key_refers_to_goes_after_it_only(site: Site) -> None:
    with pair(site) as both:
        both.run(PATIENTS)
        both.run("CREATE TABLE visits (id int, mrn varchar(12) REFERENCES patients (mrn))")
        both.run("ALTER TABLE patients DROP CONSTRAINT patients_mrn_key")
        both.run("ALTER TABLE visits DROP CONSTRAINT visits_mrn_fkey")
        both.run("ALTER TABLE patients DROP CONSTRAINT patients_mrn_key")
        twice = both.oracle.plant("mrn")
        both.run("INSERT INTO patients (mrn) VALUES (%s), (%s)", (twice, twice))
        both.run("TRUNCATE patients")
        both.run("ALTER TABLE patients ADD CONSTRAINT once UNIQUE (mrn)")
        both.run("ALTER TABLE visits ADD CONSTRAINT k FOREIGN KEY (mrn) REFERENCES patients (mrn)")
        both.run("ALTER TABLE patients DROP CONSTRAINT once CASCADE")
        both.run("INSERT INTO visits VALUES (1, %s)", (both.oracle.plant("mrn"),))
        both.run("INSERT INTO patients (mrn) VALUES (%s), (%s)", (twice, twice))
        site.cli("check")


@pytest.mark.parametrize("prepare", [None, True])
def test_an_index_that_a_key_needs_stays(site: Site, prepare: bool | None) -> None:
    with pair(site) as both:
        both.run("CREATE TABLE patients (id int, mrn varchar(12), ssn text)")
        both.run("CREATE UNIQUE INDEX own ON patients (mrn)")
        both.run("CREATE TABLE visits (id int, mrn varchar(12) CONSTRAINT of_patient REFERENCES patients (mrn))")
        both.run("DROP INDEX own", prepare=prepare)
        both.run("INSERT INTO visits VALUES (1, 'nobody')")
        both.run("DROP INDEX own CASCADE", prepare=prepare)
        both.run("INSERT INTO visits VALUES (1, 'nobody')")
        both.run("SELECT * FROM visits")
        both.run("DROP TABLE visits")
        both.run("DROP TABLE patients")
