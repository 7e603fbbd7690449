"""psql says through the proxy, byte for byte, what it says directly."""

from __future__ import annotations

import difflib
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conformance.tools import Ground, program

START = """\
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS play CASCADE;
CREATE SCHEMA play;
RESET client_min_messages;
SET search_path = play;
"""
SCHEMA = """\
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE DOMAIN code AS varchar(12) CHECK (value <> '');
CREATE TABLE wards (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE beds (id serial PRIMARY KEY, ward int REFERENCES wards, label code, mood mood DEFAULT 'glad', taken tstzrange,
  price numeric(8, 2));
CREATE INDEX beds_label ON beds (lower(label)) WHERE mood = 'glad';
CREATE VIEW full_beds AS SELECT b.id, w.name, b.label FROM beds b JOIN wards w ON w.id = b.ward;
CREATE MATERIALIZED VIEW counted AS SELECT ward, count(*) FROM beds GROUP BY ward;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''stamped %'', NEW.id; RETURN NEW; END';
CREATE TRIGGER stamped BEFORE INSERT ON wards FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE SEQUENCE turns;
COMMENT ON TABLE beds IS 'where patients lie';
INSERT INTO wards VALUES (1, 'north'), (2, 'süd'), (3, NULL);
INSERT INTO wards VALUES (1, 'north'), (2, 'süd');
INSERT INTO beds (ward, label, price) SELECT 1 + n % 2, 'bed ' || n, n * 1.5 FROM generate_series(1, 50) n;
"""
DESCRIBE = r"""
\d
\d+
\d beds
\d+ beds
\d+ full_beds
\d+ counted
\d wards
\dt
\dt+ wards
\dt play.*
\di+
\ds
\dv
\dm
\df
\df+ twice
\dT+
\dD
\dn
\du
\dp
\dx
\ddp
\dRp
\db
\dO
\l template*
\sf twice
\sv full_beds
\d nothing_here
\dconfig work_mem
"""
STATEMENTS = r"""
SELECT id, label, price, mood FROM beds WHERE id < 5 ORDER BY id;
SELECT b.*, w.name AS "the ward" FROM beds b JOIN wards w ON w.id = b.ward \gdesc
SELECT 1 AS one, 'x'::varchar(3) AS v, NULL AS nothing, now() AS t, $$a'b$$ AS q \gdesc
\gdesc
SELECT w.name, b.mood, count(*) FROM beds b JOIN wards w ON w.id = b.ward GROUP BY 1, 2 ORDER BY 1, 2 \crosstabview
SELECT ward, id % 3 AS third, sum(price) FROM beds GROUP BY 1, 2 ORDER BY 1, 2 \crosstabview third ward
SELECT id, label FROM beds WHERE id = 7 \gx
SELECT 42 AS answer \gset
\echo :answer
SELECT 'SELECT ' || n || ' AS made' FROM generate_series(1, 3) n \gexec
SELECT 1 \; SELECT 2 \; SELECT 'three';
SELECT nothing FROM beds;
\errverbose
SELECT 1 / 0;
SELEC 1;
INSERT INTO beds (ward) VALUES (99);
BEGIN; SAVEPOINT s; SELECT 1 / 0; ROLLBACK TO s; SELECT 'alive'; COMMIT;
\set ON_ERROR_ROLLBACK on
BEGIN; SELECT 1 / 0; SELECT 'still alive'; COMMIT;
\set FETCH_COUNT 7
SELECT id, label FROM beds ORDER BY id;
\set FETCH_COUNT 0
EXPLAIN (COSTS OFF) SELECT * FROM full_beds WHERE id = 3;
LISTEN news;
NOTIFY news, 'a payload';
\pset format csv
SELECT * FROM full_beds ORDER BY id LIMIT 3;
\pset format unaligned
PREPARE p (int) AS SELECT label FROM beds WHERE id = $1;
EXECUTE p(3);
DEALLOCATE p;
DO $$ BEGIN RAISE WARNING 'with % detail', 1 USING DETAIL = 'the detail', HINT = 'the hint'; END $$;
SET client_encoding = LATIN1;
SELECT name FROM wards ORDER BY id;
RESET client_encoding;
SHOW server_version_num;
\encoding
\echo :LAST_ERROR_SQLSTATE :ROW_COUNT
"""
COPIES = r"""
\copy beds to 'beds.text'
\copy beds to 'beds.csv' csv header
\copy (SELECT id, label FROM beds WHERE id < 4 ORDER BY id) to stdout
\copy beds to 'beds.binary' binary
\copy beds to program 'cat > beds.program'
TRUNCATE beds;
\copy beds from 'beds.text'
SELECT count(*), sum(price) FROM beds;
TRUNCATE beds;
\copy beds from 'beds.csv' csv header
TRUNCATE beds;
\copy beds from 'beds.binary' binary
SELECT count(*), sum(price) FROM beds;
\copy wards from stdin
11	east
12	west
\.
\copy wards from stdin
13	too	many
\.
\copy wards from 'missing.file'
COPY wards TO STDOUT (FORMAT csv, HEADER);
COPY wards (id, name) FROM STDIN (FORMAT csv);
21,"one, two"
22,three
\.
SELECT * FROM wards ORDER BY id;
"""
# psql 15 cannot count: an error ends \watch. Its heading has the time of day, which "tuples only" leaves out.
WATCH = r"""
\t on
SELECT 'turn', 6 / (3 - nextval('turns')) \watch 0.1
SELECT 'after';
"""


def psql(database: Ground, port: int, script: str, cwd: Path) -> tuple[bytes, bytes, int]:
    done = database.run(port, "psql", "-X", "-a", "-P", "null=NULL", "-P", "pager=off", script=script, cwd=str(cwd))
    # the one thing that must differ: which backend it was
    return re.sub(rb"with PID \d+", b"with PID n", done.stdout), done.stderr, done.returncode


def both(database: Ground, tmp_path: Path, script: str) -> tuple[bytes, bytes]:
    """Run a script in a schema of its own, which is dropped and made again, each way; returns what psql said."""
    said, files = [], []
    for number, port in enumerate(database.ports):
        room = tmp_path / str(number)
        room.mkdir()
        said.append(psql(database, port, START + script, room))
        files.append({path.name: path.read_bytes() for path in room.iterdir()})
    assert said[1] == said[0], _difference(*said)
    assert files[1] == files[0]
    return said[0][:2]


def _difference(direct: tuple[bytes, bytes, int], proxied: tuple[bytes, bytes, int]) -> str:
    one, other = (b"".join(said[:2]).decode("utf-8", "replace").splitlines() for said in (direct, proxied))
    return "\n".join(difflib.unified_diff(one, other, "directly", "through the proxy", lineterm="", n=1))


def test_describing(database: Ground, tmp_path: Path) -> None:
    out, _ = both(database, tmp_path, SCHEMA + DESCRIBE)
    assert out.count(b"beds_pkey") >= 3
    assert out.count(b"where patients lie") >= 2


def test_statements(database: Ground, tmp_path: Path) -> None:
    out, err = both(database, tmp_path, SCHEMA + STATEMENTS)
    assert b"still alive" in out
    assert b"stamped 2" in err
    assert err.count(b"ERROR:") == 8


def test_copy(database: Ground, tmp_path: Path) -> None:
    out, err = both(database, tmp_path, SCHEMA + COPIES)
    assert b"one, two" in out
    assert err.count(b"ERROR:") == 2
    assert len((tmp_path / "1" / "beds.csv").read_text().splitlines()) == 51


def test_watch(database: Ground, tmp_path: Path) -> None:
    out, err = both(database, tmp_path, SCHEMA + WATCH)
    assert out.count(b" turn ") == 2
    assert b"division by zero" in err


class Terminal:
    """psql at a terminal, where Ctrl-C does not end it."""

    def __init__(self, database: Ground, port: int) -> None:
        self._master, slave = pty.openpty()
        command = [
            program(database.server, "psql"),
            "-X",
            "-n",
            "-q",
            "-P",
            "pager=off",
            "-v",
            "PROMPT1=",
            "-v",
            "VERBOSITY=verbose",
        ]
        environment = database.environment(port, TERM="dumb")
        self._process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
        os.close(slave)
        self.said = b""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def wait_for(self, text: bytes) -> None:
        while text not in self.said:
            try:
                self.said += os.read(self._master, 4096)
            except OSError:  # the terminal's other end is closed
                break
        assert text in self.said

    def close(self) -> int:
        self.type("\\q\n")
        try:
            return self._process.wait(120)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._master)


def session_with_cancels(database: Ground, port: int) -> bytes:
    terminal = Terminal(database, port)
    for number in range(2):
        terminal.type(f"SELECT 'ready', {number + 1} + {number};\nSELECT pg_sleep(60);\n")
        terminal.wait_for(f"ready    |        {2 * number + 1}".encode())
        _wait_until_asleep(database)
        terminal.interrupt()
        terminal.wait_for(b"57014" if number == 0 else terminal.said + b"")
    terminal.type("SELECT 6 * 7 AS after;\n")
    terminal.wait_for(b"42")
    assert terminal.close() == 0
    return terminal.said


def _wait_until_asleep(database: Ground) -> None:
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND query LIKE 'SELECT pg_sleep%%' AND wait_event = 'PgSleep'"
    end = time.monotonic() + 120
    with database.server.connect() as conn:
        while not conn.execute(query.encode(), (database.database,)).fetchone():
            assert time.monotonic() < end, "psql does not sleep"
            time.sleep(0.02)


@pytest.mark.timeout(600)
def test_ctrl_c(database: Ground) -> None:
    direct, proxied = (session_with_cancels(database, port) for port in database.ports)
    assert direct.count(b"57014") == proxied.count(b"57014") == 2
    assert b"canceling statement due to user request" in proxied
