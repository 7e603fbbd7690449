"""Indexes over expressions of protected columns, as migrations make them: unique ones, partial expressions, sounds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Date, Index, Integer, MetaData, Table, Text, create_engine, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from tests.harness.proxy import environment
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import pair

POLICY = """\
database: {database}
deployment: expressions-test
tables:
  public.patients:
    columns:
      email: {type: text, indexes: [email, lower(email)], distinct: 1000000}
      name:
        type: text
        indexes: [soundex(name), "metaphone(name, 6)", dmetaphone(name), dmetaphone_alt(name), "left(name, 3)"]
        accept_leakage: "the tests: nobody is here"
      born:  {type: date, indexes: [extract(month from born), extract(year from born)], accept_leakage: "the tests: nobody is born"}
"""


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names a table that nobody has made yet."""
    with open_site(
        postgres_server, tmp_path_factory.mktemp("unique"), policy=POLICY, ddl="SELECT", planned=True, serve=False
    ) as site:
        for database in (site.plain, site.sealed):
            with postgres_server.connect(database) as conn:
                conn.execute("CREATE EXTENSION fuzzystrmatch")
        site.proxy.start()
        yield site


TABLE = "CREATE TABLE patients (id serial PRIMARY KEY, email text, name text, born date)"


def index_names(site: Site) -> list[list[str]]:
    """Return the names of the indexes on both sides."""
    query = "SELECT indexname FROM pg_indexes WHERE tablename = 'patients' ORDER BY indexname"
    told = []
    for database in (site.plain, site.sealed):
        with site.server.connect(database) as conn:
            told.append([str(name) for (name,) in conn.execute(query)])
    return told


def test_a_unique_index_over_an_expression(site: Site) -> None:
    with pair(site) as both:
        both.run(TABLE)
        both.run("CREATE UNIQUE INDEX ON patients (lower(email))")
        both.run("CREATE INDEX ON patients (soundex(name), left(name, 3), (lower(email)), lower(email))")
        assert index_names(site)[0] == index_names(site)[1]
        email = f"{both.oracle.plant('text')}@Example.org"
        both.oracle.planted.append(email.lower())
        both.run("INSERT INTO patients (email, name) VALUES (%s, 'Smith') RETURNING id", (email,))
        assert both.run("INSERT INTO patients (email) VALUES (%s)", (email.lower(),)) == ["23505", "patients_lower_idx"]
        both.run(
            "INSERT INTO patients (email, name) VALUES (%s, 'Smythe') ON CONFLICT (lower(email)) DO UPDATE SET name = EXCLUDED.name"
            " RETURNING id, email, name",
            (email.upper(),),
        )
        both.run("INSERT INTO patients (email) VALUES (%s) ON CONFLICT ((lower(email))) DO NOTHING", (email.upper(),))
        both.run("INSERT INTO patients (email) VALUES (%s) ON CONFLICT (lower((email)::text)) DO NOTHING", (email,))
        both.run("INSERT INTO patients (email) VALUES (NULL), (NULL) ON CONFLICT (lower(email)) DO NOTHING")
        both.run("UPDATE patients SET email = %s WHERE email IS NULL", (email,))
        both.run("SELECT email, name FROM patients ORDER BY id")
        error = both.refused(f"INSERT INTO patients (email) VALUES ('{email.upper()}')", "23505")
        assert error.diag.message_detail == "Key (email) already exists."
        site.cli("check")


def test_a_partial_expression(site: Site) -> None:
    """``extract(month from born)`` is NULL of what is infinite: any number of rows may be so."""
    with pair(site) as both:
        both.run(TABLE)
        both.run("CREATE UNIQUE INDEX once_a_month ON patients (extract(month from born))")
        for born in ("1980-01-31", "infinity", "-infinity", "1980-02-29", None, "1999-01-01"):
            both.run("INSERT INTO patients (born) VALUES (%s)", (born,))
        both.run(
            "INSERT INTO patients (born) VALUES ('infinity'), ('1970-02-01') ON CONFLICT (extract(month from born)) DO NOTHING"
        )
        both.run("SELECT id, born FROM patients WHERE extract(month from born) IN (1, 2) ORDER BY id")
        both.run("SELECT id, extract(month from born) IS NULL, extract(month from born) FROM patients ORDER BY id")
        both.run("SELECT extract(month from born), count(*) FROM patients GROUP BY 1 ORDER BY 2, 1 IS NULL")
        error = both.refused("INSERT INTO patients (born) VALUES ('2001-02-03')", "23505")
        assert error.diag.message_detail == "Key (born) already exists."
        site.cli("check")
        both.run("DROP INDEX once_a_month")


def test_what_is_dumped_is_taken_back(site: Site) -> None:
    """An index in its physical form, as pg_dump writes it, also of a partial expression."""
    with pair(site) as both:
        both.run(TABLE)
        both.run("CREATE INDEX i ON patients (extract(month from born), soundex(name))")
        with site.server.connect(site.sealed) as conn:
            definition = str((conn.execute("SELECT pg_get_indexdef('i'::regclass)").fetchone() or ("",))[0])
        assert "NULLIF" in definition
        both.sides[1].execute("DROP INDEX i")
        both.sides[1].execute(definition.encode())
        with site.server.connect(site.sealed) as conn:
            assert conn.execute("SELECT pg_get_indexdef('i'::regclass)").fetchall() == [(definition,)]


SOUNDS = ("soundex(name)", "metaphone(name, 6)", "dmetaphone(name)", "dmetaphone_alt(name)")


@pytest.mark.parametrize("prepare", [None, True])
def test_sounds(site: Site, prepare: bool | None) -> None:
    with pair(site) as both:
        both.run(TABLE)
        for name in ("Smith", "Smythe", "Schmidt", "", None, "Catherine", "Knight", "Xylophone", "Jumelle", "O'Brien", "123"):
            both.run("INSERT INTO patients (name) VALUES (%s)", (name,))
        for of in SOUNDS:
            other = of.replace("name", "%s::text")
            both.run(f"SELECT id FROM patients WHERE {of} = {other} ORDER BY id", ("Smyth",), prepare=prepare)
            both.run(f"SELECT id FROM patients WHERE {of} IN ({other}, {other})", ("Katherine", "Night"), prepare=prepare)
            both.run(f"SELECT id FROM patients WHERE {of} IS DISTINCT FROM {other}", ("Smyth",), prepare=prepare)
            both.run(f"SELECT {of}, count(*) FROM patients GROUP BY {of} ORDER BY 2, min(id)", prepare=prepare)
            both.run(f"SELECT count(DISTINCT {of}) FROM patients", prepare=prepare)
            one, two = of.replace("name", "a.name"), of.replace("name", "b.name")
            both.run(f"SELECT a.id, b.id FROM patients a JOIN patients b ON {one} = {two}")
            both.run(f"SELECT id, {of} FROM patients ORDER BY id", prepare=prepare)
            both.run(f"UPDATE patients SET id = id WHERE {of} = {of.replace('name', repr('Smyth'))}")


def test_sqlalchemy(site: Site) -> None:
    metadata = MetaData()
    patients = Table(
        "patients",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("email", Text),
        Column("name", Text),
        Column("born", Date),
    )
    Index("patients_email_key", func.lower(patients.c.email), unique=True)
    with pair(site) as both:
        email = f"{both.oracle.plant('text')}@Example.org"
        both.oracle.planted.append(email.lower())
        told = []
        for dsn in (site.plain_dsn, site.proxy_dsn):
            engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
            metadata.create_all(engine)
            with engine.begin() as conn:
                conn.execute(insert(patients).values(email=email, name="Smith"))
                again = insert(patients).values(email=email.lower(), name="Smythe")
                conn.execute(
                    again.on_conflict_do_update(index_elements=[func.lower(patients.c.email)], set_={"name": again.excluded.name})
                )
                conn.execute(again.on_conflict_do_nothing(index_elements=[text("lower(email)")]))
                found = conn.execute(select(patients).where(func.lower(patients.c.email) == email.lower())).all()
                with pytest.raises(IntegrityError), conn.begin_nested():
                    conn.execute(patients.insert().values(email=email.upper()))
            told.append([tuple(row) for row in found])
            metadata.drop_all(engine)
            engine.dispose()
        assert told[0] == told[1]
        assert told[1][0][1:3] == (email, "Smythe")


DJANGO = """
import json, sys, django
from django.conf import settings
host, port, name, user, password, email = sys.argv[1:]
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": user, "PASSWORD": password,
                           "HOST": host, "PORT": port, "OPTIONS": {"sslmode": "disable"}}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()
from django.db import IntegrityError, connection, models, transaction
from django.db.models.functions import Left, Lower

class Patient(models.Model):
    email = models.TextField(null=True)
    name = models.TextField(null=True)
    born = models.DateField(null=True)

    class Meta:
        app_label = "clinic"
        db_table = "patients"
        constraints = [models.UniqueConstraint(Lower("email"), name="email_key")]
        indexes = [models.Index(Left("name", 3), name="by_beginning")]

with connection.schema_editor() as editor:
    editor.create_model(Patient)
Patient.objects.create(email=email, name="Smith", born="1980-01-31")
try:
    with transaction.atomic():
        Patient.objects.create(email=email.upper())
    seen = ["twice"]
except IntegrityError as error:
    seen = [error.__cause__.diag.constraint_name]
seen.append(list(Patient.objects.annotate(l=Lower("email")).filter(l=email.lower()).values_list("email", "name")))
seen.append(Patient.objects.filter(born__month=1).count())
seen.append(Patient.objects.filter(born__year__in=[1979, 1980]).count())
seen.append(Patient.objects.filter(born__gte="1980-01-01", born__lt="1981-01-01").count())
try:
    Patient(email=email.title()).validate_constraints()
    seen.append("valid")
except Exception as error:
    seen.append(type(error).__name__)
with connection.schema_editor() as editor:
    editor.delete_model(Patient)
print(json.dumps(seen))
"""


def test_django(site: Site, tmp_path: Path) -> None:
    program = tmp_path / "patients.py"
    program.write_text(DJANGO)
    with pair(site) as both:
        email = f"{both.oracle.plant('text')}@example.org"
        both.oracle.planted += [email.upper(), email.title()]
        told = []
        for host, port, database in (
            (site.server.host, site.server.port, site.plain),
            (site.proxy.host, site.proxy.port, site.sealed),
        ):
            command = [sys.executable, str(program), host, str(port), database, site.role, site.password, email]
            done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            told.append(done.stdout)
        assert told[0] == told[1]
        assert told[1].startswith('["email_key"')
