"""Whose record it was: a statement that reads or stores rows of a table with a subject says whom they were about, or that not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from phiproxy.audit.reading import records
from tests.harness.audit import audited_site, last, log_of, no_secret_is_in
from tests.harness.clinic import POLICY
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site

POLICY_WITH_SUBJECTS = (
    POLICY.replace("  public.patients:\n", "  public.patients:\n    subject: id\n").replace(
        "  public.visits:\n", "  public.visits:\n    subject: patient_id\n"
    )
    + """\
  public.notes:
    subject: mrn
    columns:
      mrn:  {domain: mrn}
      note: {type: text}
  public.claims:
    subject: member
    columns:
      amount: {type: text}
"""
)
DDL = """
CREATE TABLE patients (
    id int PRIMARY KEY, mrn varchar(12), ssn text, full_name text, phone varchar(20), address text, notes text, city text
);
CREATE TABLE visits (id serial PRIMARY KEY, patient_id int, mrn varchar(12), diagnosis text, room text);
CREATE TABLE notes (mrn varchar(12), note text);
CREATE TABLE claims (member uuid, amount text);
"""
VIEWS = {
    "persons": "SELECT id AS number, ssn, city FROM patients",
    "charts": "SELECT p.id, p.ssn, v.patient_id, v.diagnosis FROM patients p JOIN visits v ON v.patient_id = p.id",
    "unnamed": "SELECT ssn, city FROM patients",
    "numbers": "SELECT id, mrn FROM patients UNION ALL SELECT patient_id, mrn FROM visits",
    "following": "SELECT id, ssn, lag(city) OVER (ORDER BY id) AS city FROM patients",
    "of_persons": "SELECT number AS n, ssn FROM persons",
    "hushed": "SELECT lower(ssn) AS hushed, mrn FROM patients",
    "diagnosed": "SELECT upper(p.ssn) || v.diagnosis AS told, p.mrn FROM patients p JOIN visits v ON v.patient_id = p.id",
}
UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A clinic whose tables say whom their rows are about; of more than three in one execution only the number is recorded."""
    directory = tmp_path_factory.mktemp("subjects")
    settings, engine = "directory: audit, proxy: one, subjects: 3", "compute: {engine: embedded}\n"
    with audited_site(postgres_server, directory, settings, policy=POLICY_WITH_SUBJECTS, ddl=DDL, more=engine) as site:
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            for number in range(4711, 4717):
                conn.execute("INSERT INTO patients (id, ssn, mrn) VALUES (%s, %s, %s)", [number, f"s{number}", f"m{number}"])
                conn.execute("INSERT INTO visits (patient_id, diagnosis) VALUES (%s, %s)", [number, f"d{number}"])
                conn.execute("INSERT INTO notes (mrn, note) VALUES (%s, 'x')", [f"m{number}"])
            conn.execute("INSERT INTO claims VALUES (%s, '5')", [UUID])
            for view, query in VIEWS.items():
                conn.execute(f"CREATE VIEW {view} AS {query}".encode())
        yield site


@pytest.fixture
def conn(site: Site) -> Iterator[Connection]:
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        yield conn


CANDIDATES = [*map(str, range(4700, 4725)), *(f"m{n}" for n in range(4711, 4717)), UUID, "99"]


@pytest.fixture(scope="module")
def seals(site: Site) -> dict[str, str]:
    """The values that are sealed, by their seals, as the proxy's own keys give them."""
    code = (
        "import asyncio, json, sys; from pathlib import Path;"
        "from phiproxy.commands.command_context import load; from phiproxy.audit_root import audit_keys;"
        "from phiproxy.audit.sealed_subjects import SubjectSeals;"
        "c = load(Path(sys.argv[1])); s = SubjectSeals(asyncio.run(audit_keys(c.settings, c.policies)));"
        "print(json.dumps({s.seal(v.encode()): v for v in json.loads(sys.argv[2])}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(site.config), json.dumps(CANDIDATES)],
        env={**os.environ, **site.env}, capture_output=True, text=True, check=True, cwd=site.directory,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def about(site: Site, seals: dict[str, str]) -> dict[str, Any]:
    """Return whom the last execution was about."""
    record = last(site, kind="execution")
    said = {}
    for label, own in record.get("subjects", {}).items():
        named = {name: value for name, value in own.items() if name != "sealed"}
        if "sealed" in own:
            named["of"] = sorted(seals[sealed] for sealed in own["sealed"])
        said[label.removeprefix("public.")] = named
    return said


P, V, N, C = "patients.id", "visits.patient_id", "notes.mrn", "claims.member"
UNKNOWN = {"unknown": True}


def of(*values: object) -> dict[str, Any]:
    return {"of": sorted(map(str, values))}


BOTH = {P: of(4711), V: of(4711)}


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT * FROM patients WHERE ssn = 's4711'", {P: of(4711)}),
        ("SELECT ssn, id FROM patients WHERE id < 4713 ORDER BY id", {P: of(4711, 4712)}),
        ("SELECT id FROM patients WHERE ssn IN ('s4711', 's4712')", {P: of(4711, 4712)}),
        ("SELECT ssn FROM patients WHERE id = 4712", {P: of(4712)}),
        ("SELECT ssn FROM patients p WHERE 4712 = p.id AND city IS NULL", {P: of(4712)}),
        ("SELECT ssn FROM patients WHERE id IN (4712, 4713)", {P: of(4712, 4713)}),
        ("SELECT ssn FROM patients WHERE id IN (4712, 4713) OR true", {P: UNKNOWN}),
        ("SELECT count(ssn) FROM patients WHERE id = '4712'::int", {P: of(4712)}),
        ("SELECT ssn FROM patients WHERE ssn = 's4711'", {P: UNKNOWN}),
        ("SELECT ssn, id FROM patients", {P: {"rows": 6}}),
        ("SELECT ssn, id FROM patients WHERE ssn = 'nobody'", {}),
        ("SELECT ssn, id + 1 FROM patients WHERE ssn = 's4711'", {P: UNKNOWN}),
        ("SELECT ssn, lag(id) OVER (ORDER BY city), id FROM patients WHERE ssn = 's4711'", {P: of(4711)}),
        ("SELECT ssn, lag(id) OVER (ORDER BY city), id FROM patients WHERE ssn = 's4711' LIMIT 1", {P: UNKNOWN}),
        ("SELECT * FROM (SELECT ssn, lag(id) OVER (), id FROM patients) t WHERE ssn = 's4711'", {P: UNKNOWN}),
        ("SELECT ssn, id, row_number() OVER (ORDER BY id) FROM patients WHERE ssn = 's4711' LIMIT 1", {P: of(4711)}),
        ("SELECT * FROM (SELECT ssn, id, rank() OVER (ORDER BY city, id) r FROM patients) t WHERE r = 1", {P: of(4711)}),
        ("SELECT number, ssn FROM persons WHERE ssn = 's4711'", {P: of(4711)}),
        ("SELECT ssn FROM persons WHERE number = 4711", {P: of(4711)}),
        ("SELECT ssn FROM persons p WHERE p.number IN (4711, 4712)", {P: of(4711, 4712)}),
        ("SELECT ssn FROM persons WHERE city = 'x'", {P: UNKNOWN}),
        ("SELECT * FROM of_persons WHERE ssn = 's4711'", {P: of(4711)}),
        ("SELECT ssn FROM unnamed WHERE ssn = 's4711'", {P: UNKNOWN}),
        ("SELECT * FROM charts WHERE ssn = 's4711'", BOTH),
        ("SELECT id, diagnosis FROM charts WHERE ssn = 's4711'", {P: of(4711), V: UNKNOWN}),
        ("SELECT a.number, b.ssn FROM persons a, persons b WHERE a.ssn = 's4711' AND b.number = 4712", {P: of(4711, 4712)}),
        ("SELECT p.number, v.diagnosis FROM persons p JOIN visits v ON v.patient_id = p.number WHERE p.ssn = 's4711'", BOTH),
        ("SELECT * FROM numbers WHERE mrn = 'm4711'", {P: of(4711), V: of(4711)}),
        ("SELECT * FROM following WHERE ssn = 's4711'", {P: UNKNOWN}),
        ("SELECT hushed FROM hushed WHERE mrn = 'm4711'", {P: of(4711)}),
        ("SELECT told FROM diagnosed WHERE mrn = 'm4711' AND told > 'a' LIMIT 5", BOTH),
        ("UPDATE persons SET ssn = 's4711' WHERE number = 4711", {P: of(4711)}),
        ("INSERT INTO persons (number, ssn) VALUES (4720, 'x')", {P: of(4720)}),
        ("SELECT p.ssn, q.id FROM patients p, patients q WHERE p.ssn = 's4711' AND q.ssn = 's4712'", {P: {**of(4712), **UNKNOWN}}),
        ("SELECT p.ssn, q.id FROM patients p, patients q WHERE p.ssn = 's4711' AND q.id = p.id", {P: of(4711)}),
        ("SELECT p.id, v.diagnosis FROM patients p JOIN visits v ON v.patient_id = p.id WHERE p.ssn = 's4711'", BOTH),
        ("SELECT v.diagnosis FROM patients p JOIN visits v ON v.patient_id = p.id WHERE p.id = 4711", BOTH),
        ("SELECT patient_id FROM patients p LEFT JOIN visits ON patient_id = p.id WHERE ssn = 's4711'", {V: of(4711), P: UNKNOWN}),
        ("SELECT p.id FROM patients p LEFT JOIN visits v ON v.patient_id = p.id WHERE ssn = 's4711'", BOTH),
        ("SELECT id FROM (SELECT patient_id AS id, diagnosis FROM visits) t WHERE diagnosis = 'd4713'", {V: of(4713)}),
        ("WITH c AS (SELECT id, ssn FROM patients) SELECT * FROM c WHERE ssn = 's4714'", {P: of(4714)}),
        (
            "WITH c AS (SELECT id, ssn FROM patients) SELECT a.ssn, b.id FROM c a, c b WHERE a.ssn = 's4714' ORDER BY b.id LIMIT 1",
            {P: {**of(4711), **UNKNOWN}},
        ),
        (
            "WITH c AS (SELECT id, ssn FROM patients) SELECT a.id, b.id, b.ssn FROM c a, c b WHERE a.ssn = 's4714' AND b.id = 4712",
            {P: of(4712, 4714)},
        ),
        (
            "SELECT id, ssn FROM patients WHERE id = 4711 UNION ALL SELECT id, ssn FROM patients WHERE id = 4712",
            {P: of(4711, 4712)},
        ),
        ("SELECT ssn FROM patients WHERE id = 4711 UNION SELECT ssn FROM patients WHERE id = 4712", {P: of(4711, 4712)}),
        (
            "SELECT ssn FROM patients WHERE id = 4711 UNION ALL SELECT ssn FROM patients WHERE city = 'x'",
            {P: {**of(4711), **UNKNOWN}},
        ),
        ("SELECT id, ssn FROM patients WHERE ssn = 's4711' UNION ALL SELECT 5, 'x'", {P: UNKNOWN}),
        ("SELECT id FROM patients WHERE ssn = 's4711' UNION SELECT patient_id FROM visits WHERE diagnosis = 'd4711'", BOTH),
        ("SELECT id FROM patients WHERE ssn = 's4711' INTERSECT SELECT patient_id FROM visits", BOTH),
        ("SELECT id FROM patients WHERE ssn = 's4711' EXCEPT SELECT patient_id FROM visits", {V: UNKNOWN}),
        ("SELECT id, ssn FROM patients UNION SELECT id, ssn FROM patients ORDER BY 1 LIMIT 1", {P: of(4711)}),
        ("SELECT id FROM patients WHERE EXISTS (SELECT FROM visits WHERE room = '1') OR id = 4711", {P: of(4711), V: UNKNOWN}),
        ("SELECT id, array_agg(ssn) FROM patients WHERE ssn = 's4711' GROUP BY id", {P: of(4711)}),
        ("SELECT mrn, note FROM notes WHERE mrn = 'm4711'", {N: of("m4711")}),
        ("SELECT note FROM notes WHERE mrn = 'm4712'", {N: of("m4712")}),
        ("INSERT INTO notes (note, mrn) VALUES ('y', 'm4716'), ('z', 'm4715')", {N: of("m4716", "m4715")}),
        ("INSERT INTO claims VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '5')", {C: of(UUID)}),
        ("SELECT * FROM claims", {C: of(UUID)}),
        ("UPDATE patients SET notes = 'n' WHERE id = 4711", {P: of(4711)}),
        ("UPDATE patients SET notes = 'n' WHERE ssn = 's4711'", {P: UNKNOWN}),
        ("UPDATE patients SET notes = 'n' WHERE ssn = 's4711' RETURNING id", {P: of(4711)}),
        ("UPDATE visits SET patient_id = 99, diagnosis = 'n' WHERE patient_id = 4716", {V: of(4716, 99)}),
        ("DELETE FROM visits WHERE patient_id = 99", {V: of(99)}),
        ("INSERT INTO patients (id, ssn) VALUES (4720, 'x') ON CONFLICT (id) DO UPDATE SET ssn = 'x'", {P: of(4720)}),
        ("INSERT INTO visits (diagnosis) VALUES ('d')", {V: UNKNOWN}),
        ("INSERT INTO visits (patient_id, diagnosis) SELECT 4711, 'd' RETURNING patient_id", {V: of(4711)}),
        ("DELETE FROM patients WHERE id = 4720", {P: of(4720)}),
    ],
)
def test_each_statement_says_whom_its_rows_were_about(
    site: Site, conn: Connection, seals: dict[str, str], statement: str, said: dict[str, Any]
) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute(statement.encode(), prepare=True)
        assert about(site, seals) == said
    with conn.transaction(force_rollback=True):
        conn.pgconn.exec_(statement.encode())
        assert about(site, seals) == said
    shapes = statement.replace("4711", "4714")
    if shapes != statement and "4711" in json.dumps(said):
        with conn.transaction(force_rollback=True):
            conn.pgconn.exec_(shapes.encode())
        other = json.loads(json.dumps(said).replace("4711", "4714"))
        assert about(site, seals) == {c: {**o, "of": sorted(o["of"])} if "of" in o else o for c, o in other.items()}


def test_parameters_say_it_in_text_and_in_binary(site: Site, conn: Connection, seals: dict[str, str]) -> None:
    for binary in (False, True):
        for _ in range(8):  # from some time on they are sent by name
            conn.execute("SELECT ssn FROM patients WHERE id = %s", [4713], binary=binary)
            assert about(site, seals) == {P: of(4713)}
            conn.execute("SELECT id, ssn FROM patients WHERE ssn = %s", ["s4714"], binary=binary)
            assert about(site, seals) == {P: of(4714)}
            conn.execute("SELECT note, mrn FROM notes WHERE mrn = %s", ["m4711"], binary=binary)
            assert about(site, seals) == {N: of("m4711")}
            conn.execute("UPDATE visits SET diagnosis = %s WHERE patient_id = %s", ["d4711", 4711], binary=binary)
            assert about(site, seals) == {V: of(4711)}


def test_rows_that_are_stored_at_once_are_each_about_somebody(site: Site, conn: Connection, seals: dict[str, str]) -> None:
    long = "x" * 600  # of a text that is as long, only some rows are analysed
    for numbers, said in (((4711, 4712, 4713), of(4711, 4712, 4713)), (range(4700, 4724), {"rows": 24})):
        rows = [(number, f"{number}{long}") for number in numbers]
        with conn.transaction(force_rollback=True):
            literal = ", ".join(f"({number}, '{value}')" for number, value in rows)
            conn.pgconn.exec_(f"INSERT INTO visits (patient_id, diagnosis) VALUES {literal}".encode())
            assert about(site, seals) == {V: said}
            marks = ", ".join("(%s, %s)" for _ in rows)
            conn.execute(f"INSERT INTO visits (patient_id, diagnosis) VALUES {marks}".encode(), [v for row in rows for v in row])
            assert about(site, seals) == {V: said}


async def test_drivers_that_speak_binary_alone(site: Site, seals: dict[str, str]) -> None:
    conn = await asyncpg.connect(site.proxy_dsn)
    try:
        for _ in range(3):
            assert await conn.fetchval("SELECT ssn FROM patients WHERE id = $1", 4712) == "s4712"
            assert about(site, seals) == {P: of(4712)}
            assert len(await conn.fetch("SELECT id, city FROM patients WHERE id <= $1", 4712)) == 2
            assert about(site, seals) == {P: of(4711, 4712)}
    finally:
        await conn.close()


def test_a_split_statement_is_about_the_rows_that_its_source_has_opened(
    site: Site, conn: Connection, seals: dict[str, str]
) -> None:
    split = "SELECT id FROM patients WHERE id < 4713 AND ssn LIKE %s ORDER BY ssn DESC LIMIT 1"
    for binary in (False, True):
        assert conn.execute(split, ["s%2"], binary=binary).fetchall() == [(4712,)]
        record = last(site, kind="execution")
        assert (record["split"], about(site, seals)) == (2, {P: of(4711, 4712)})
    one = "SELECT upper(ssn) FROM patients WHERE id = %s"
    assert conn.execute(one, [4713]).fetchall() == [("S4713",)]
    assert about(site, seals) == {P: of(4713)}
    conn.execute("SELECT upper(ssn) FROM patients WHERE id = 4714")
    assert about(site, seals) == {P: of(4714)}


ALL = {P: {"rows": 6}}
EVERY = {**ALL, V: {"rows": 6}}
NOBODY_KNOWN = {P: UNKNOWN, V: UNKNOWN}


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT upper(p.ssn) FROM patients p, visits v WHERE v.patient_id = p.id AND p.id = 4711", BOTH),
        ("COPY (SELECT upper(p.ssn) FROM patients p JOIN visits v ON v.patient_id = p.id WHERE p.id = 4711) TO STDOUT", BOTH),
        ("SELECT p.ssn FROM patients p JOIN visits v ON v.patient_id = p.id WHERE v.diagnosis ILIKE 'D4711'", NOBODY_KNOWN),
        ("SELECT upper(p.ssn) FROM patients p, visits v WHERE p.id = 4711 AND v.diagnosis ILIKE 'd%2'", NOBODY_KNOWN),
        ("SELECT upper(v.diagnosis) FROM patients p LEFT JOIN visits v ON v.patient_id = p.id AND v.diagnosis ILIKE '%1'", EVERY),
        ("SELECT id FROM patients p WHERE EXISTS (SELECT FROM visits WHERE patient_id = p.id AND diagnosis ILIKE '%3')", EVERY),
        ("SELECT upper(hushed) FROM hushed WHERE mrn = 'm4711'", {P: of(4711)}),
        ("COPY (SELECT hushed FROM hushed WHERE mrn = 'm4711') TO STDOUT", {P: of(4711)}),
        ("SELECT a.hushed, b.hushed FROM hushed a JOIN hushed b ON a.hushed <> b.hushed WHERE a.mrn = 'm4711' AND b.mrn = 'm4712'",
         {P: of(4711, 4712)}),
        ("SELECT d.told, n.note FROM diagnosed d JOIN notes n ON n.mrn = d.mrn WHERE d.mrn = 'm4711'", {**BOTH, N: UNKNOWN}),
        ("SELECT h.hushed FROM hushed h JOIN notes n ON n.mrn = h.mrn WHERE n.mrn = 'm4711'", {P: of(4711), N: of("m4711")}),
        ("SELECT count(*) FROM diagnosed WHERE told LIKE 'S4711%'", EVERY),
        ("SELECT max(hushed) FROM hushed", ALL),
        ("SELECT hushed FROM hushed UNION SELECT told FROM diagnosed", {P: {"rows": 12}, V: {"rows": 6}}),
        ("WITH c AS (SELECT hushed, mrn FROM hushed) SELECT hushed FROM c WHERE mrn = 'm4714' ORDER BY upper(hushed)", ALL),
    ],
)  # fmt: skip
def test_joins_that_are_split_and_views_that_compute_leave_nobody_out(
    site: Site, conn: Connection, seals: dict[str, str], statement: str, said: dict[str, Any]
) -> None:
    """Whose rows were opened is known, or how many they were, or that it is not known; also of those only computed with."""
    if statement.startswith("COPY"):
        with conn.cursor().copy(statement.encode()) as copy:
            assert list(copy)
    else:
        assert conn.execute(statement.encode()).fetchall()
    assert about(site, seals) == said


def test_a_cursor_says_it_with_each_fetch(site: Site, conn: Connection, seals: dict[str, str]) -> None:
    def fetched(query: str, *values: object) -> list[dict[str, Any]]:
        said = []
        with conn.transaction(), conn.cursor("look") as cursor:
            cursor.execute(query.encode(), values or None)
            for _ in range(2):
                cursor.fetchone()
                said.append(about(site, seals))
        return said

    assert fetched("SELECT id, ssn FROM patients ORDER BY id") == [{P: of(4711)}, {P: of(4712)}]
    assert fetched("SELECT ssn FROM patients WHERE id = 4713") == [{P: of(4713)}] * 2
    assert fetched("SELECT ssn FROM patients WHERE id IN (%s, %s)", 4711, 4712) == [{P: of(4711, 4712)}] * 2
    assert fetched("SELECT ssn FROM patients WHERE ssn = %s", "s4711") == [{P: UNKNOWN}] * 2
    assert fetched("SELECT mrn, note FROM notes WHERE mrn = %s", "m4711") == [{N: of("m4711")}, {}]
    script = "BEGIN; DECLARE c CURSOR FOR SELECT ssn FROM patients WHERE id = 4712; FETCH ALL FROM c; COMMIT"
    conn.pgconn.exec_(script.encode())
    assert about(site, seals) == {P: of(4712)}
    with conn.transaction():
        conn.execute("DECLARE c CURSOR FOR SELECT ssn, id FROM patients WHERE ssn = 's4714'")
        conn.execute("MOVE 1 FROM c")
        assert about(site, seals) == {}
        conn.execute("FETCH BACKWARD 0 FROM c")
        assert about(site, seals) == {P: of(4714)}


def test_execute_of_a_prepared_statement_says_it_by_its_columns(site: Site, conn: Connection, seals: dict[str, str]) -> None:
    conn.execute("PREPARE own (text) AS SELECT id, ssn FROM patients WHERE ssn = $1")
    conn.execute("EXECUTE own ('s4712')")
    assert about(site, seals) == {P: of(4712)}
    conn.execute("PREPARE other (int) AS SELECT ssn FROM patients WHERE id = $1")
    conn.execute("EXECUTE other (4712)")
    assert about(site, seals) == {P: UNKNOWN}


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_a_copy_says_it_by_its_columns(site: Site, conn: Connection, seals: dict[str, str], form: str) -> None:
    def out(what: str) -> dict[str, Any]:
        with conn.cursor().copy(f"COPY {what} TO STDOUT (FORMAT {form})".encode()) as copy:
            assert list(copy)
        return about(site, seals)

    assert out("patients") == {P: {"rows": 6}}
    assert out("patients (ssn, city)") == {P: UNKNOWN}
    assert out("(SELECT ssn, id FROM patients WHERE id IN (4711, 4712))") == {P: of(4711, 4712)}
    assert out("(SELECT ssn FROM patients WHERE id = 4713)") == {P: of(4713)}
    assert out("(SELECT ssn FROM patients WHERE ssn = 's4713')") == {P: UNKNOWN}
    assert out("(SELECT id FROM patients WHERE ssn = 's4713')") == {P: of(4713)}
    assert out("(SELECT city, id FROM patients WHERE ssn IN ('s4713', 's4712'))") == {P: of(4712, 4713)}
    assert out("(SELECT city FROM patients WHERE ssn = 's4713')") == {P: UNKNOWN}
    assert out("(SELECT note, mrn FROM notes WHERE mrn = 'm4711')") == {N: of("m4711")}


def test_rows_that_are_copied_in_are_each_about_somebody(site: Site, conn: Connection, seals: dict[str, str]) -> None:
    def stored(how: str, data: bytes) -> dict[str, Any]:
        with conn.transaction(force_rollback=True):
            with conn.cursor().copy(f"COPY {how}".encode()) as copy:
                copy.write(data)
            return about(site, seals)

    assert stored("visits (diagnosis, patient_id) FROM STDIN", b"x\t4711\ny\t 4712\nz\t\\N\n") == {V: of(4711, 4712)}
    assert stored("visits (patient_id, diagnosis) FROM STDIN (FORMAT csv, HEADER)", b'patient_id,x\n"4711",y\n') == {V: of(4711)}
    assert stored("visits (diagnosis) FROM STDIN", b"x\n") == {V: UNKNOWN}
    assert stored("notes FROM STDIN", b"m4711\tx\n") == {N: of("m4711")}
    assert stored("visits (patient_id, diagnosis) FROM STDIN WHERE patient_id > 4711", b"4711\tx\n4712\tx\n") == {V: of(4711, 4712)}
    if conn.info.server_version >= 170000:
        ignored = "visits (patient_id, diagnosis) FROM STDIN (ON_ERROR ignore)"
        assert stored(ignored, b"4711\tx\nx\ty\n") == {V: {**of(4711), **UNKNOWN}}
    if conn.info.server_version >= 160000:
        default = "visits (patient_id, diagnosis) FROM STDIN (DEFAULT 'D')"
        assert stored(default, b"4711\tD\n") == {V: of(4711)}
        assert stored(default, b"4711\tx\nD\ty\n") == {V: {**of(4711), **UNKNOWN}}
    rows = b"".join(b"%d\tx\n" % number for number in range(4700, 4720))
    assert stored("visits (patient_id, diagnosis) FROM STDIN", rows) == {V: {"rows": 20}}
    with conn.transaction(force_rollback=True):
        with conn.cursor().copy("COPY visits (patient_id, diagnosis) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for number in (4711, 4712):
                copy.write_row((number, "x"))
        assert about(site, seals) == {V: of(4711, 4712)}


def test_the_log_does_not_say_whom_without_the_key(site: Site) -> None:
    no_secret_is_in(site, UUID, '"m4711"')
    sealed = {one for record in log_of(site) for own in record.get("subjects", {}).values() for one in own.get("sealed", ())}
    assert len(sealed) > 8
    assert {len(b64decode(one)) for one in sealed} == {16 + 16 + 16, 16 + 48 + 16}


def test_the_accounting_of_one_person(site: Site, conn: Connection) -> None:
    conn.execute("SELECT id, ssn FROM patients WHERE id IN (4711, 4712)")
    conn.execute("SELECT ssn FROM patients WHERE ssn = 's4711'")  # it is not known about whom
    conn.execute("SET phiproxy.end_user = 'dr.who'")
    conn.execute("SELECT id, ssn FROM patients WHERE id = 4711")

    def subject(*arguments: str) -> tuple[int, str, str]:
        done = run_cli("audit", "subject", *arguments, "-c", str(site.config), env=site.env)
        return done.returncode, done.stdout, done.stderr

    code, out, err = subject("4711", "--who", "dr.who")
    assert (code, out.count("\n")) == (0, 1), err
    assert "dr.who as" in out
    assert "SELECT id, ssn FROM patients WHERE id = ?" in out
    code, out, err = subject("4711", "--format", "jsonl")
    assert len(out.splitlines()) > 3
    assert "records more may be about anybody" in err
    assert all("subjects" in json.loads(line) for line in out.splitlines())
    code, out, _ = subject("4711", "--table", "public.visits", "--format", "jsonl")
    assert {label for line in out.splitlines() for label in json.loads(line)["subjects"]} >= {"public.visits.patient_id"}
    code, out, _ = subject(UUID.upper(), "--format", "fhir")
    bundle = json.loads(out)
    entities = [entity for entry in bundle["entry"] for entity in entry["resource"]["entity"]]
    assert {e["what"]["identifier"]["value"] for e in entities if "identifier" in e.get("what", {})} == {UUID.upper()}
    code, out, err = subject("31337")
    assert (code, out) == (1, "")
    assert "no record is about that subject" in err
    done = run_cli("audit", "search", str(site.directory / "audit"), "--open-ended", "--json", check=True)
    assert all("subjects" in json.loads(line) for line in done.stdout.splitlines())


def test_a_stream_says_it_at_its_end(site: Site, conn: Connection, seals: dict[str, str]) -> None:
    rows = conn.cursor().stream("SELECT id, ssn FROM patients WHERE id IN (4711, 4712) ORDER BY id")
    assert [row[0] for row in rows] == [4711, 4712]
    assert about(site, seals) == {P: of(4711, 4712)}
    assert list(records(site.directory / "audit"))
