"""Tables full of plaintext are encrypted while applications read and write them, through the proxy and past it."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import random
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7
from psycopg import sql

from tests.harness.at_work import PAUSE, AtWork
from tests.harness.oracle import LeakOracle, spellings
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.waiting import until
from tests.integration.job_at_work import gone_on_with, jobs_of, killed_at_each_step, let_go, listed, started

pytestmark = pytest.mark.timeout(1200)  # each is of several jobs, one after the other

POLICY = """\
database: {database}
deployment: encrypt-test
tables:
  public.patients:
    columns:
      ssn:   {type: text, indexes: [ssn, "right(ssn, 4)"], accept_leakage: test}
      born:  {type: date}
      score: {type: "numeric(6,2)", indexes: [score], accept_leakage: test}
"""
TABLES = """\
CREATE TABLE patients (
    id int PRIMARY KEY, ssn text NOT NULL UNIQUE, name text, born date, score numeric(6,2), city text DEFAULT 'Graz'
);
CREATE INDEX patients_score_idx ON patients (score);
COMMENT ON COLUMN patients.ssn IS 'as on the card';
INSERT INTO patients
  SELECT n, 'secret-' || n, 'Ann ' || n, date '1980-01-01' + n, n / 7.0 FROM generate_series(1, {rows}) n;
"""
VALUES = "secret-"  # what the values of TABLES begin with, and of most tests' own tables


def rows_of(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute(query.encode()).fetchall()


def same_rows(site: Site, queries: Iterable[str]) -> None:
    """Queries have the same rows through the proxy as in the plain twin."""
    with psycopg.connect(site.proxy_dsn, autocommit=True) as proxied, psycopg.connect(site.plain_dsn, autocommit=True) as plain:
        for query in queries:
            assert proxied.execute(query.encode()).fetchall() == plain.execute(query.encode()).fetchall(), query


@contextmanager
def filled_site(
    server: PostgresServer, directory: Path, *, policy: str = POLICY, ddl: str = TABLES, rows: int = 3000, settings: str = ""
) -> Iterator[Site]:
    """A site with full tables; the service role may act as their owner, as a job needs it. In no proxy's log will be a value."""
    with open_site(server, directory, policy=policy, ddl=ddl.replace("{rows}", str(rows)), settings=settings) as site:
        with server.connect() as conn:
            conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(site.role), sql.Identifier(site.service)))
            conn.execute(sql.SQL("GRANT SET ON PARAMETER session_replication_role TO {}").format(sql.Identifier(site.service)))
        try:
            yield site
            logs = sorted(directory.rglob("*.log"))
            assert logs
            assert [log.name for log in logs if any(needle in log.read_bytes().lower() for needle in spellings(VALUES))] == []
        finally:
            with server.connect() as conn:
                revoke = sql.SQL("REVOKE SET ON PARAMETER session_replication_role FROM {}")
                conn.execute(revoke.format(sql.Identifier(site.service)))


ALL = "SELECT * FROM patients ORDER BY id"


def test_a_table_at_rest(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """What clients see is what it was: values, columns and their order, types; and nothing of it is in the table any more."""
    with filled_site(postgres_server, tmp_path) as site:
        assert "statements over it are observed" in site.cli("check", check=False)
        before = rows_of(site.proxy_dsn, ALL)
        with site.server.connect(site.sealed) as conn:
            conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(site.sealed), sql.Identifier(site.role)))
        looked = site.cli("encrypt", "--dry-run")
        assert "frequent values in pg_statistic" in looked
        assert "unique index patients_ssn_key on the tags of ssn, in place of that on plain values" in looked
        assert "what keeps it" not in looked
        out = site.cli("encrypt", "--rewrite")
        assert "statements were held for" in out
        assert "pg_statistic" not in out, "it is rewritten too"
        assert rows_of(site.proxy_dsn, ALL) == before == rows_of(site.plain_dsn, ALL)
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            described = [(c.name, c.type_code) for c in conn.execute(ALL).description or ()]
            with psycopg.connect(site.plain_dsn) as plain:
                assert described == [(c.name, c.type_code) for c in plain.execute(ALL).description or ()]
            assert conn.execute("SELECT id FROM patients WHERE ssn = 'secret-7'").fetchall() == [(7,)]
            assert conn.execute("SELECT id FROM patients WHERE score = 3").fetchall() == [(21,)], "3.00 is 3"
            assert conn.execute("SELECT count(*) FROM patients WHERE right(ssn, 4) = %s", ("t-77",)).fetchall() == [(1,)]
            conn.execute("INSERT INTO patients VALUES (9000, 'secret-9000', 'Ben', '2000-01-01', 1.5)")
            assert conn.execute("SELECT * FROM patients WHERE id = 9000").fetchall()[0][1:3] == ("secret-9000", "Ben")
            with pytest.raises(psycopg.errors.UniqueViolation, match="patients_ssn_key"):
                conn.execute("INSERT INTO patients (id, ssn) VALUES (9001, 'secret-9000')")
            with pytest.raises(psycopg.errors.NotNullViolation):
                conn.execute("INSERT INTO patients (id) VALUES (9001)")
        stored = rows_of(site.server.dsn(site.sealed), "SELECT DISTINCT substring(ssn, 1, 3) FROM patients")
        assert stored == [(b"\xf5P\x01",)]
        columns = rows_of(site.server.dsn(site.sealed), "SELECT attname, format_type(atttypid, -1) FROM pg_attribute"
                          " WHERE attrelid = 'patients'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum")  # fmt: skip
        assert [c for c, t in columns if t == "bytea"] == ["born", "score", "ssn"]
        assert "guards and tag indexes are there" in site.cli("check", check=False)
        assert "nothing to do" in site.cli("encrypt")
        assert rows_of(site.server.dsn(site.sealed), "SELECT col_description('patients'::regclass, attnum) FROM pg_attribute"
                       " WHERE attrelid = 'patients'::regclass AND attname = 'ssn'") == [("as on the card",)]  # fmt: skip
        try:
            assert set(holding(site, b"secret-77")) <= {"pg_wal"}, "as --rewrite says, which names WAL"
            without_old_wal(site)
            assert holding(site, b"secret-77") == [], "as docs/existing-data.md says"
        except PermissionError:
            pytest.skip("the data directory is another user's")


def test_frequent_values_stay_in_the_statistics_until_these_are_rewritten(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """As dead rows: the job rewrites them where its role may act as the database's owner, else it prints what to run."""
    policy = POLICY + "      name: {type: text}\n"
    ddl = TABLES.replace("'Ann ' || n", "CASE WHEN n % 10 = 0 THEN 'Xq7planted' ELSE 'Ann ' || n END")
    with filled_site(postgres_server, tmp_path, rows=500, policy=policy, ddl=ddl) as site:
        with site.server.connect(site.sealed) as conn:
            conn.execute("ANALYZE patients")
        out = site.cli("encrypt", "--rewrite")
        command = "VACUUM (FULL) pg_catalog.pg_statistic, pg_catalog.pg_statistic_ext_data"
        assert f"  {command};  -- as {site.server.superuser}\n" in out
        assert "frequent values in pg_statistic" in out
        with site.server.connect(site.sealed) as conn:
            conn.execute(command.encode())
        try:
            assert set(holding(site, b"Xq7planted")) <= {"pg_wal"}
        except PermissionError:
            pytest.skip("the data directory is another user's")


def holding(site: Site, value: bytes) -> list[str]:
    """Return what of the data directory holds these bytes, but for other databases: its directories by their names."""
    with site.server.connect(site.sealed) as conn:
        conn.execute("CHECKPOINT")
        ((data, oid),) = conn.execute(
            "SELECT current_setting('data_directory'), oid::text FROM pg_database WHERE datname = current_database()"
        ).fetchall()
    root = Path(str(data))
    files = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    own = [path for path in files if path.parts[:1] != ("base",) or path.parts[1] == oid]
    found = set()
    for path in own:
        with suppress(FileNotFoundError):  # the server removes some at any moment
            if value in (root / path).read_bytes():
                found.add(str(path.parent))
    return sorted(found)


def without_old_wal(site: Site) -> None:
    """Have all segments of WAL removed that were written before."""
    with site.server.connect() as conn:
        conn.execute("ALTER SYSTEM SET wal_recycle = off")
        conn.execute("SELECT pg_reload_conf()")
        try:
            ((segments,),) = conn.execute("SELECT count(*) FROM pg_ls_waldir()").fetchall()
            for _ in range(int(str(segments)) + 1):
                conn.execute("SELECT pg_logical_emit_message(false, '', '')")
                conn.execute("SELECT pg_switch_wal()")
            conn.execute("CHECKPOINT")
        finally:
            conn.execute("ALTER SYSTEM RESET wal_recycle")
            conn.execute("SELECT pg_reload_conf()")


PAST = 20_000 / 60
"""Rows that are changed past the proxy per second."""


class Writers(AtWork):
    """Applications at work: each change is made in the plain twin too, one row by one thread only, so that both must end alike."""

    patience = None

    def __init__(self, site: Site, rows: int, *, past: bool = True) -> None:
        self._site, self._rows = site, rows
        self.past = 0
        self.seconds_past = 0.0
        self.failures: list[str] = []
        self.slowest = 0.0
        self.done = 0
        super().__init__(*(partial(self._through, n) for n in range(3)), *([self._past] if past else []))

    def _through(self, number: int) -> None:
        """Prepared statements, transactions and simple queries through the proxy."""
        chance = random.Random(number)
        proxy, plain = self._site.proxy_dsn, self._site.plain_dsn
        with psycopg.connect(proxy, autocommit=True) as conn, psycopg.connect(plain, autocommit=True) as twin:
            conn.prepare_threshold = 1
            while not self._stop.is_set():
                row = chance.randrange(1, self._rows // 4) * 4 + number
                value = f"secret-{row}-{chance.randrange(10**6)}"
                began = time.monotonic()
                try:
                    if number == 0:
                        conn.execute("UPDATE patients SET ssn = %s WHERE id = %s", (value, row))
                    elif number == 1:
                        with conn.transaction():
                            conn.execute("SELECT born FROM patients WHERE id = %s", (row,)).fetchall()
                            conn.execute("UPDATE patients SET ssn = %s WHERE id = %s", (value, row))
                    else:
                        conn.execute(f"UPDATE patients SET ssn = '{value}' WHERE id = {row}".encode(), prepare=False)
                    found = conn.execute("SELECT ssn FROM patients WHERE id = %s", (row,)).fetchall()
                    if found != [(value,)]:
                        self.failures.append(f"read {found}, wrote {value}")
                except psycopg.Error as error:
                    self.failures.append(f"{number}: {error}")
                self.slowest = max(self.slowest, time.monotonic() - began)
                twin.execute("UPDATE patients SET ssn = %s WHERE id = %s", (value, row))
                self.done += 1
                self._stop.wait(PAUSE)

    def _past(self) -> None:
        """Until the column is sealed: from then on the server takes plaintext no more. Some rows at a time, 20 000 a minute."""
        chance, some = random.Random(99), 10
        sealed, plain = self._site.sealed_dsn, self._site.plain_dsn
        update = "UPDATE patients SET ssn = 'secret-' || id || %s::text WHERE id = ANY (%s)"
        began = time.monotonic()
        with psycopg.connect(sealed, autocommit=True) as conn, psycopg.connect(plain, autocommit=True) as twin:
            while not self._stop.is_set():
                rows = [chance.randrange(1, self._rows // 4) * 4 + 3 for _ in range(some)]
                values = f"-{chance.randrange(10**6)}", rows
                try:
                    conn.execute(update, values)
                except psycopg.errors.DatabaseError:
                    return
                twin.execute(update, values)
                self.past += some
                self.seconds_past = time.monotonic() - began
                self._stop.wait(max(0.0, self.past / PAST - self.seconds_past))


def test_under_traffic(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """No statement fails, none waits long, no write is lost: prepared ones and transactions go on over the switch."""
    rows = 3_000
    with filled_site(postgres_server, tmp_path, rows=rows) as site:
        with Writers(site, rows) as writers:
            until(lambda: writers.done > 6 or bool(writers.failures), "they have not begun")
            told = [json.loads(line) for line in site.cli("encrypt", "--json").splitlines() if line.startswith('{"')]
            after = writers.done
            until(lambda: writers.done > max(after + 6, 30) or bool(writers.failures), "they do not go on")
        assert writers.failures == []
        assert told
        assert writers.slowest < 120  # with all else that the machine does
        assert writers.past > 100  # as many as PAST says where the machine has nothing else to do
        assert rows_of(site.proxy_dsn, ALL) == rows_of(site.plain_dsn, ALL)
        oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            planted = oracle.plant()
            conn.execute("UPDATE patients SET ssn = %s WHERE id = 1", (planted,))
            assert conn.execute("SELECT id FROM patients WHERE ssn = %s", (planted,)).fetchall() == [(1,)]
        oracle.assert_no_leak()


def raw_columns(site: Site, table: str = "patients") -> list[str]:
    query = f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
    return [str(name) for (name,) in site.server.standing(site.sealed).execute(query.encode())]


def test_killed_at_each_step(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """kill -9, there and back: what clients see is as it was, and the same job goes on. At other moments: ``test_job_faults``."""
    named = "SELECT id, ssn, name, born, score, city FROM patients ORDER BY id"
    with filled_site(postgres_server, tmp_path, rows=200) as site:
        before = rows_of(site.plain_dsn, named)

        def as_before() -> None:
            assert rows_of(site.proxy_dsn, named) == before

        for command in (["encrypt"], ["decrypt", "public.patients", "--reorder"]):
            assert "switching" in killed_at_each_step(site, command, between=as_before)
            as_before()
            assert not [name for name in raw_columns(site) if name.startswith("phi_")]


def test_a_transaction_that_does_not_end(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Whether it is behind the proxy or not: the job gives up, nothing is half done, and goes on when it has ended."""
    with filled_site(postgres_server, tmp_path, rows=200) as site:
        before = rows_of(site.plain_dsn, ALL)
        with psycopg.connect(site.proxy_dsn) as holder:
            holder.execute("SELECT FROM patients")
            done = run_cli("encrypt", "--attempts", "1", "-c", str(site.config), env=site.env)
            assert (done.returncode, "have transactions or statements that do not end" in done.stderr) == (1, True)
            assert rows_of(site.proxy_dsn, ALL) == before
        another = started(site, "encrypt", "--rate", "10")
        until(lambda: bool([job for job in listed(site) if job["id"] == 2 and job["phase"]]), "another job has the table", 400)
        refused = run_cli("jobs", "abort", "1", "-c", str(site.config), env=site.env)
        assert "another job is at work on public.patients" in refused.stderr, "what it needs is not taken back"
        another.kill()
        let_go(site)
        site.cli("jobs", "abort", "2")
        with psycopg.connect(site.sealed_dsn) as holder:
            holder.execute("SELECT FROM patients")
            gone_on_with(site, "1", "others hold a lock")
            assert rows_of(site.proxy_dsn, ALL) == before
        assert raw_columns(site) == ["id", "ssn", "name", "born", "score", "city"], "nothing half done"
        gone_on_with(site, "1")
        assert rows_of(site.proxy_dsn, ALL) == before
        assert rows_of(site.proxy_dsn, "SELECT id FROM patients WHERE ssn = 'secret-5'") == [(5,)]
        raw = raw_columns(site)
        with psycopg.connect(site.sealed_dsn) as holder:
            holder.execute("SELECT FROM patients")
            back = ("decrypt", "public.patients", "--reorder", "--attempts", "1", "-c", str(site.config))
            assert run_cli(*back, env=site.env).returncode == 1
            gone_on_with(site, "3", "others hold a lock")
            assert rows_of(site.proxy_dsn, ALL) == before
        assert raw_columns(site) == raw, "nothing half done on the way back"
        gone_on_with(site, "3")
        named = "SELECT id, ssn, name, born, score, city FROM patients ORDER BY id"
        assert rows_of(site.sealed_dsn, named) == before


def test_aborted_encrypted_and_decrypted(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """All that was added is taken back; what is hidden meanwhile is not shown."""
    rows = 800
    with filled_site(postgres_server, tmp_path, rows=rows) as site:
        columns = raw_columns(site)
        job = started(site, "encrypt", "--rate", "10")
        try:
            until(lambda: len(raw_columns(site)) == len(columns) + 3, "hidden columns are there", 400)
            assert rows_of(site.proxy_dsn, ALL) == rows_of(site.plain_dsn, ALL)
            assert "is being sealed" in site.cli("check", check=False)
            with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
                conn.execute("INSERT INTO patients VALUES (9999, 'x', 'y', '2000-01-01', 1, 'z')")
                conn.execute("UPDATE patients SET ssn = ssn || '!' WHERE id = 9999")
                assert conn.execute("DELETE FROM patients WHERE id = 9999 RETURNING *").fetchall()[0][1] == "x!"
                with conn.cursor().copy("COPY patients TO STDOUT") as copy:
                    assert all(bytes(line).count(b"\t") == 5 for line in copy)
            # Not within the short locks before: nobody could read the table then, until it goes on.
            until(lambda: bool(listed(site)[-1]["phase"]), "rows are filled", 400)
            os.kill(job.process.pid, signal.SIGSTOP)  # its machine is gone, and the server has not noticed
            site.proxy.terminate()
            site.proxy.start()  # in this state too
            assert rows_of(site.proxy_dsn, ALL) == rows_of(site.plain_dsn, ALL)
            site.cli("jobs", "abort", "1")
            assert raw_columns(site) == columns
            assert jobs_of(site) == [("1", "aborted")]
        finally:
            job.kill()
        site.cli("encrypt")
        assert rows_of(site.proxy_dsn, ALL) == rows_of(site.plain_dsn, ALL)
        the_way_back(site, rows)


def the_way_back(site: Site, rows: int) -> None:
    """Under traffic, in both directions: at the end the table is plain, and the policy's statements are observed again."""
    looked = run_cli("decrypt", "public.patients", "--dry-run", "-c", str(site.config), env=site.env)
    assert (looked.returncode, "will stand last" in looked.stdout) == (1, True)
    named = "SELECT id, ssn, name, born, score, city FROM patients ORDER BY id"
    with Writers(site, rows, past=False) as writers:
        until(lambda: writers.done > 3 or bool(writers.failures), "they have not begun")
        site.cli("decrypt", "public.patients", "--reorder")
        after = writers.done
        until(lambda: writers.done > after + 3 or bool(writers.failures), "they do not go on")
    assert writers.failures == []
    assert rows_of(site.proxy_dsn, named) == rows_of(site.plain_dsn, named)
    assert rows_of(site.sealed_dsn, named) == rows_of(site.plain_dsn, named)
    assert raw_columns(site) == ["id", "name", "city", "born", "score", "ssn"]
    named_indexes = "SELECT indexdef FROM pg_indexes WHERE indexname IN ('patients_ssn_key', 'patients_score_idx')"
    indexes = rows_of(site.sealed_dsn, named_indexes)
    assert sorted(str(text).partition(" ON ")[2] for (text,) in indexes) == [
        "public.patients USING btree (score)", "public.patients USING btree (ssn)",
    ]  # fmt: skip
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn, pytest.raises(psycopg.errors.NotNullViolation):
        conn.execute("INSERT INTO patients (id) VALUES (99999)")
    assert "statements over it are observed" in site.cli("check", check=False)
    site.cli("encrypt")
    assert rows_of(site.proxy_dsn, named) == rows_of(site.plain_dsn, named)


def test_kept_and_dropped_later(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with filled_site(postgres_server, tmp_path, rows=200) as site:
        with site.another_proxy("other") as killed:
            killed.kill()  # it is not waited for long
        assert "--finish drops them" in site.cli("encrypt", "public.patients.ssn", "--keep")
        assert "phi_old_ssn" in raw_columns(site)
        assert rows_of(site.proxy_dsn, ALL) == rows_of(site.plain_dsn, ALL)
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO patients (id, ssn) VALUES (1000, 'secret-1000')")
            with pytest.raises(psycopg.errors.UndefinedColumn):
                conn.execute("SELECT phi_old_ssn FROM patients")
        assert rows_of(site.server.dsn(site.sealed), "SELECT phi_old_ssn FROM patients WHERE id = 1000") == [(None,)]
        out = site.cli("encrypt", "--finish")
        assert "dropped: the plain public.patients.ssn" in out
        assert f"VACUUM (FULL, ANALYZE) public.patients;  -- as {site.role}" in out
        assert "VACUUM (FULL) pg_catalog.pg_statistic, pg_catalog.pg_statistic_ext_data;  -- as " in out
        assert "phi_old_ssn" not in raw_columns(site)
        assert rows_of(site.proxy_dsn, ALL) == [*rows_of(site.plain_dsn, ALL), (1000, "secret-1000", None, None, None, "Graz")]
        site.cli("keys", "rotate", "--index", "public.patients.ssn")
        assert [row[:2] for row in rows_of(site.proxy_dsn, ALL)][-1] == (1000, "secret-1000"), "columns stay in their order"
        rest = site.cli("encrypt")
        assert "statements were held" in rest
        with psycopg.connect(site.plain_dsn, autocommit=True) as plain:
            plain.execute("INSERT INTO patients (id, ssn) VALUES (1000, 'secret-1000')")
        assert rows_of(site.proxy_dsn, ALL) == rows_of(site.plain_dsn, ALL)


PARTED = """\
CREATE TABLE patients (id int PRIMARY KEY, ssn text, born date, score numeric(6,2)) PARTITION BY RANGE (id);
CREATE TABLE few PARTITION OF patients FOR VALUES FROM (0) TO (100);
CREATE TABLE others PARTITION OF patients DEFAULT;
ALTER TABLE few ALTER ssn SET NOT NULL;
INSERT INTO patients SELECT n, nullif('secret-' || n, 'secret-200') FROM generate_series(1, {rows}) n;
"""


def test_a_partition_that_alone_is_not_null_stays_so(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """And the plain column that is kept beside, and filled no more, keeps nobody from writing."""
    with filled_site(postgres_server, tmp_path, ddl=PARTED, rows=200) as site:
        site.cli("encrypt", "public.patients.ssn", "--keep")
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO patients (id, ssn) VALUES (0, 'secret-0'), (1000, NULL)")
            with pytest.raises(psycopg.errors.NotNullViolation):
                conn.execute("UPDATE patients SET ssn = NULL WHERE id = 1")


OBSTACLES = """\
CREATE TABLE t (
    id int PRIMARY KEY, a text DEFAULT current_user, b text CHECK (b <> d), c text, d text, e text, f text,
    g int GENERATED BY DEFAULT AS IDENTITY
);
CREATE SEQUENCE s OWNED BY t.f;
CREATE INDEX i ON t (e, reverse(f));
CREATE INDEX ia ON t (id) WHERE a = 'x';
ALTER TABLE t ADD CONSTRAINT later UNIQUE (b) DEFERRABLE;
INSERT INTO t (id) VALUES (1);
"""


def test_what_keeps_it_from_being_done(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Each is named, with what to do, and nothing is changed."""
    names = "abcdef"
    policy = "database: {database}\ndeployment: o\ntables:\n  public.t:\n    columns:\n" + "".join(
        f"      {name}: {{type: text, indexes: [{name}], distinct: 1000000}}\n" for name in names
    )
    policy += "      g: {type: int4}\n"
    with filled_site(postgres_server, tmp_path, policy=policy, ddl=OBSTACLES) as site:
        with psycopg.connect(site.sealed_dsn, autocommit=True) as owner:
            owner.execute("ALTER TABLE t ALTER c TYPE varchar(9)")  # since it was registered: keys init would refuse it
        done = run_cli("encrypt", "--dry-run", "--json", "-c", str(site.config), env=site.env)
        assert done.returncode == 1
        told = " | ".join(json.loads(done.stdout)["obstacles"])
        for part in (
            "DEFAULT of public.t.a: the server would compute a default",
            "CHECK constraint t_check of public.t: a part of this constraint joins a protected column with others",
            "public.t.c is character varying(9), the policy says text",
            "identity of public.t.g: the server gives its values, which it cannot seal; ALTER TABLE public.t ALTER COLUMN g DROP",
            "sequence public.s of public.t.f: it would be dropped with the column that is replaced; ALTER SEQUENCE public.s OWNED",
            "index i of public.t cannot work on encrypted values: an index over public.t.f cannot answer this expression",
            "index ia of public.t cannot work on encrypted values: the predicate of an index may not name a protected column",
            "UNIQUE constraint later of public.t cannot work on encrypted values: it is DEFERRABLE",
        ):  # fmt: skip
            assert part in told
        columns = raw_columns(site, "t")
        refused = run_cli("encrypt", "-c", str(site.config), env=site.env)
        assert (refused.returncode, "nothing was changed" in refused.stderr) == (1, True)
        assert raw_columns(site, "t") == columns
        assert json.loads(site.cli("jobs", "--json")) == []


COLLATED = """\
CREATE COLLATION "of ""names" (provider = icu, locale = 'de');
CREATE TABLE t (
    id int PRIMARY KEY, c text COLLATE "C" UNIQUE, n varchar(20) COLLATE "of ""names" DEFAULT 'x', o text, k text COLLATE "C"
);
INSERT INTO t SELECT n, 'c' || n, 'n' || n, 'o' || n, 'k' || n FROM generate_series(1, {rows}) n;
"""


def test_a_collation_comes_back(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Also of a column that stays sealed while another one is decrypted; with an index over case there is none to be had."""
    line = "      {}: {{type: {}, indexes: [{}], distinct: 1000000}}\n"
    named = (("c", "text", "c"), ("n", "varchar(20)", "n"), ("o", "text", "o"), ("k", "text", "lower(k)"))
    columns = "".join(line.format(name, type_name, indexes) for name, type_name, indexes in named)
    policy = "database: {database}\ndeployment: o\ntables:\n  public.t:\n    columns:\n" + columns
    collations = (
        "SELECT attname::text, attcollation FROM pg_attribute"
        " WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    with filled_site(postgres_server, tmp_path, policy=policy, ddl=COLLATED, rows=40) as site:
        refused = run_cli("encrypt", "--dry-run", "-c", str(site.config), env=site.env)
        assert 'public.t.k has COLLATE pg_catalog."C", and an index over upper and lower case' in refused.stdout
        with psycopg.connect(site.sealed_dsn, autocommit=True) as owner:
            owner.execute('ALTER TABLE t ALTER k TYPE text COLLATE "default"')
        before = sorted(rows_of(site.sealed_dsn, collations))
        told = site.cli("encrypt", "--dry-run")
        assert 'public.t.c is ordered by the database\'s default collation from then on, and by COLLATE pg_catalog."C"' in told
        site.cli("encrypt", "public.t.n")
        site.cli("encrypt")
        site.cli("decrypt", "public.t.o", "--reorder")
        site.cli("decrypt", "public.t", "--reorder")
        assert sorted(rows_of(site.sealed_dsn, collations)) == before
        same_rows(site, ["SELECT id, c, n, o, k FROM t ORDER BY n"])


IMPORTED = """\
database: {database}
deployment: import-test
tables:
  public.x:
    columns:
      a: {type: text}
  public.patients:
    columns:
      ssn:  {type: text, indexes: [ssn], accept_leakage: test}
      born: {type: date}
      card: {type: text, indexes: [card], accept_leakage: test}
  public.members:
    columns:
      mrn:   {type: text, indexes: [mrn], accept_leakage: test}
      phone: {type: text}
      mail:  {type: text}
      score: {type: "numeric(6,2)"}
"""
THEIRS = """\
CREATE TABLE patients (id int PRIMARY KEY, ssn bytea, born bytea, card text);
CREATE TABLE members (mrn text PRIMARY KEY, phone bytea, mail text, score text);
"""
PGCRYPTO = json.loads((Path(__file__).parents[1] / "vectors" / "pgcrypto-v1.json").read_text())


def padded(mode: modes.ECB | modes.CBC, key: bytes, value: str) -> bytes:
    padder = PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(key), mode).encryptor()
    return cipher.update(padder.update(value.encode()) + padder.finalize()) + cipher.finalize()


def test_what_other_schemes_have_encrypted(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """pgcrypto in bytea, AES-ECB in base64, -CBC in hex, -GCM in bytea, and Fernet.

    Rows that are none of it are named by their keys, or by where they are if the key is to be protected too, and nothing else of
    them is shown.
    """
    other = "database: {database}\ndeployment: import-test\ntables:\n  public.x:\n    columns:\n      a: {type: text}\n"
    key, fernet = os.urandom(16), Fernet.generate_key()
    texts = {made["text"]: base64.b64decode(made["message"]) for made in PGCRYPTO["messages"]}
    numbers = range(1, 8)
    with filled_site(postgres_server, tmp_path, policy=other, ddl="CREATE TABLE x (id int PRIMARY KEY, a text);") as site:
        with postgres_server.connect(site.sealed) as owner:
            owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(site.role)))
            owner.execute(THEIRS.encode())
            for n in numbers:
                card = base64.b64encode(padded(modes.ECB(), key, f"{n:04}")).decode()
                row = n, texts[f"secret-{n}"], texts[f"1980-01-{n:02}"], card
                owner.execute("INSERT INTO patients VALUES (%s, %s, %s, %s)", row)
                iv, nonce = os.urandom(16), os.urandom(12)
                phone = nonce + AESGCM(key).encrypt(nonce, f"+43 {n}".encode(), None)
                mail = (iv + padded(modes.CBC(iv), key, f"{n}@example.org")).hex()
                member = f"secret-mrn-{n}", phone, mail, Fernet(fernet).encrypt(f"{n}.50".encode()).decode()
                owner.execute("INSERT INTO members VALUES (%s, %s, %s, %s)", member)
            wrong = base64.b64decode(PGCRYPTO["under another passphrase"])
            owner.execute("UPDATE patients SET ssn = %s WHERE id = 7", (wrong,))
            owner.execute("UPDATE members SET score = 'gAAA' WHERE mrn = 'secret-mrn-7'")
            ((place,),) = owner.execute("SELECT ctid::text FROM members WHERE mrn = 'secret-mrn-7'").fetchall()
        (tmp_path / "policy.yaml").write_text(IMPORTED.replace("{database}", site.sealed))
        of_another_type = ("patients.ssn", "patients.born", "members.phone", "members.score")
        site.cli("keys", "init", *(f"--clear=public.{name}" for name in of_another_type))
        site.proxy.terminate()
        site.proxy.start()
        env = {**site.env, "PASS": PGCRYPTO["passphrase"], "KEY": key.hex(), "FERNET": fernet.decode()}

        def imported(*arguments: str, check: bool = True) -> str:
            return run_cli(*arguments, "-c", str(site.config), env=env, check=check).stderr

        columns = ("public.patients.ssn", "public.patients.born")
        said = imported("encrypt", *columns, "--from", "pgcrypto:env:PASS", check=False)
        assert "1 rows could not be done" in said
        assert "public.patients, id 7: public.patients.ssn: it is no value of pgcrypto" in said
        said = imported("encrypt", "public.members.score", "--from", "fernet:env:FERNET", check=False)
        assert f"public.members, ctid {place}: public.members.score: it is no value of fernet" in said
        for table in ("event", "job", "job_progress"):
            kept = f"SELECT t::text FROM phiproxy.{table} t"
            assert not [row for row in rows_of(site.server.dsn(site.sealed), kept) if "secret-mrn" in str(row)], table
        assert "secret-mrn" not in said
        with postgres_server.connect(site.sealed) as owner:
            owner.execute("UPDATE patients SET ssn = %s WHERE id = 7", (texts["secret-7"],))
            owner.execute("UPDATE members SET score = NULL WHERE mrn = 'secret-mrn-7'")
        for job in ("1", "2"):
            imported("jobs", "resume", job)
        cards = ("--from", "aes-ecb:hexkey@env:KEY", "--layout", "none,base64", "--pattern", r"\d{4}")
        card = "UPDATE patients SET card = %s WHERE id = 5"
        for value in ("no card", "0005"):  # of a scheme that authenticates nothing it is the pattern that tells
            with postgres_server.connect(site.sealed) as owner:
                owner.execute(card, (base64.b64encode(padded(modes.ECB(), key, value)).decode(),))
            if value == "no card":
                said = imported("encrypt", "public.patients.card", *cards, check=False)
                assert "public.patients, id 5: public.patients.card: it does not match --pattern" in said
                assert value not in said
        imported("jobs", "resume", "3")
        imported("encrypt", "public.members.mail", "--from", "aes-cbc:hexkey@env:KEY", "--layout", "hex", "--pattern", ".*@.*")
        imported("encrypt", "public.members.phone", "--from", "aes-gcm:hexkey@env:KEY", "--layout", "raw")
        imported("encrypt", "public.members.mrn")
        found = rows_of(site.proxy_dsn, "SELECT * FROM patients ORDER BY id")
        assert found == [(n, f"secret-{n}", dt.date(1980, 1, n), f"{n:04}") for n in numbers]
        assert rows_of(site.proxy_dsn, "SELECT id FROM patients WHERE card = '0004' AND ssn = 'secret-4'") == [(4,)]
        members = sorted(rows_of(site.proxy_dsn, "SELECT mrn, phone, mail, score FROM members"))
        scores = [Decimal(f"{n}.50") for n in range(1, 7)] + [None]
        assert members == [(f"secret-mrn-{n}", f"+43 {n}", f"{n}@example.org", scores[n - 1]) for n in numbers]
