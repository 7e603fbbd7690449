"""Health records on SQLAlchemy and on Django: the applications' own tests pass directly and, unchanged, through the proxy."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.applications.people import unmistakable
from tests.harness.oracle import LeakOracle
from tests.harness.proxy import ROOT, environment
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

APPLICATIONS = ROOT / "tests" / "applications"
# What both applications record of a patient, as SQLAlchemy's names it: Django names its tables ehr_encounter and so on.
RECORDS = """\
  public.encounters:
    columns:
      reason:        {type: text, indexes: [reason], distinct: 100000}
  public.observations:
    columns:
      code:          {domain: code}
      value:         {type: "numeric(12, 3)"}
      detail:
        type: jsonb
        indexes: ["detail->>'device'", "detail->'device'"]
        accept_leakage: "the tests: nobody in here exists"
  public.medications:
    columns:
      mrn:           {domain: mrn}
      code:          {domain: code}
      name:          {type: text}
      dose:          {type: "numeric(8, 2)"}
      prescribed_on: {type: date}
"""
PATIENTS = """\
database: {database}
deployment: ehr-test
domains:
  mrn: {type: varchar(12), indexes: [value], distinct: 1000000}
  code: {type: varchar(16), indexes: [value], accept_leakage: "the tests: nobody in here exists"}
tables:
  public.patients:
    columns:
      mrn:           {domain: mrn}
      ssn:           {type: varchar(11), indexes: [ssn], distinct: 100000000}
      first_name:    {type: varchar(80), indexes: [lower(first_name)], distinct: 100000}
      last_name:
        type: varchar(80)
        indexes: [lower(last_name), "left(last_name, 3)", "left(lower(last_name), 3)", soundex(last_name)]
        accept_leakage: "the tests: nobody in here exists"
      date_of_birth:
        type: date
        indexes: [date_of_birth, extract(year from date_of_birth)]
        accept_leakage: "the tests: nobody in here exists"
      height_cm:     {type: "numeric(5, 2)"}
      phone:         {type: varchar(24)}
      notes:         {type: text, pad: 64}
  public.ehr_patient:
    columns:
      mrn:           {domain: mrn}
      ssn:           {type: varchar(11), indexes: [ssn], distinct: 100000000}
      first_name:    {type: varchar(80)}
      last_name:
        type: varchar(80)
        indexes:
          [last_name, lower(last_name), upper(last_name), "left(last_name, 3)", "left(upper(last_name), 3)", soundex(last_name)]
        accept_leakage: "the tests: nobody in here exists"
      date_of_birth:
        type: date
        indexes: [date_of_birth, extract(year from date_of_birth)]
        accept_leakage: "the tests: nobody in here exists"
      height_cm:     {type: "numeric(5, 2)"}
      phone:         {type: varchar(24)}
      notes:         {type: text, pad: 64}
"""
POLICY = PATIENTS + RECORDS + re.sub(r"public\.(\w+)s:", r"public.ehr_\1:", RECORDS)


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose tables the applications make themselves, when their tests begin."""
    directory = tmp_path_factory.mktemp("ehr")
    settings = "compute: {engine: embedded}\n"
    with open_site(postgres_server, directory, policy=POLICY, ddl="SELECT", planned=True, serve=False, settings=settings) as site:
        for database in (site.plain, site.sealed):
            with postgres_server.connect(database) as conn:
                conn.execute("CREATE EXTENSION fuzzystrmatch")
        site.proxy.start()
        yield site


def sqlalchemy_tests(dsn: str, report: Path) -> dict[str, str]:
    """Run the application's tests with pytest, and return how each ended."""
    home = APPLICATIONS / "sqlalchemy_ehr"
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(home / "pytest.ini"), f"--rootdir={ROOT}", f"--confcutdir={home}"]
    done = subprocess.run(
        [*command, f"--junitxml={report}", str(home)],
        env=environment({"DATABASE_URL": dsn}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    outcomes = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        failed = [part.get("message", "") for part in case if part.tag in ("failure", "error", "skipped")]
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = "; ".join(failed) or "passed"
    return outcomes


def django_tests(dsn: str, *, server_side_binding: bool) -> dict[str, str]:
    """Run the application's tests with Django's runner, on the database as it is, and return how each ended."""
    command = [
        sys.executable,
        str(APPLICATIONS / "django_ehr" / "manage.py"),
        "test",
        "--keepdb",
        "--noinput",
        "-v",
        "2",
        "tests.applications.django_ehr",
    ]
    done = subprocess.run(
        command,
        env=environment({"DATABASE_URL": dsn, "SERVER_SIDE_BINDING": "yes" if server_side_binding else "no"}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = re.findall(r"^(\S+) \(\S+\.(\w+)\.\w+\) \.\.\. (\w+)", done.stderr, re.MULTILINE)
    assert outcomes, done.stdout + done.stderr
    return {f"{of}.{name}": "passed" if said == "ok" else done.stderr for name, of, said in outcomes}


def assert_same(directly: dict[str, str], proxied: dict[str, str], least: int) -> None:
    """Every test passed on both sides, and there were no fewer than ``least``."""
    assert {name: said for name, said in directly.items() if said != "passed"} == {}
    assert {name: said for name, said in proxied.items() if said != "passed"} == {}
    assert directly.keys() == proxied.keys()
    assert len(directly) >= least


@pytest.fixture
def oracle(site: Site) -> Iterator[LeakOracle]:
    """Everything that the applications' people have is planted; it is looked for at the end."""
    site.tap.reset()
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
    oracle.planted += unmistakable()
    yield oracle
    oracle.assert_no_leak()


def test_sqlalchemy(site: Site, oracle: LeakOracle, tmp_path: Path) -> None:
    directly = sqlalchemy_tests(site.plain_dsn, tmp_path / "directly.xml")
    proxied = sqlalchemy_tests(site.proxy_dsn, tmp_path / "proxied.xml")
    assert oracle.planted
    assert_same(directly, proxied, 20)


def test_django(site: Site, oracle: LeakOracle) -> None:
    """Whoever binds the parameters, psycopg or the server."""
    directly = django_tests(site.plain_dsn, server_side_binding=False)
    assert oracle.planted
    for server_side_binding in (False, True):
        assert_same(directly, django_tests(site.proxy_dsn, server_side_binding=server_side_binding), 20)
