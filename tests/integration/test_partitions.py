"""Partitioned tables and inheritance: what goes in through the parent comes out through the child, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.clinic import DDL, POLICY, watched_clinic
from tests.harness.differential import Differential
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

FAMILY_POLICY = """\
  public.stays:
    columns:
      mrn:  {domain: mrn}
      note: {type: text, indexes: [note], distinct: 1000000}
  public.people:
    columns:
      name: {type: varchar(20), indexes: [name], distinct: 1000000}
"""
FAMILY_DDL = """\
CREATE TABLE stays (id int, ward int, mrn varchar(12), note text) PARTITION BY LIST (ward);
CREATE INDEX stays_mrn ON stays (mrn);
CREATE TABLE stays_1 PARTITION OF stays FOR VALUES IN (1);
CREATE TABLE stays_2 (note text, id int, mrn varchar(12), ward int);
ALTER TABLE stays ATTACH PARTITION stays_2 FOR VALUES IN (2);
CREATE TABLE stays_rest PARTITION OF stays DEFAULT PARTITION BY RANGE (id);
CREATE TABLE stays_low PARTITION OF stays_rest FOR VALUES FROM (0) TO (100);
CREATE TABLE people (id int, name varchar(20));
CREATE TABLE doctors (title text) INHERITS (people);
"""
EVERYTHING = (
    "SELECT tableoid::regclass::text, * FROM stays ORDER BY id",
    "SELECT * FROM stays_1 ORDER BY id",
    "SELECT * FROM stays_2 ORDER BY id",
    "SELECT * FROM stays_low ORDER BY id",
    "SELECT * FROM ONLY people ORDER BY id",
    "SELECT * FROM people ORDER BY id",
    "SELECT * FROM doctors ORDER BY id",
)


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    policy, ddl = POLICY + FAMILY_POLICY, DDL + FAMILY_DDL
    with open_site(postgres_server, tmp_path_factory.mktemp("family"), policy=policy, ddl=ddl, serve=False) as found:
        found.proxy.start()
        yield found


@pytest.fixture
def both(site: Site) -> Iterator[Differential]:
    with watched_clinic(site, of_many=True) as clinic, Differential(clinic) as differential:
        yield differential
        for database in (site.plain, site.sealed):
            with site.server.connect(database) as conn:
                conn.execute("TRUNCATE stays, people")


def fill(both: Differential) -> list[str]:
    words = [both.clinic.plant("mrn") for _ in range(4)]
    for i, (table, ward) in enumerate((("stays", 1), ("stays_1", 1), ("stays", 2), ("stays_low", 9))):
        both.run(f"INSERT INTO {table} (id, ward, mrn, note) VALUES ($1::int, {ward}, $2, $3)", [str(i), words[i], words[0]])
    both.run("INSERT INTO people VALUES (1, $1)", [words[0]])
    both.run("INSERT INTO doctors VALUES (2, $1, 'Dr.')", [words[1]])
    return words


def same(both: Differential) -> None:
    for query in EVERYTHING:
        both.read(query)


def sealed(both: Differential) -> None:
    for table, column in (("stays", "mrn"), ("stays", "note"), ("people", "name")):
        assert all(v is None or v[:3] == b"\xf5\x50\x01" for v in both.clinic.raw(table, column))


def test_through_the_parent_and_through_the_child(both: Differential) -> None:
    words = fill(both)
    same(both)
    sealed(both)
    for table in ("stays", "stays_1", "ONLY stays", "stays_rest", "public.stays_2"):
        both.read(f"SELECT id, note FROM {table} WHERE mrn = $1", [words[1]])
        both.read(f"SELECT mrn, count(*) FROM {table} WHERE note = $1 GROUP BY mrn", [words[0]])
    for table in ("people", "ONLY people", "doctors"):
        both.read(f"SELECT * FROM {table} WHERE name = $1", [words[1]])
    both.read("SELECT p.id, d.title FROM people p JOIN doctors d ON d.name = p.name")
    assert both.run("SELECT count(*) FROM stays s JOIN stays_1 t ON s.mrn = t.mrn").rows == ((b"2",),)


def test_rows_move_between_partitions(both: Differential) -> None:
    words = fill(both)
    new = both.clinic.plant("mrn")
    both.run("UPDATE stays SET ward = 2 WHERE mrn = $1 RETURNING tableoid::regclass::text, mrn", [words[1]])
    both.run("UPDATE stays SET ward = 1, note = $2 WHERE mrn = $1 RETURNING *", [words[2], new])
    both.run("UPDATE stays_1 SET mrn = $1 WHERE note = $2", [new[:12], new])
    both.run("UPDATE people SET name = $1 WHERE name = $2", [new[:12], words[1]])
    both.run("DELETE FROM stays_low WHERE mrn = $1 RETURNING id, note", [words[3]])
    both.run("INSERT INTO stays SELECT 50, 3, mrn, note FROM stays_2 RETURNING *")
    both.run("DELETE FROM ONLY people")
    same(both)
    sealed(both)


def test_copy(both: Differential, site: Site) -> None:
    words = fill(both)
    got = []
    for dsn in (site.plain_dsn, site.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn, conn.cursor() as cursor:
            with cursor.copy("COPY stays_2 FROM STDIN") as copy:
                copy.write_row([words[0], 7, words[1], 2])
            with cursor.copy("COPY stays (id, ward, note) FROM STDIN (FORMAT csv)") as copy:
                copy.write(f"8,1,{words[2]}\n9,77,{words[3]}\n".encode())
            told = []
            for source in ("stays_1", "stays_2 (note, id)", "(SELECT * FROM stays ORDER BY id)", "doctors", "people"):
                with cursor.copy(f"COPY {source} TO STDOUT") as copy:
                    told.append(b"".join(bytes(block) for block in copy))
            got.append(told)
    assert got[0] == got[1]
    same(both)
    sealed(both)


def test_a_partition_comes_and_goes(both: Differential) -> None:
    words = fill(both)
    for statement in (
        "CREATE TABLE stays_5 PARTITION OF stays FOR VALUES IN (5)",
        "CREATE TABLE nurses (shift int) INHERITS (people)",
    ):
        both.run(statement, protocol="simple")
    both.run("INSERT INTO stays_5 VALUES (20, 5, $1, $2)", [words[0], words[1]])
    both.run("INSERT INTO nurses VALUES (21, $1, 3)", [words[2]])
    for query in ("SELECT * FROM stays_5", "SELECT * FROM nurses", *EVERYTHING):
        both.read(query)
    both.read("SELECT * FROM stays_5 WHERE mrn = $1", [words[0]])
    sealed(both)
    for statement in ("DROP TABLE nurses", "DROP TABLE stays_5"):
        both.run(statement, protocol="simple")
    same(both)


def test_a_partition_of_this_transaction(both: Differential) -> None:
    words = fill(both)
    both.run("BEGIN", protocol="simple")
    both.run("CREATE TABLE stays_6 PARTITION OF stays FOR VALUES IN (6)")
    both.run("INSERT INTO stays_6 VALUES (20, 6, $1, $2)", [words[0], words[1]])
    both.run("SELECT * FROM stays_6 WHERE note = $1", [words[1]])
    both.run("ROLLBACK", protocol="simple")
    same(both)


def refused(both: Differential, statement: str) -> str:
    with (
        psycopg.connect(both.clinic.proxy_dsn, autocommit=True) as conn,
        pytest.raises(psycopg.errors.FeatureNotSupported) as error,
    ):
        conn.execute(statement)
    return str(error.value)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("ALTER TABLE stays DETACH PARTITION stays_1", "is protected as a part of public.stays only"),
        ("CREATE TABLE x (mrn text) INHERITS (people, stays)", "is as its parent has it"),
        ("CREATE TABLE x PARTITION OF stays FOR VALUES IN (8) PARTITION BY HASH (mrn)", "cannot be partitioned by a protected"),
        ("CREATE TABLE x (LIKE stays_1)", "would copy protected columns"),
        ("CREATE TEMP TABLE x () INHERITS (people)", "a temporary child"),
        (
            "CREATE TABLE x PARTITION OF stays FOR VALUES IN (8); INSERT INTO x VALUES (1, 8, 'secret', 'secret')",
            "reaches protected columns (made before it in the same string)",
        ),
    ],
)
def test_refused(both: Differential, statement: str, why: str) -> None:
    assert why in refused(both, statement)


def test_what_is_attached_must_hold_such_values(both: Differential) -> None:
    with psycopg.connect(both.clinic.proxy_dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE late (id int, ward int, mrn varchar(12), note text)")
        try:
            assert "does not hold values as public.stays does" in refused(
                both, "ALTER TABLE stays ATTACH PARTITION late FOR VALUES IN (4)"
            )
        finally:
            conn.execute("DROP TABLE late")


def test_ddl_and_check_know_the_family(both: Differential, site: Site) -> None:
    assert "nothing to do" in site.cli("ddl")
    said = site.cli("check")
    assert "has no valid guard" not in said
    assert "public.doctors.name has no server index" not in said
    with site.server.connect(site.sealed) as conn:
        guards = conn.execute("SELECT conrelid::regclass::text FROM pg_constraint WHERE conname = 'phi_guard_mrn'").fetchall()
    assert {"stays", "stays_1", "stays_2", "stays_low"} <= {name for (name,) in guards}
