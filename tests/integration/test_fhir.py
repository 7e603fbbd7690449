"""FHIR R4 in a jsonb whose fields by which a person is known are sealed: as psycopg, asyncpg, SQLAlchemy and Django use it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from textwrap import dedent

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from psycopg.types.json import Jsonb
from sqlalchemy.dialects.postgresql import JSONB

from tests.fhir import PATIENT_FIELDS, Resource, condition, observation, patient, values_of
from tests.harness.oracle import LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

POLICY = f"""\
database: {{database}}
deployment: fhir-test
tables:
  public.patients:
    columns:
      resource:
        type: jsonb
        fields:
{PATIENT_FIELDS}        others: clear
  public.resources:
    columns:
      resource:
        type: jsonb
        fields:
          "$.subject.reference": {{type: text, indexes: [value], distinct: 1000000}}
          "$.note[*].text":      {{type: text}}
        others: sealed
        clear: ["$.resourceType", "$.id", "$.status", "$.code"]
"""
DDL = """\
CREATE TABLE patients (id text PRIMARY KEY, resource jsonb NOT NULL);
CREATE TABLE resources (id text PRIMARY KEY, resource jsonb NOT NULL);
CREATE INDEX by_code ON resources USING gin ((resource->'code'));
"""
SEEDS = range(1, 8)
# Of these nothing may be seen: each value of a Patient at them is a field of the policy.
PRIVATE = frozenset({"text", "family", "given", "line", "postalCode", "data", "valueString"})
PATIENTS = sa.Table("patients", sa.MetaData(), sa.Column("id", sa.Text, primary_key=True), sa.Column("resource", JSONB))


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("fhir")
    settings = "compute: {engine: embedded}\n"
    with open_site(postgres_server, directory, policy=POLICY, ddl=DDL, settings=settings) as site:
        yield site


@pytest.fixture(scope="module")
def corpus(site: Site) -> Iterator[list[Resource]]:
    """Both twins with the same resources; at the end nothing that is sealed may have been seen anywhere."""
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: [site.proxy.log_path])
    patients = [patient(seed) for seed in SEEDS]
    others = [resource for seed in SEEDS for resource in (observation(seed), condition(seed))]
    oracle.planted = [value for each in patients for value in values_of(each, PRIVATE) if len(value) > 7]
    oracle.planted += [value for each in others for value in values_of(each, frozenset({"text"}))]
    assert len(oracle.planted) > 7 * len(SEEDS)
    for dsn in (site.plain_dsn, site.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn, conn.cursor() as cursor:
            cursor.executemany("INSERT INTO patients VALUES (%s, %s)", [(each["id"], Jsonb(each)) for each in patients])
            cursor.executemany("INSERT INTO resources VALUES (%s, %s)", [(each["id"], Jsonb(each)) for each in others])
    yield patients
    oracle.assert_no_leak()


def test_what_the_server_has(site: Site, corpus: list[Resource]) -> None:
    with psycopg.connect(site.sealed_dsn) as conn:
        stored = [resource for (resource,) in conn.execute("SELECT resource FROM patients ORDER BY id").fetchall()]
    for one, plain in zip(stored, corpus, strict=True):
        assert one["birthDate"].startswith("phi1:f5500101")
        assert all(name["family"].startswith("phi1:f5500101") for name in one["name"] if "family" in name)
        assert (one["gender"], one["communication"], one["meta"]) == (plain["gender"], plain["communication"], plain["meta"])


STATEMENTS = [
    "SELECT resource FROM patients ORDER BY id",
    "SELECT resource FROM resources ORDER BY id",
    "SELECT id, resource->'name'->0->>'family', resource#>>'{name,0,text}' FROM patients ORDER BY id",
    "SELECT id FROM patients WHERE (resource->>'birthDate')::date = '1990-01-01' OR resource->>'gender' = 'female' ORDER BY id",
    "SELECT id FROM patients WHERE extract(year from (resource->>'birthDate')::date) = 1950 ORDER BY id",
    "SELECT id, resource->'address'->0->>'city' FROM patients"
    " WHERE resource->'address' @> '[{\"city\": \"Springfield\"}]' ORDER BY id",
    "SELECT p.id, n->>'family' FROM patients p, jsonb_array_elements(resource->'name') AS n"
    " WHERE n->>'use' = 'official' ORDER BY p.id",
    "SELECT resource->>'gender', count(*) FROM patients GROUP BY 1 ORDER BY 1",
    "SELECT p.id, r.resource->'code'->'coding'->0->>'code' FROM patients p JOIN resources r"
    " ON r.resource->'subject'->>'reference' = 'Patient/' || p.id ORDER BY 1, 2",
    "SELECT id FROM resources WHERE resource->'subject'->>'reference' = 'Patient/p3' AND resource->>'resourceType' = 'Observation'",
    'SELECT id FROM resources WHERE resource->\'code\' @> \'{"coding": [{"code": "85354-9"}]}\' ORDER BY id',
    "SELECT resource->'component'->0->'valueQuantity'->>'value', resource->'note' FROM resources ORDER BY id",
    "SELECT jsonb_path_query(resource, '$.component[*].valueQuantity.value') FROM resources ORDER BY 1",
    "UPDATE patients SET resource = jsonb_set(resource, '{name,0,family}', '\"Renamed\"')"
    " WHERE id = 'p2' RETURNING resource->'name'",
    "UPDATE patients SET resource = resource || '{\"active\": false}' WHERE resource->>'gender' = 'male'"
    " RETURNING id, resource->'active'",
    "DELETE FROM resources WHERE resource->'subject'->>'reference' = 'Patient/p7' RETURNING id, resource",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_gives_what_it_gives_without_a_proxy(site: Site, corpus: list[Resource], statement: str) -> None:
    answers = []
    for dsn in (site.plain_dsn, site.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            answers.append(sorted(map(str, conn.execute(statement.encode()).fetchall())))
    assert answers[0] == answers[1]
    assert answers[0] or "birthDate" in statement


def test_asyncpg(site: Site, corpus: list[Resource]) -> None:
    async def run(dsn: str) -> list[object]:
        conn = await asyncpg.connect(dsn)
        try:
            await conn.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
            await conn.execute("INSERT INTO patients VALUES ($1, $2)", "a1", patient(99))
            rows = await conn.fetch("SELECT resource, resource->'name'->0 AS name FROM patients WHERE id = $1", "a1")
            found = await conn.fetch("SELECT id FROM patients WHERE resource->>'birthDate' = $1", patient(99)["birthDate"])
            await conn.execute("DELETE FROM patients WHERE id = 'a1'")
            return [[tuple(row) for row in rows], [tuple(row) for row in found]]
        finally:
            await conn.close()

    plain, proxied = (asyncio.run(run(dsn)) for dsn in (site.plain_dsn, site.proxy_dsn))
    assert plain == proxied
    assert plain[1]


def test_sqlalchemy(site: Site, corpus: list[Resource]) -> None:
    resource = PATIENTS.c.resource
    birth = corpus[3]["birthDate"]
    queries = [
        sa.select(PATIENTS).order_by(PATIENTS.c.id),
        sa.select(PATIENTS.c.id).where(resource["birthDate"].astext == birth),
        sa.select(PATIENTS.c.id).where(sa.cast(resource["birthDate"].astext, sa.Date) == sa.cast(birth, sa.Date)),
        sa.select(resource["name"][0]["family"].astext).where(PATIENTS.c.id == "p4"),
        sa.select(resource[("name", "0", "text")].astext).order_by(PATIENTS.c.id),
        sa.select(PATIENTS.c.id).where(resource["gender"].astext.in_(["male", "female"])).order_by(PATIENTS.c.id),
        sa.select(PATIENTS.c.id).where(resource.has_key("birthDate")).order_by(PATIENTS.c.id),
        sa.select(PATIENTS.c.id).where(resource.contains({"birthDate": birth})),
    ]
    answers = []
    for dsn in (site.plain_dsn, site.proxy_dsn):
        engine = sa.create_engine("postgresql+psycopg://", creator=lambda dsn=dsn: psycopg.connect(dsn))
        with engine.begin() as conn:
            conn.execute(PATIENTS.insert(), [{"id": "s1", "resource": patient(50)}, {"id": "s2", "resource": patient(51)}])
            conn.execute(PATIENTS.update().where(PATIENTS.c.id == "s1").values(resource=patient(52)))
            answers.append([list(map(tuple, conn.execute(query).fetchall())) for query in queries])
            conn.execute(PATIENTS.delete().where(PATIENTS.c.id.in_(["s1", "s2"])))
        engine.dispose()
    assert answers[0] == answers[1]
    assert all(answers[0])


DJANGO = """\
import json, sys
import django
from django.conf import settings
host, port, user, password, name = sys.argv[1:]
database = {"ENGINE": "django.db.backends.postgresql", "HOST": host, "PORT": port, "USER": user, "PASSWORD": password, "NAME": name}
settings.configure(DATABASES={"default": database}, INSTALLED_APPS=[], DEFAULT_AUTO_FIELD="django.db.models.AutoField")
django.setup()
from django.db import models

class Patient(models.Model):
    id = models.TextField(primary_key=True)
    resource = models.JSONField()

    class Meta:
        app_label, db_table, managed = "fhir", "patients", False

every = Patient.objects.order_by("id")
birth = every[3].resource["birthDate"]
print(json.dumps([
    list(every.values_list("id", "resource")),
    list(every.filter(resource__birthDate=birth).values_list("id", flat=True)),
    list(every.filter(resource__gender="female").values_list("id", flat=True)),
    list(every.filter(resource__name__0__family__isnull=False).values_list("id", flat=True)),
    list(every.filter(resource__contains={"birthDate": birth}).values_list("id", flat=True)),
    list(every.filter(resource__has_key="birthDate").values_list("id", flat=True)),
    list(every.filter(resource__birthDate__startswith="19").values_list("id", flat=True)),
    list(every.values_list("resource__birthDate", "resource__name__0__text")),
], sort_keys=True))
"""


def test_django(site: Site, corpus: list[Resource]) -> None:
    answers = []
    for dsn in (site.plain_dsn, site.proxy_dsn):
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
        arguments = [str(parts[key]) for key in ("host", "port", "user", "password", "dbname")]
        run = subprocess.run(
            [sys.executable, "-c", dedent(DJANGO), *arguments], capture_output=True, text=True, check=False, timeout=400
        )
        assert run.returncode == 0, run.stderr
        answers.append(json.loads(run.stdout))
    assert answers[0] == answers[1]
    assert all(answers[0])
