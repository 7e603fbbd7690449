"""An application's own migrations: the same statements directly on the plaintext twin and through the proxy, the same results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import alembic.command
import psycopg
import pytest
from alembic.config import Config
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, Text, create_engine, insert, select

from tests.harness.clinic import POLICY
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import Pair, pair

ARCHIVED = "  public.archived:\n    columns:\n      mrn: {domain: mrn}\n"
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
    with open_site(postgres_server, directory, policy=POLICY + ARCHIVED, ddl="SELECT", planned=True) as site:
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


@pytest.mark.parametrize("prepare", [None, True])
def test_what_is_rolled_back_did_not_happen(site: Site, prepare: bool | None) -> None:
    with pair(site, autocommit=False) as both:
        both.run(TABLES[0], prepare=prepare)
        both.run("SAVEPOINT a")
        both.run("ALTER TABLE patients DROP COLUMN notes, ADD COLUMN zip text")
        both.run("SELECT zip FROM patients WHERE ssn = %s", (both.oracle.plant("ssn"),), prepare=prepare)
        planted = tuple(both.oracle.plant(kind) for kind in ("mrn", "ssn", "name"))
        both.run("INSERT INTO patients VALUES (9, %s, %s, %s, NULL, 'a', 'b', 'c') RETURNING *", planted, prepare=prepare)
        both.run("ROLLBACK TO a")
        both.run("SELECT notes FROM patients", prepare=prepare)
        both.run("SAVEPOINT b")
        both.run("SELECT zip FROM patients", prepare=prepare)
        both.run("ROLLBACK TO b")
        both.run("INSERT INTO patients (ssn, notes) VALUES (%s, NULL) RETURNING *", (both.oracle.plant("ssn"),), prepare=prepare)
        both.rollback()
        both.run("SELECT 1 FROM patients", prepare=prepare)
        both.rollback()


def test_defaults_are_sealed(site: Site) -> None:
    with pair(site) as both:
        default = both.oracle.plant()
        both.run(f"CREATE TABLE patients (id int, ssn text DEFAULT '{default}' NOT NULL, notes text DEFAULT NULL)")
        both.run("INSERT INTO patients (id) VALUES (1)")
        both.run("INSERT INTO patients VALUES (2, DEFAULT), (3, '')")
        both.run("INSERT INTO patients DEFAULT VALUES")
        both.run("SELECT * FROM patients")
        both.run("SELECT id FROM patients WHERE ssn = %s", (default,))
        other = both.oracle.plant()
        both.run(f"ALTER TABLE patients ALTER COLUMN ssn SET DEFAULT '{other}'", prepare=True)
        both.run("INSERT INTO patients (id) VALUES (4) RETURNING *")
        for prepare in (None, True):
            _use_defaults(both, prepare)
        both.run("SELECT * FROM patients")
        assert both.distinct_envelopes("patients", "ssn", "id NOT BETWEEN 10 AND 39 AND id NOT IN (6, 50, 60)")
        both.run("ALTER TABLE patients ALTER COLUMN ssn DROP DEFAULT")
        both.run("INSERT INTO patients (id) VALUES (5)")
        error = both.refused("ALTER TABLE patients ADD COLUMN address text DEFAULT 'x' NOT NULL")
        assert "without DEFAULT and NOT NULL" in (error.diag.message_hint or "")
        both.run("ALTER TABLE patients ADD COLUMN address text, ADD COLUMN phone varchar(20)")
        both.run("SELECT * FROM patients")
        site.cli("check")
        assert site.cli("ddl").count("phi_tag_idx") > 0  # indexes that the policy lists and no migration made


def _use_defaults(both: Pair, prepare: bool | None) -> None:
    given = both.oracle.plant()
    both.run("INSERT INTO patients AS p (id) VALUES (4), (%s) RETURNING *", (5,), prepare=prepare)
    both.run("INSERT INTO patients (id, notes) VALUES (6, %s), (7, DEFAULT)", (given,), prepare=prepare)
    both.run("INSERT INTO patients VALUES (8), ((1 + 8))", prepare=prepare)
    both.run("INSERT INTO patients AS p DEFAULT VALUES RETURNING p.*", prepare=prepare)
    both.run("INSERT INTO patients (id) SELECT DISTINCT (id + 10) FROM patients WHERE id < %s ORDER BY 1", (6,), prepare=prepare)
    both.run("INSERT INTO patients SELECT id + 20 FROM patients WHERE id = 10 UNION SELECT 31", prepare=prepare)
    both.run("WITH w AS (INSERT INTO patients (notes, id) VALUES (%s, 40) RETURNING *) SELECT * FROM w", (given,), prepare=prepare)
    both.run("UPDATE patients SET ssn = DEFAULT, notes = DEFAULT WHERE id = 6 RETURNING ssn, notes", prepare=prepare)
    both.run("UPDATE patients SET (id, ssn) = (50, DEFAULT) WHERE id = 7 RETURNING *", prepare=prepare)
    merge = "MERGE INTO patients p USING (VALUES (60)) v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET ssn = DEFAULT"
    both.run(f"{merge} WHEN NOT MATCHED THEN INSERT (id) VALUES (v.i)", prepare=prepare)
    both.run(f"{merge} WHEN NOT MATCHED THEN INSERT VALUES (v.i)", prepare=prepare)
    both.run("INSERT INTO patients (id) VALUES (70), (71)")
    for form, data in (("text", b"80\tx\n81\ty\n"), ("csv, header", b'a,b\n82,""\n83,\n')):
        for conn in both.sides:
            with conn.cursor() as cursor, cursor.copy(f"COPY patients (id, notes) FROM STDIN (FORMAT {form})".encode()) as copy:
                copy.write(data)
    for conn in both.sides:
        with conn.cursor() as cursor, cursor.copy(b"COPY patients(id) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4"])
            copy.write_row((84,))


def test_errors_are_where_the_client_wrote(site: Site) -> None:
    with pair(site) as both:
        text = "CREATE TABLE patients (id int, mrn varchar(12) UNIQUE, extra nosuchtype)"
        for conn in both.sides:
            with pytest.raises(psycopg.errors.UndefinedObject) as caught:
                conn.execute(text.encode())
            assert caught.value.diag.statement_position == str(text.index("nosuchtype") + 1)
            assert caught.value.diag.internal_query is None
            assert caught.value.diag.context is None
        both.run(TABLES[0])
        both.run(TABLES[0])
        both.run("CREATE TABLE IF NOT EXISTS patients (id int, mrn varchar(12) UNIQUE)")
        both.run("CREATE TABLE IF NOT EXISTS visits (id int, mrn varchar(12) UNIQUE)")
        both.run("INSERT INTO visits VALUES (1, %s)", (both.oracle.plant("mrn"),))
        both.run("ALTER TABLE visits RENAME CONSTRAINT visits_mrn_key TO once")
        both.run("INSERT INTO visits SELECT 2, mrn FROM visits")
        both.run("DROP INDEX IF EXISTS nope; ALTER TABLE visits DROP CONSTRAINT once; CREATE INDEX CONCURRENTLY x ON visits (mrn)")
        both.run("ALTER TABLE visits DROP CONSTRAINT once")
        both.run("CREATE INDEX CONCURRENTLY x ON visits (mrn)")


def test_sqlalchemy_makes_and_uses_its_tables(site: Site) -> None:
    metadata = MetaData()
    patients = Table(
        "patients",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("mrn", String(12), unique=True),
        Column("ssn", Text, nullable=False, index=True),
        Column("notes", Text),
        Column("city", Text),
    )
    visits = Table(
        "visits",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("patient_id", ForeignKey("patients.id")),
        Column("diagnosis", Text, index=True),
    )
    with pair(site) as both:
        mrn, ssn, diagnosis = both.oracle.plant("mrn"), both.oracle.plant("ssn"), both.oracle.plant()
        told = []
        for dsn in (site.plain_dsn, site.proxy_dsn):
            engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
            metadata.create_all(engine)
            metadata.create_all(engine)
            with engine.begin() as conn:
                conn.execute(insert(patients), [{"mrn": mrn, "ssn": ssn}, {"mrn": None, "ssn": "x"}])
                conn.execute(insert(visits), [{"patient_id": 1, "diagnosis": diagnosis}])
                join = select(patients.c.mrn, visits.c.diagnosis).join(visits).where(patients.c.ssn == ssn)
                told.append([tuple(row) for row in conn.execute(join)])
            if dsn is site.proxy_dsn:
                site.cli("check")
            metadata.drop_all(engine)
            engine.dispose()
        assert told == [[(mrn, diagnosis)]] * 2


REVISION = """
from alembic import op
import sqlalchemy as sa

revision, down_revision = "{revision}", {down}


def upgrade():
    {upgrade}


def downgrade():
    {downgrade}
"""


def test_alembic_migrates_up_and_down(site: Site, tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(
        "from alembic import context\n"
        "with context.config.attributes['engine'].begin() as conn:\n"
        "    context.configure(connection=conn, target_metadata=None)\n"
        "    with context.begin_transaction():\n"
        "        context.run_migrations()\n"
    )
    steps = (
        (
            'op.create_table("patients", sa.Column("id", sa.Integer, primary_key=True), sa.Column("ssn", sa.Text, nullable=False),'
            ' sa.Column("city", sa.Text))',
            'op.drop_table("patients")',
        ),
        (
            'op.add_column("patients", sa.Column("mrn", sa.String(12))); op.create_unique_constraint("once", "patients", ["mrn"]);'
            ' op.create_index("by_ssn", "patients", ["ssn"]); op.alter_column("patients", "city", new_column_name="town");'
            ' op.alter_column("patients", "ssn", nullable=True, type_=sa.Text())',
            'op.drop_index("by_ssn"); op.drop_constraint("once", "patients"); op.drop_column("patients", "mrn")',
        ),
    )
    for number, (upgrade, downgrade) in enumerate(steps, start=1):
        down = repr(str(number - 1) if number > 1 else None)
        text = REVISION.format(revision=number, down=down, upgrade=upgrade, downgrade=downgrade)
        (tmp_path / "versions" / f"{number}.py").write_text(text)
    with pair(site) as both:
        for dsn in (site.plain_dsn, site.proxy_dsn):
            config = Config()
            config.set_main_option("script_location", str(tmp_path))
            config.attributes["engine"] = engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
            alembic.command.upgrade(config, "head")
            engine.dispose()
        both.run("INSERT INTO patients (ssn, mrn, town) VALUES (%s, %s, 'x')", (both.oracle.plant("ssn"), both.oracle.plant("mrn")))
        both.run("INSERT INTO patients (mrn) SELECT mrn FROM patients")
        both.run("SELECT * FROM patients")
        site.cli("check")
        for dsn in (site.plain_dsn, site.proxy_dsn):
            config.attributes["engine"] = engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
            alembic.command.downgrade(config, "base")
            engine.dispose()
        both.run("SELECT 1 FROM patients")


@pytest.mark.parametrize("prepare", [None, True])
def test_views_and_tables_made_from_queries(site: Site, prepare: bool | None) -> None:
    with pair(site) as both:
        for statement in TABLES:
            both.run(statement)
        ssn, name, mrn = both.oracle.plant("ssn"), both.oracle.plant("name"), both.oracle.plant("mrn")
        both.run("INSERT INTO patients (ssn, full_name, mrn) VALUES (%s, %s, %s)", (ssn, name, mrn))
        both.run("CREATE VIEW persons AS SELECT id, ssn, full_name AS name FROM patients", prepare=prepare)
        both.run("SELECT * FROM persons", prepare=prepare)
        both.run("SELECT name FROM persons WHERE ssn = %s", (ssn,), prepare=prepare)
        both.run("CREATE MATERIALIZED VIEW kept AS SELECT ssn, count(*) AS n FROM patients GROUP BY ssn", prepare=prepare)
        both.run("INSERT INTO patients (ssn) VALUES (%s)", (both.oracle.plant("ssn"),), prepare=prepare)
        both.run("CREATE MATERIALIZED VIEW listed AS SELECT id, ssn FROM patients WHERE id > 1 WITH NO DATA", prepare=prepare)
        both.run("SELECT ssn FROM listed", prepare=prepare)
        both.run("REFRESH MATERIALIZED VIEW listed", prepare=prepare)
        both.run("SELECT id, ssn FROM listed WHERE ssn <> %s", (ssn,), prepare=prepare)
        both.run("DROP MATERIALIZED VIEW listed", prepare=prepare)
        both.run(f"CREATE TABLE other AS SELECT id, city FROM patients WHERE ssn = '{ssn}'", prepare=prepare)
        both.run("SELECT o.*, p.ssn FROM other o JOIN patients p USING (id)", prepare=prepare)
        both.refused("CREATE TABLE other2 AS SELECT ssn FROM patients")
        both.refused(f"CREATE VIEW one AS SELECT id FROM patients WHERE ssn = '{ssn}'")
        both.run("DROP VIEW persons", prepare=prepare)
        site.cli("check")


# Each shows ssn, and is read and searched.
VIEWS = (
    "SELECT p.ssn, v.diagnosis FROM patients p JOIN visits v ON v.mrn = p.mrn",
    "WITH a AS (SELECT ssn, id FROM patients) SELECT * FROM a",
    "SELECT ssn, id FROM patients UNION ALL SELECT ssn, id + 10 FROM patients",
    "SELECT x.s::text AS ssn FROM (SELECT ssn AS s FROM patients) x",
    "SELECT DISTINCT ssn FROM patients",
    "SELECT ssn FROM patients UNION SELECT ssn FROM patients",
    "SELECT p.ssn, l.* FROM patients p LEFT JOIN LATERAL (SELECT diagnosis FROM visits v WHERE v.patient_id = p.id) l ON true",
    "SELECT ssn, mrn, count(*) AS n FROM patients GROUP BY 1, 2 HAVING count(*) < 9",
    "SELECT ssn, city, grouping(ssn) FROM patients GROUP BY ROLLUP (ssn, city)",
    "SELECT CASE WHEN id < 9 THEN ssn END AS ssn, CASE id WHEN 1 THEN mrn ELSE NULL END AS m FROM patients",
    "SELECT ssn FROM patients p WHERE EXISTS (SELECT 1 FROM visits v WHERE v.mrn = p.mrn) OR mrn IN (SELECT mrn FROM patients)",
    "SELECT ssn, 1 AS one FROM patients INTERSECT SELECT ssn, 1 FROM patients",
    "SELECT COALESCE(p.ssn, q.ssn) AS ssn FROM patients p FULL JOIN patients q USING (mrn) UNION ALL SELECT NULL",
    "SELECT s.ssn FROM (SELECT DISTINCT id, ssn, notes FROM patients) s WHERE s.ssn IS NOT NULL",
    "WITH RECURSIVE t AS (SELECT id, ssn FROM patients WHERE id = 1 UNION SELECT p.id, p.ssn FROM patients p, t) SELECT ssn FROM t",
)
# What is not understood where it is read is not made.
NO_VIEWS = (
    "SELECT mrn::text FROM patients",
    "SELECT CASE WHEN id = 1 THEN mrn ELSE NULL::text END AS m FROM patients",
    "SELECT CASE WHEN id = 1 THEN mrn ELSE 'x' END AS m FROM patients",
    "SELECT id, left(ssn, 3) FROM patients",
)


def test_views_of_several_kinds_are_read(site: Site) -> None:
    with pair(site) as both:
        both.run(TABLES[0])
        both.run(TABLES[2])
        ssn, mrn = both.oracle.plant("ssn"), both.oracle.plant("mrn")
        both.run("INSERT INTO patients (mrn, ssn) VALUES (%s, %s), ('m2', 'y')", (mrn, ssn))
        both.run("INSERT INTO visits VALUES (1, 1, %s, %s)", (mrn, both.oracle.plant()))
        options = ("", "WITH (security_barrier)")  # behind a barrier the server reads all rows, and finds the same
        both.run("; ".join(f"CREATE VIEW v{i} {options[i % 2]} AS {query}" for i, query in enumerate(VIEWS)))
        both.run("ALTER VIEW v0 SET (security_barrier = yes); ALTER VIEW v1 RESET (security_barrier)")
        for query in NO_VIEWS:
            assert both.refused(f"CREATE VIEW no AS {query}").diag.message_hint
        for number in range(len(VIEWS)):
            assert both.run(f"SELECT * FROM v{number}")[1]
            assert both.run(f"SELECT ssn, count(*) FROM v{number} WHERE ssn = '{ssn}' GROUP BY ssn")[1]


MADE = (
    "CREATE TABLE archived AS SELECT id, mrn, city FROM patients WHERE mrn <> '{mrn}'",
    "CREATE TABLE IF NOT EXISTS public.archived AS SELECT mrn FROM patients ORDER BY id",
    "CREATE UNLOGGED TABLE archived (number, mrn) WITH (fillfactor = 70) AS SELECT id, mrn FROM patients /* {mrn} */ WITH NO DATA",
    "CREATE TABLE archived AS WITH a AS (SELECT mrn, count(*) AS n FROM patients GROUP BY mrn) SELECT * FROM a",
    "SELECT 1; CREATE TABLE archived AS SELECT id, mrn FROM patients; SELECT mrn FROM archived ORDER BY id",
    "SELECT p.mrn, p.id INTO UNLOGGED TABLE public.archived FROM patients p WHERE p.mrn = '{mrn}'",
)
NOT_MADE = (
    "CREATE TABLE archived AS SELECT id FROM patients",
    "CREATE TABLE archived AS SELECT mrn::text FROM patients",
    "CREATE TABLE archived AS SELECT ssn AS mrn FROM patients",
    "CREATE TABLE archived AS SELECT mrn, ssn FROM patients",
    "CREATE TABLE archived AS SELECT city AS mrn, id FROM patients WHERE ssn IS NULL",
    "CREATE TABLE archived AS SELECT 'x'::varchar(12) AS mrn FROM patients",
    "CREATE TABLE archived AS SELECT id, '{mrn}' AS mrn FROM patients",
    "CREATE MATERIALIZED VIEW archived AS SELECT mrn FROM patients",
    "CREATE TEMP TABLE other AS SELECT mrn FROM patients",
    "EXPLAIN CREATE TABLE archived AS SELECT mrn FROM patients",
)


def test_tables_of_the_policy_are_made_from_queries(site: Site) -> None:
    with pair(site) as both:
        both.run(TABLES[0])
        mrn, other = both.oracle.plant("mrn"), both.oracle.plant("mrn")
        both.run("INSERT INTO patients (mrn, ssn) VALUES (%s, 'x'), (%s, 'y'), (NULL, 'z')", (mrn, other))
        for number, statement in enumerate(MADE):
            made = statement.format(mrn=mrn)
            both.run(made, prepare=None if number == 4 else number % 2 == 0)
            both.run(f"SELECT mrn, count(*) FROM archived WHERE mrn = '{other}' GROUP BY mrn")
            if number == 1:
                both.run(made)
            both.run("INSERT INTO archived (mrn) VALUES (%s) RETURNING mrn", (both.oracle.plant("mrn"),))
            with site.server.connect(site.sealed) as conn:
                guards = "SELECT attstorage, conname FROM pg_attribute, pg_constraint WHERE attrelid = 'archived'::regclass"
                assert conn.execute((guards + " AND attname = 'mrn' AND conrelid = attrelid").encode()).fetchall() == [
                    ("e", "phi_guard_mrn")
                ]
            if number == 0:
                site.cli("check")
            both.run("DROP TABLE archived")
        for statement in NOT_MADE:
            assert both.refused(statement.format(mrn=mrn)).diag.message_hint


def test_a_view_is_known_to_other_sessions_at_once(site: Site) -> None:
    with pair(site) as both, psycopg.connect(site.proxy_dsn, autocommit=True) as other:
        both.run(TABLES[0])
        ssn = both.oracle.plant("ssn")
        both.run("INSERT INTO patients (ssn) VALUES (%s)", (ssn,))
        for name in ("one", "two", "three"):
            other.execute("SELECT 1")
            both.run(f"CREATE VIEW {name} AS SELECT ssn FROM patients")
            assert other.execute(f"SELECT * FROM {name}".encode()).fetchall() == [(ssn,)]


def test_a_view_is_known_in_its_own_transaction(site: Site) -> None:
    with pair(site, autocommit=False) as both:
        both.run(TABLES[0])
        both.run("CREATE VIEW persons AS SELECT id, ssn FROM patients")
        ssn = both.oracle.plant("ssn")
        both.run(f"INSERT INTO persons (id, ssn) VALUES (1, '{ssn}')")
        assert both.run(f"SELECT id, ssn FROM persons WHERE ssn = '{ssn}'") == ["SELECT 1", [(1, ssn)]]
        both.rollback()


def test_checks_are_evaluated_by_the_proxy(site: Site) -> None:
    with pair(site) as both:
        no, other = both.oracle.plant("ssn"), both.oracle.plant()
        both.run(
            "CREATE TABLE patients (id int PRIMARY KEY, ssn text CHECK (ssn ~ '^[0-9]{3}-[0-9]{2}-[0-9]{4}$'), "
            "full_name text CONSTRAINT named CHECK (btrim(full_name) <> '' AND length(full_name) <= 40) NOT NULL, "
            f"notes text DEFAULT 'x' CHECK (notes IN ('x', 'y', '{other}')), address text, city text, "
            "CONSTRAINT either CHECK ((ssn IS NOT NULL OR address IS NOT NULL) AND city <> '' AND NOT (address LIKE 'no%')))"
        )
        both.run("INSERT INTO patients VALUES (1, %s, 'a', DEFAULT, 'x', 'c')", (no,))
        for row in [
            ("2", "no", "'a'", "'x'", "'x'", "'c'"),
            ("3", f"'{no}'", "'  '", "'x'", "'x'", "'c'"),
            ("4", f"'{no}'", "NULL", "'z'", "'x'", "'c'"),
            ("5", f"'{no}'", "'b'", "'z'", "'x'", "'c'"),
            ("6", "NULL", "'b'", "'y'", "NULL", "'c'"),
            ("7", "NULL", "'b'", "'y'", "'none'", "''"),
            ("8", "NULL", "'b'", "'y'", "'none'", "'c'"),
            ("9", "NULL", "'b'", "'y'", "'some'", "''"),
            ("10", "'x'", "''", "'z'", "'no'", "''"),
            ("11", "NULL", "repeat('b', 3)", "'y'", "'some'", "NULL"),
        ]:
            for prepare in (None, True):
                if "repeat" not in row[2]:
                    both.run(f"INSERT INTO patients VALUES ({', '.join(row)})", prepare=prepare)
        told = []
        for conn in both.sides:
            with (
                pytest.raises(psycopg.errors.CheckViolation) as caught,
                conn.cursor() as cursor,
                cursor.copy(b"COPY patients (id, ssn, full_name, notes) FROM STDIN") as copy,
            ):
                copy.write(f"20\t{no}\ta\tx\n21\t{no}\ta\tz\n".encode())
            diag = caught.value.diag
            told.append((diag.message_primary, diag.constraint_name, (diag.context or "").partition(":")[0]))
        assert told[0] == told[1]
        both.run("UPDATE patients SET ssn = 'x' WHERE id = 1000")
        both.run("UPDATE patients SET ssn = %s WHERE id = 1", ("x",), prepare=True)
        both.run("UPDATE patients SET notes = notes, ssn = %s, full_name = full_name WHERE id = 1", (no,), prepare=True)
        both.run("INSERT INTO patients VALUES (1, 'y', 'a') ON CONFLICT DO NOTHING")
        both.run("INSERT INTO patients VALUES (1, %s, 'a') ON CONFLICT (id) DO UPDATE SET ssn = 'y'", (no,))
        both.run("MERGE INTO patients p USING (VALUES (1)) v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET full_name = ' '")
        both.run("ALTER TABLE patients RENAME CONSTRAINT patients_ssn_check TO digits")
        both.run("UPDATE patients SET ssn = 'x'")
        both.run("ALTER TABLE patients DROP CONSTRAINT digits")
        both.run("UPDATE patients SET ssn = 'x' RETURNING ssn")
        both.run("ALTER TABLE patients ADD CONSTRAINT digits CHECK (ssn ~ '^[0-9]') NOT VALID")
        both.run("UPDATE patients SET ssn = 'x'")
        both.run("UPDATE patients SET ssn = '1' RETURNING ssn")
        error = both.refused("ALTER TABLE patients VALIDATE CONSTRAINT digits")
        assert "holds values" in (error.diag.message_primary or "")
        both.run("SELECT conname, contype, convalidated FROM pg_constraint WHERE conname ~ '^(patients_|named|either|digits)'")
        both.run("SELECT * FROM patients")
        site.cli("check")


def test_row_level_security(site: Site) -> None:
    with pair(site) as both:
        both.run(TABLES[0])
        ssn, other = both.oracle.plant("ssn"), both.oracle.plant("ssn")
        both.run("INSERT INTO patients (ssn, city) VALUES (%s, 'a'), (%s, 'b'), (%s, 'b')", (ssn, ssn, other))
        both.run("CREATE POLICY own ON patients USING (city = current_setting('app.city', true)) WITH CHECK (city <> 'c')")
        both.run("ALTER TABLE patients ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        both.run("SELECT * FROM patients")
        both.run("SET app.city = 'b'")
        for prepare in (None, True):
            both.run("SELECT * FROM patients p WHERE p.ssn = %s OR lower(city) = 'x'", (ssn,), prepare=prepare)
            both.run("SELECT id FROM (SELECT * FROM patients) q WHERE ssn IN (%s, %s) ORDER BY id", (ssn, other), prepare=prepare)
            both.run("SELECT ssn, count(*) FROM patients GROUP BY ssn HAVING ssn <> %s", (ssn,), prepare=prepare)
            both.run("UPDATE patients SET notes = %s WHERE ssn = %s RETURNING *", (both.oracle.plant(), ssn), prepare=prepare)
            both.run("INSERT INTO patients (ssn, city) VALUES (%s, 'c')", (ssn,), prepare=prepare)
            both.run("INSERT INTO patients VALUES (7, NULL, %s) ON CONFLICT (id) DO NOTHING", (ssn,), prepare=prepare)
            both.run("SELECT a.id FROM patients a JOIN patients b USING (ssn) WHERE b.ssn = %s", (ssn,), prepare=prepare)
        explained = both.sides[1].execute("EXPLAIN SELECT * FROM patients WHERE ssn = %s", (ssn,)).fetchall()
        assert "phi_tag_ssn" in str(explained)
        both.refused("CREATE POLICY bad ON patients USING (ssn = current_user)")
        both.refused("ALTER POLICY own ON patients USING ((SELECT true FROM patients))")
        both.run("ALTER POLICY own ON patients USING (city = 'a')")
        both.run("SELECT * FROM patients WHERE ssn = %s", (ssn,))
        site.cli("check")
        _alter_behind_policies(both)
        both.run("DROP POLICY own ON patients")
        both.run("ALTER TABLE patients DISABLE ROW LEVEL SECURITY, DROP COLUMN ssn, DROP COLUMN full_name")
        both.run("SELECT * FROM patients")


def _alter_behind_policies(both: Pair) -> None:
    """What the table's policies hide from its owner is there all the same when a constraint or a default comes."""
    both.run("SET app.city = 'nowhere'; SELECT * FROM patients")
    assert "holds values" in str(both.refused("ALTER TABLE patients ADD CONSTRAINT digits CHECK (ssn ~ '^[0-9]')"))
    both.run("ALTER TABLE patients DROP COLUMN phone")
    assert "that has rows" in str(both.refused("ALTER TABLE patients ADD COLUMN phone varchar(20) DEFAULT 'z'"))
    both.run("SELECT relforcerowsecurity FROM pg_class WHERE relname = 'patients'")
    both.run("ALTER TABLE patients ADD CONSTRAINT street CHECK (address <> '')")
    both.run("ALTER TABLE patients ADD CONSTRAINT digits CHECK (ssn ~ '^[0-9]') NOT VALID, ADD COLUMN extra int")
    both.run("ALTER POLICY own ON patients USING (true) WITH CHECK (true)")
    both.run("INSERT INTO patients (ssn) VALUES ('x')")
    both.run("INSERT INTO patients (address) VALUES ('')")
    both.run("SELECT relforcerowsecurity FROM pg_class WHERE relname = 'patients'")
    both.run("DELETE FROM patients")
    both.run("ALTER TABLE patients VALIDATE CONSTRAINT digits, DROP COLUMN notes")
    both.run("ALTER TABLE patients ADD COLUMN notes text DEFAULT 'z' NOT NULL CHECK (length(notes) < 9)")
    both.run("INSERT INTO patients (id, city) VALUES (1, 'b'), (2, 'a') RETURNING *")
    both.run("SELECT id FROM patients WHERE notes IS NULL")
