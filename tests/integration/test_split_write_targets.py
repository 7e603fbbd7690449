"""Split writes to partitioned tables, to tables with triggers and to views: what PostgreSQL does with the whole, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.harness import results
from tests.harness.clinic import DDL, POLICY, watched_clinic
from tests.harness.differential import Differential, Protocol
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

TARGETS_POLICY = """\
  public.stays:
    columns:
      note: {type: text, indexes: [note], distinct: 1000000}
      code: {type: varchar(8), indexes: [code], distinct: 1000000}
  public.watched:
    columns:
      note: {type: text}
  public.changed:
    columns:
      note: {type: text}
"""
TARGETS_DDL = """\
CREATE TABLE stays (id int, ward int, note text, code varchar(8), count int DEFAULT 0, PRIMARY KEY (id, ward))
  PARTITION BY LIST (ward);
CREATE TABLE stays_1 PARTITION OF stays FOR VALUES IN (1);
CREATE TABLE stays_2 (note text, count int, id int NOT NULL, code varchar(8), ward int NOT NULL);
ALTER TABLE stays ATTACH PARTITION stays_2 FOR VALUES IN (2);
CREATE TABLE stays_rest PARTITION OF stays DEFAULT PARTITION BY RANGE (id);
CREATE TABLE stays_low PARTITION OF stays_rest FOR VALUES FROM (0) TO (1000);
CREATE TABLE watched (id int PRIMARY KEY, note text, city text, version int DEFAULT 1);
CREATE TABLE events (id serial PRIMARY KEY, what text, number int);
CREATE TABLE changed (id int PRIMARY KEY, note text, city text);
CREATE FUNCTION count_version() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.version := OLD.version + 1; RETURN NEW; END $$;
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO events (what, number) VALUES (TG_OP, NEW.id); RETURN NULL; END $$;
CREATE FUNCTION tell_once() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO events (what) VALUES (TG_OP || ' of all'); RETURN NULL; END $$;
CREATE FUNCTION keep_small() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN IF NEW.id > 500 THEN RETURN NULL; END IF; IF NEW.id = 300 THEN NEW.id := 1; END IF; NEW.city := 'of a trigger';
    RETURN NEW; END $$;
CREATE FUNCTION before_all() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN IF pg_trigger_depth() = 1 THEN UPDATE watched SET city = 'c' WHERE city = 'changed before'; END IF; RETURN NULL; END $$;
CREATE TRIGGER a BEFORE UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION count_version();
CREATE TRIGGER b AFTER INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TRIGGER c AFTER INSERT OR UPDATE OR DELETE ON watched FOR EACH STATEMENT EXECUTE FUNCTION tell_once();
CREATE TRIGGER d BEFORE INSERT ON changed FOR EACH ROW EXECUTE FUNCTION keep_small();
CREATE TRIGGER e BEFORE INSERT OR UPDATE ON watched FOR EACH STATEMENT EXECUTE FUNCTION before_all();
"""
VIEWS_DDL = """\
CREATE VIEW springfield AS
  SELECT city, ssn AS social, id AS number, notes FROM patients WHERE city = 'Springfield' WITH CHECK OPTION;
CREATE VIEW wards AS SELECT ward, id, note FROM stays WHERE ward < 9;
CREATE VIEW north AS SELECT notes AS remarks, number AS n, social FROM springfield WHERE number < 3;
CREATE VIEW noted AS SELECT note, city FROM watched;
CREATE VIEW everyone AS SELECT notes AS remarks, id AS number, ssn AS social, city, upper(city) AS shown FROM patients;
CREATE VIEW everyone_again AS SELECT social, number AS n, remarks FROM everyone;
CREATE VIEW rooms AS SELECT note, ward, id FROM stays;
CREATE VIEW seen AS SELECT id, note AS remark, city FROM watched;
CREATE VIEW altered AS SELECT id, note, city FROM changed;
CREATE VIEW shown_twice AS SELECT id, ward, note AS a, note AS b FROM stays;
CREATE VIEW nearby AS SELECT city, number, remarks AS notes FROM everyone WHERE city = 'Springfield';
"""
STATE = (
    "SELECT tableoid::regclass::text, id, ward, note, code, count FROM stays ORDER BY id, ward;"
    " SELECT * FROM watched ORDER BY id; SELECT what, number FROM events ORDER BY id; SELECT * FROM changed ORDER BY id;"
    " SELECT id, ssn, full_name, notes, city FROM patients ORDER BY id"
)


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    policy, ddl = POLICY + TARGETS_POLICY, DDL + TARGETS_DDL
    settings = "compute: {engine: embedded}\n"
    with open_site(postgres_server, tmp_path_factory.mktemp("targets"), policy=policy, ddl=ddl, settings=settings) as found:
        for dsn in (found.plain_dsn, found.proxy_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                for view in VIEWS_DDL.split(";")[:-1]:
                    conn.execute(view.encode())
        yield found


@pytest.fixture
def both(site: Site) -> Iterator[Differential]:
    with watched_clinic(site, of_many=True) as clinic, Differential(clinic) as differential:
        clinic.seed()
        differential.run(
            "INSERT INTO stays (id, ward, note, code) VALUES (1, 1, 'one', 'a'), (2, 2, 'two', 'b'), (3, 9, 'nine', 'c')"
        )
        differential.run("INSERT INTO watched (id, note) VALUES (1, 'one'), (2, 'two')")
        differential.run("INSERT INTO changed (id, note) VALUES (1, 'one')")
        yield differential
        for database in (site.plain, site.sealed):
            with site.server.connect(database) as conn:
                conn.execute("TRUNCATE stays, watched, events, changed")


def _is_the_same(both: Differential, statements: dict[str, str], name: str) -> None:
    ways: list[tuple[Protocol, int, bool]] = [("simple", 0, False), ("extended", 0, False), ("extended", 1, True)]
    for protocol, form, named in ways:
        both.run("BEGIN")
        outcome = both.run(statements[name], protocol=protocol, result_format=form, named=named, ordered=False)
        assert outcome.status in ("TUPLES_OK", "COMMAND_OK"), outcome.message
        both.run(STATE, protocol="simple")
        both.run("ROLLBACK")


UPSERTS = {
    "of partitions": "INSERT INTO stays AS s (id, ward, note) VALUES (1, 1, 'x'), (2, 2, 'y'), (3, 9, 'z'), (4, 2, 'new')"
    " ON CONFLICT (id, ward) DO UPDATE SET note = s.note || EXCLUDED.note, count = s.count + 1 RETURNING id, ward, note",
    "of partitions, by a condition": "INSERT INTO stays AS s (id, ward, note) VALUES (2, 2, 'y'), (3, 9, 'z')"
    " ON CONFLICT (id, ward) DO UPDATE SET code = upper(s.code) WHERE s.note LIKE 't%' RETURNING *",
    "with triggers": "INSERT INTO watched AS w (id, note) VALUES (1, '!'), (3, 'three') ON CONFLICT (id) DO UPDATE"
    " SET note = w.note || EXCLUDED.note RETURNING *",
    "with triggers, computed": "INSERT INTO watched AS w (id, note, city) VALUES (2, 'x', 'c') ON CONFLICT (id) DO UPDATE"
    " SET note = upper(w.note), city = EXCLUDED.city RETURNING id, reverse(note), version",
}


@pytest.mark.parametrize("name", UPSERTS)
def test_upserts(both: Differential, name: str) -> None:
    _is_the_same(both, UPSERTS, name)


POLICIES = {
    "one": ("CREATE POLICY a ON watched USING (city IS DISTINCT FROM 'hidden')",),
    "of each command": (
        "CREATE POLICY a ON watched FOR SELECT USING (true)",
        "CREATE POLICY b ON watched FOR INSERT WITH CHECK (true)",
        "CREATE POLICY c ON watched FOR UPDATE USING (city IS DISTINCT FROM 'hidden') WITH CHECK (true)",
    ),
}
SECURED = {
    "one row": "INSERT INTO watched AS w (id, note) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET note = w.note || EXCLUDED.note"
    " RETURNING reverse(note), version",
    "several": "INSERT INTO watched AS w (id, note) VALUES (1, 'x'), (3, 'y') ON CONFLICT (id) DO UPDATE"
    " SET note = w.note || EXCLUDED.note WHERE w.note > '' RETURNING id, upper(note)",
    "of a query": "INSERT INTO watched AS w (id, note) SELECT id, upper(note) FROM changed ON CONFLICT (id) DO UPDATE"
    " SET note = w.note || EXCLUDED.note",
}
ALL_COMMANDS = {
    "deleted": "DELETE FROM watched WHERE note ILIKE '%T%' RETURNING id, upper(note)",
    "merged": "MERGE INTO watched w USING (VALUES (1, '!'), (7, 'seven')) v (id, note) ON w.id = v.id"
    " WHEN MATCHED THEN UPDATE SET note = w.note || v.note WHEN NOT MATCHED THEN INSERT (id, note) VALUES (v.id, upper(v.note))",
    "merged and deleted": "MERGE INTO watched w USING changed c ON c.note = w.note WHEN MATCHED THEN DELETE",
}


@pytest.fixture
def secured(both: Differential, request: pytest.FixtureRequest) -> Iterator[Differential]:
    """Row-level security over ``watched``, of which row 2 may not be changed."""
    both.run("UPDATE watched SET city = 'hidden' WHERE id = 2")
    for statement in ("ALTER TABLE watched ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", *POLICIES[request.param]):
        both.run(statement)
    yield both
    for policy in "abc":
        both.run(f"DROP POLICY IF EXISTS {policy} ON watched")
    both.run("ALTER TABLE watched DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
    both.run(STATE, protocol="simple")


@pytest.mark.parametrize("secured", POLICIES, indirect=True)
def test_upserts_under_row_security(secured: Differential) -> None:
    """A row that is there is changed where it may be; where a policy forbids that of one of them, the statement fails."""
    for name in SECURED:
        _is_the_same(secured, SECURED, name)
    for text in (SECURED["one row"].replace("(1,", "(2,"), SECURED["several"].replace("(3,", "(2,")):
        assert secured.run(text).sqlstate == "42501"
    secured.run("INSERT INTO changed (id, note) VALUES (2, 'two')")
    assert secured.run(SECURED["of a query"]).sqlstate == "42501"


@pytest.mark.parametrize("secured", POLICIES, indirect=True)
def test_rows_that_are_seen_and_may_not_be_locked(secured: Differential, request: pytest.FixtureRequest) -> None:
    """What deletes, or merges, needs a lock of each row that is seen: which policies FOR ALL allow."""
    for name, text in ALL_COMMANDS.items():
        if "of each command" in request.node.name:
            assert "FOR ALL" in secured.refused(text).hint
        else:
            _is_the_same(secured, ALL_COMMANDS, name)
    merged = ALL_COMMANDS["merged"].replace("(1, '!')", "(2, '!')")
    if "of each command" not in request.node.name:
        assert secured.run(merged).sqlstate == "23505", "a row that is not seen is not matched"


def test_a_policy_of_a_command_in_the_transaction_that_makes_it(both: Differential) -> None:
    both.run("BEGIN", protocol="simple")
    both.run("ALTER TABLE watched ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    both.run("CREATE POLICY a ON watched USING (true)")
    both.run("SAVEPOINT s")
    both.run(ALL_COMMANDS["deleted"], ordered=False)
    both.run("ROLLBACK TO s")
    both.run("CREATE POLICY b ON watched FOR DELETE USING (id < 2)")
    assert "FOR ALL" in results.simple(both.proxied, ALL_COMMANDS["deleted"])[-1].hint
    both.run("ROLLBACK", protocol="simple")


BEFORE = {
    "changed": "INSERT INTO changed AS c (id, note) VALUES (1, 'x'), (2, 'two') ON CONFLICT (id) DO UPDATE"
    " SET note = c.note || '!', city = EXCLUDED.city RETURNING id, upper(note), city",
    "of a query": "INSERT INTO changed AS c (id, note) SELECT id, upper(note) FROM watched ON CONFLICT (id) DO UPDATE"
    " SET note = reverse(c.note) RETURNING id, note, city",
    "a trigger of the statement": "INSERT INTO watched AS w (id, note, version) VALUES (1, '!', 5), (3, 'three', 5)"
    " ON CONFLICT (id) DO UPDATE SET note = w.note || EXCLUDED.note RETURNING *",
}


@pytest.mark.parametrize("name", BEFORE)
def test_an_upsert_with_triggers_before(both: Differential, name: str) -> None:
    _is_the_same(both, BEFORE, name)


def test_an_upsert_that_a_trigger_before_may_change(both: Differential) -> None:
    """What is computed of EXCLUDED is refused, and what is dropped, or has another key, is told from nothing that others insert."""
    upsert = "INSERT INTO changed AS c (id, note) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET note = c.note || {}"
    for text in (upsert.format("EXCLUDED.note"), upsert.format("'!' WHERE c.note > ''")):
        assert "place of EXCLUDED" in both.refused(text).hint
    for row in ("600", "300"):
        text = upsert.format("'!'").replace("(1,", f"({row},")
        assert results.simple(both.proxied, text)[-1].sqlstate == "40001"
    assert both.run(upsert.format("'!'").replace("(1,", "(2,")).count == 1
    both.run(STATE, protocol="simple")


def test_rows_that_a_trigger_may_change_are_not_noted(both: Differential) -> None:
    changed = "WITH x AS (UPDATE watched SET note = note RETURNING id, note) INSERT INTO changed SELECT id + 1, note || 1 FROM x"
    before = "WITH x AS (DELETE FROM stays RETURNING id, note) INSERT INTO watched SELECT id + 10, upper(note) FROM x"
    both.refused(changed)
    both.refused(before)
    both.refused(changed.replace("watched SET note = note RETURNING id, note", "seen SET city = city RETURNING id, remark AS note"))


def test_what_a_view_computes_is_not_known_when_it_is_returned(both: Differential) -> None:
    update = "WITH x AS (UPDATE everyone SET city = 'c' RETURNING number, shown, remarks) INSERT INTO changed (id, note)"
    both.refused(f"{update} SELECT 70 + number, remarks || shown FROM x")
    update = "WITH x AS (UPDATE shown_twice SET a = a || '!' RETURNING *) INSERT INTO changed (id, note) SELECT 70 + id"
    both.refused(f"{update}, b || b FROM x")
    assert both.run(f"{update}, a || a FROM x").count == 3
    both.run(STATE, protocol="simple")


def test_what_a_trigger_of_the_statement_changes_is_not_changed_twice(both: Differential) -> None:
    both.run("UPDATE watched SET city = 'changed before' WHERE id = 1")
    assert both.run(BEFORE["a trigger of the statement"]).sqlstate == "21000"
    both.run(STATE, protocol="simple")


PARTITIONED = {
    "moved to another partition": "UPDATE stays SET ward = 1, note = upper(note) WHERE note ILIKE '%TWO%' RETURNING id, ward, note",
    "deleted": "DELETE FROM stays WHERE note > 'o' RETURNING id, upper(note)",
    "merged": "MERGE INTO stays s USING (VALUES (1, 1, '!'), (7, 2, 'seven')) v (id, ward, note) ON s.id = v.id AND s.ward = v.ward"
    " WHEN MATCHED THEN UPDATE SET note = s.note || v.note WHEN NOT MATCHED THEN INSERT (id, ward, note)"
    " VALUES (v.id, v.ward, upper(v.note))",
    "moved to another partition, and noted": "WITH x AS (UPDATE stays SET ward = 1, note = note || '!' WHERE note ILIKE '%TWO%'"
    " RETURNING id, ward, note, code) INSERT INTO patients (id, notes, city)"
    " SELECT 900 + id, upper(note) || code, ward::text FROM x",
    "deleted, and kept where a trigger drops some": "WITH x AS (DELETE FROM stays WHERE note > 'o' RETURNING *)"
    " INSERT INTO changed (id, note) SELECT 400 + 100 * ward, concat(note, code) FROM x RETURNING id, upper(note), city",
}


@pytest.mark.parametrize("name", PARTITIONED)
def test_partitions(both: Differential, name: str) -> None:
    _is_the_same(both, PARTITIONED, name)


VIEWS = {
    "changed": "UPDATE springfield SET social = social || '!', notes = 'seen' WHERE number > 0 RETURNING number, social",
    "its key changed": "UPDATE wards w SET id = id + 100, note = upper(w.note) WHERE w.note ILIKE '%o%' RETURNING *",
    "chosen by another table": "UPDATE wards w SET note = w.note || p.notes FROM patients p WHERE p.id = w.id AND w.note LIKE '%o%'"
    " RETURNING ward, w.id, upper(note)",
    "deleted": "DELETE FROM wards WHERE note ILIKE 'T%' RETURNING id, note",
    "over a view": "UPDATE north SET remarks = remarks || social WHERE social NOT ILIKE 'nobody%' RETURNING n, upper(remarks)",
    "over a view, deleted": "DELETE FROM north WHERE remarks ILIKE 'nobody%' RETURNING n, lower(social)",
    "in with": "WITH w AS (UPDATE wards SET note = upper(note) RETURNING id, note), s AS (DELETE FROM wards WHERE note = 'nobody')"
    " SELECT id, note FROM w",
    "what it has made, noted": "WITH x AS (UPDATE everyone SET remarks = remarks || '!', city = 'c' RETURNING *)"
    " INSERT INTO changed (id, note, city) SELECT 70 + number, reverse(remarks), shown FROM x RETURNING id, upper(note), city",
    "moved to a view": "WITH x AS (DELETE FROM wards WHERE note ILIKE '%o%' RETURNING *) INSERT INTO nearby (number, notes, city)"
    " SELECT 70 + id, note || ward, 'Springfield' FROM x RETURNING *",
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(both: Differential, name: str) -> None:
    both.run("UPDATE patients SET city = 'Springfield', notes = 'note' WHERE id < 3")
    _is_the_same(both, VIEWS, name)


VIEW_UPSERTS = {
    "of rows that are there or not": "INSERT INTO everyone AS e (number, remarks) VALUES (1, 'more'), (900, 'new')"
    " ON CONFLICT (number) DO UPDATE SET remarks = e.remarks || EXCLUDED.remarks RETURNING number, remarks",
    "returning computed": "INSERT INTO everyone AS e (number, remarks, city) VALUES (1, upper('more'), 'x') ON CONFLICT (number)"
    " DO UPDATE SET remarks = e.remarks || EXCLUDED.remarks, city = EXCLUDED.city RETURNING number, upper(remarks), shown",
    "by a condition": "INSERT INTO everyone AS e (number, remarks) VALUES (1, 'more'), (2, 'yes'), (901, 'new')"
    " ON CONFLICT (number) DO UPDATE SET remarks = 'changed' WHERE e.remarks || EXCLUDED.remarks LIKE '%yes' RETURNING *",
    "over a view": "INSERT INTO everyone_again AS e (n, social) VALUES (2, 'none'), (902, 'own')"
    " ON CONFLICT (n) DO UPDATE SET social = upper(e.social) || EXCLUDED.social, remarks = e.remarks || '!' RETURNING *",
    "with a key of two columns": "INSERT INTO rooms AS r (id, ward, note) VALUES (2, 2, 'a'), (7, 2, 'b'), (1, 1, NULL)"
    " ON CONFLICT (id, ward) DO UPDATE SET note = r.note || EXCLUDED.note RETURNING id, ward, note",
    "of its key": "INSERT INTO rooms AS r (id, ward, note) VALUES (2, 2, 'a') ON CONFLICT (id, ward)"
    " DO UPDATE SET note = reverse(r.note), id = 50 RETURNING id, ward, note",
    "with triggers": "INSERT INTO seen AS s (id, remark) VALUES (1, '!'), (9, 'nine') ON CONFLICT (id)"
    " DO UPDATE SET remark = s.remark || EXCLUDED.remark RETURNING id, remark",
    "with a trigger before": "INSERT INTO altered AS c (id, note) VALUES (1, 'x') ON CONFLICT (id)"
    " DO UPDATE SET note = c.note || '!', city = 'of the client' RETURNING id, note, city",
    "of some rows": "INSERT INTO springfield AS s (number, notes, city) VALUES (1, 'x', 'Springfield') ON CONFLICT (number)"
    " DO UPDATE SET notes = s.notes || EXCLUDED.notes RETURNING number, notes",
    "of some rows, not there": "INSERT INTO nearby AS s (number, notes, city) VALUES (55, 'x', 'Springfield') ON CONFLICT (number)"
    " DO UPDATE SET notes = s.notes || EXCLUDED.notes RETURNING number, notes",
    "of a query": "INSERT INTO everyone AS e (number, remarks) SELECT id, upper(note) FROM stays"
    " ON CONFLICT (number) DO UPDATE SET remarks = e.remarks || EXCLUDED.remarks RETURNING number, remarks",
    "of a query with given values": "INSERT INTO rooms AS r (id, ward, note) SELECT q.n, q.w, initcap(q.t)"
    " FROM (VALUES (1, 1, 'one'), (70, 2, 'two')) AS q (n, w, t)"
    " ON CONFLICT (id, ward) DO UPDATE SET note = r.note || EXCLUDED.note",
    "to NULL": "INSERT INTO everyone AS e (number, remarks) VALUES (1, NULL) ON CONFLICT (number)"
    " DO UPDATE SET remarks = e.remarks || EXCLUDED.remarks RETURNING number, remarks",
}


@pytest.mark.parametrize("name", VIEW_UPSERTS)
def test_upserts_into_views(both: Differential, name: str) -> None:
    both.run("UPDATE patients SET city = 'Springfield', notes = 'note' WHERE id < 3")
    _is_the_same(both, VIEW_UPSERTS, name)


FAILING_VIEW_UPSERTS = {
    "one row twice": (
        "INSERT INTO everyone AS e (number, remarks) VALUES (1, 'a'), (1, 'b') ON CONFLICT (number)"
        " DO UPDATE SET remarks = e.remarks || EXCLUDED.remarks",
        "21000",
    ),
    "a check option": (
        "INSERT INTO springfield AS s (number, notes, city) VALUES (1, 'x', 'Springfield') ON CONFLICT (number)"
        " DO UPDATE SET notes = s.notes || EXCLUDED.notes, city = 'Shelbyville'",
        "44000",
    ),
    "a check option, inserted": (
        "INSERT INTO springfield AS s (number, notes, city) VALUES (903, 'x', 'Shelbyville') ON CONFLICT (number)"
        " DO UPDATE SET notes = s.notes || EXCLUDED.notes",
        "44000",
    ),
    "no such index": (
        "INSERT INTO everyone AS e (number, remarks, city) VALUES (1, 'a', 'b') ON CONFLICT (city)"
        " DO UPDATE SET remarks = e.remarks || EXCLUDED.remarks",
        "42P10",
    ),
    "what is computed": (
        "INSERT INTO everyone AS e (number, remarks) VALUES (1, 'a') ON CONFLICT (number)"
        " DO UPDATE SET remarks = (e.number / 0)::text || e.remarks",
        "22012",
    ),
    "a column that is no column": (
        "INSERT INTO everyone AS e (number, remarks) VALUES (1, 'a') ON CONFLICT (number)"
        " DO UPDATE SET remarks = e.remarks || 'x', shown = 'x'",
        "0A000",
    ),
    "a key that is there": (
        "INSERT INTO everyone AS e (number, remarks) VALUES (1, 'a') ON CONFLICT (number)"
        " DO UPDATE SET remarks = e.remarks || 'x', number = 2",
        "23505",
    ),
}


@pytest.mark.parametrize("name", FAILING_VIEW_UPSERTS)
def test_upserts_into_views_that_fail(both: Differential, name: str) -> None:
    both.run("UPDATE patients SET city = 'Springfield', notes = 'note' WHERE id < 3")
    statement, sqlstate = FAILING_VIEW_UPSERTS[name]
    assert both.run(statement).sqlstate == sqlstate
    both.run(STATE, protocol="simple")


def test_upserts_into_views_that_may_not_show_the_row(both: Differential) -> None:
    """PostgreSQL updates the row that the view does not show, or says that it does not, as its newer minor releases do."""
    both.run("UPDATE patients SET city = 'Springfield' WHERE id = 1")
    both.run("UPDATE patients SET city = 'Shelbyville' WHERE id = 2")
    upsert = (
        "INSERT INTO nearby AS s (number, notes, city) VALUES {} ON CONFLICT (number)"
        " DO UPDATE SET notes = s.notes || EXCLUDED.notes"
    )
    with psycopg.connect(both.clinic.plain_dsn) as plain:
        try:
            plain.execute(upsert.format("(2, 'x', 'Springfield')").encode())
            tells = False
        except psycopg.errors.ObjectNotInPrerequisiteState:
            tells = True
        plain.rollback()
    if tells:
        assert both.run(upsert.format("(2, 'x', 'Springfield')")).sqlstate == "55000"
    else:
        both.refused(upsert.format("(2, 'x', 'Springfield')"), hint="a view or row-level security hides the row")
    both.refused(upsert.format("(1, 'x', 'Springfield'), (55, 'x', 'Springfield')"), hint="one by one")
    assert both.run(upsert.format("(1, 'x', 'Springfield')")).count == 1
    both.run(STATE, protocol="simple")


VIEW_MERGES = {
    "matched or not": "MERGE INTO everyone e USING (VALUES (1, '!'), (904, 'new')) v (n, t) ON e.number = v.n"
    " WHEN MATCHED AND e.remarks ILIKE 'N%' THEN UPDATE SET remarks = e.remarks || v.t, city = 'x'"
    " WHEN NOT MATCHED THEN INSERT (number, remarks) VALUES (v.n, upper(v.t))",
    "deleted": "MERGE INTO rooms r USING watched w ON w.id = r.id WHEN MATCHED AND r.note || w.note LIKE 't%' THEN DELETE"
    " WHEN MATCHED THEN UPDATE SET note = upper(r.note) || w.note",
    "returning": "MERGE INTO everyone_again e USING (VALUES (1, '!'), (905, 'new')) v (n, t) ON e.n = v.n"
    " WHEN MATCHED THEN UPDATE SET remarks = e.remarks || v.t WHEN NOT MATCHED THEN INSERT (n, remarks) VALUES (v.n, upper(v.t))"
    " RETURNING merge_action(), e.n, upper(e.remarks)",
    "of some rows": "MERGE INTO springfield s USING (VALUES (1, '!'), (2, '?')) v (n, t) ON s.number = v.n"
    " WHEN MATCHED THEN UPDATE SET notes = s.notes || v.t",
    "not matched by the source": "MERGE INTO rooms r USING watched w ON w.id = r.id AND w.note = r.note"
    " WHEN NOT MATCHED BY SOURCE AND r.note ILIKE 'N%' THEN UPDATE SET note = r.note || '!'",
}


@pytest.mark.parametrize("name", VIEW_MERGES)
def test_merges_into_views(both: Differential, name: str) -> None:
    if both.plain.server_version < 170_000:
        pytest.skip("no MERGE into views")
    both.run("UPDATE patients SET city = 'Springfield', notes = 'note' WHERE id < 3")
    both.run("UPDATE patients SET city = 'Shelbyville' WHERE id = 2")
    _is_the_same(both, VIEW_MERGES, name)


FAILING_VIEW_MERGES = {
    "a row that the view does not show": (
        "MERGE INTO springfield s USING (VALUES (1, '!'), (2, '?')) v (n, t) ON s.number = v.n"
        " WHEN MATCHED THEN UPDATE SET notes = s.notes || v.t"
        " WHEN NOT MATCHED THEN INSERT (number, notes, city) VALUES (v.n, upper(v.t), 'Springfield')",
        "23505",
    ),
    "a check option": (
        "MERGE INTO springfield s USING (VALUES (1, '!')) v (n, t) ON s.number = v.n"
        " WHEN MATCHED THEN UPDATE SET notes = s.notes || v.t, city = 'Shelbyville'",
        "44000",
    ),
    "one row twice": (
        "MERGE INTO everyone e USING (VALUES (1, '!'), (1, '?')) v (n, t) ON e.number = v.n"
        " WHEN MATCHED THEN UPDATE SET remarks = e.remarks || v.t",
        "21000",
    ),
}


@pytest.mark.parametrize("name", FAILING_VIEW_MERGES)
def test_merges_into_views_that_fail(both: Differential, name: str) -> None:
    if both.plain.server_version < 170_000:
        pytest.skip("no MERGE into views")
    both.run("UPDATE patients SET city = 'Springfield', notes = 'note' WHERE id = 1")
    both.run("UPDATE patients SET city = 'Shelbyville' WHERE id = 2")
    statement, sqlstate = FAILING_VIEW_MERGES[name]
    assert both.run(statement).sqlstate == sqlstate
    both.run(STATE, protocol="simple")


def test_a_view_s_condition_holds(both: Differential) -> None:
    both.run("UPDATE patients SET city = 'Springfield' WHERE id < 3")
    assert both.run("UPDATE springfield SET social = social || '!', city = 'Shelbyville'").sqlstate == "44000"
    both.run(STATE, protocol="simple")


def test_a_view_without_the_key_is_refused(both: Differential) -> None:
    assert "primary key" in both.refused("UPDATE noted SET note = note || '!'").hint


AT_A_CURSOR = {
    "returning computed": "UPDATE patients SET ssn = 'new' WHERE CURRENT OF c RETURNING id, upper(ssn), reverse(full_name)",
    "the same for every row": "UPDATE patients SET notes = initcap('by ') || current_user WHERE CURRENT OF c RETURNING id, notes",
    "deleted, returning computed": "DELETE FROM patients WHERE CURRENT OF c RETURNING id, upper(ssn)",
}


@pytest.mark.parametrize("name", AT_A_CURSOR)
def test_at_a_cursor(both: Differential, name: str) -> None:
    both.run("DELETE FROM visits")
    ways: list[Protocol] = ["simple", "extended"]
    for protocol in ways:
        both.run("BEGIN")
        both.run("DECLARE c CURSOR FOR SELECT id FROM patients ORDER BY id FOR UPDATE", protocol="simple")
        both.run("FETCH 2 c")
        outcome = both.run(AT_A_CURSOR[name], protocol=protocol)
        assert outcome.count == 1, outcome.message
        both.run(STATE, protocol="simple")
        both.run("ROLLBACK")


def test_a_value_of_the_row_at_a_cursor_is_refused(both: Differential) -> None:
    assert "primary key" in both.refused("UPDATE patients SET notes = notes || 'x' WHERE CURRENT OF c").hint


CLIENTS, TIMES = 8, 5
FIRST_STAYS = (
    "WITH a AS (UPDATE stays SET note = note || %(mark)s WHERE id = 1 RETURNING id),"
    " b AS (UPDATE watched SET note = note || %(mark)s WHERE id = 1 RETURNING id) SELECT count(*) FROM a, b"
)
FIRST_WATCHED = (
    "WITH b AS (UPDATE watched SET note = note || %(mark)s WHERE id = 1 RETURNING id),"
    " a AS (UPDATE stays SET note = note || %(mark)s WHERE id = 1 RETURNING id) SELECT count(*) FROM a, b"
)
APPENDING = {
    "a view": ("UPDATE wards SET note = note || %(mark)s WHERE id = 1",),
    "a row of a view that all are about to insert": (
        "INSERT INTO rooms AS r (id, ward, note) VALUES (900, 2, %(mark)s) ON CONFLICT (id, ward)"
        " DO UPDATE SET note = r.note || EXCLUDED.note",
    ),
    "a row of a partition that all are about to insert": (
        "INSERT INTO stays AS s (id, ward, note) VALUES (900, 2, %(mark)s) ON CONFLICT (id, ward)"
        " DO UPDATE SET note = s.note || EXCLUDED.note",
    ),
    "a row with triggers that all are about to insert": (
        "INSERT INTO watched AS w (id, note) VALUES (900, %(mark)s) ON CONFLICT (id) DO UPDATE SET note = w.note || EXCLUDED.note",
    ),
    "a row with a trigger before that all are about to insert": (
        "INSERT INTO changed AS c (id, note) VALUES (400, %(mark)s) ON CONFLICT (id) DO UPDATE SET note = c.note || %(mark)s",
    ),
    "several tables": (FIRST_STAYS,),
    "several tables, in two orders": (FIRST_STAYS, FIRST_WATCHED),
    "merged by its only condition": (
        "MERGE INTO stays s USING watched w ON w.id = s.id WHEN MATCHED AND w.id = 1 AND s.note > ''"
        " THEN UPDATE SET note = s.note || %(mark)s",
    ),
}


@pytest.mark.parametrize("name", APPENDING)
def test_no_update_of_several_clients_is_lost(both: Differential, site: Site, name: str) -> None:
    def work(number: int) -> None:
        text = APPENDING[name][number % len(APPENDING[name])]
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            time = 0
            while time < TIMES:
                try:
                    assert conn.execute(text.encode(), {"mark": f"<{number}.{time}>"}).rowcount == 1
                except psycopg.errors.DeadlockDetected:
                    continue
                except psycopg.errors.SerializationFailure:  # another one has inserted it first: no trigger is run twice
                    assert "trigger before" in name
                    continue
                time += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(work, number) for number in range(CLIENTS)]:
            future.result(timeout=400)
    found = 0
    with psycopg.connect(site.proxy_dsn) as conn:
        for table in ("stays", "watched", "changed"):
            for (note,) in conn.execute(f"SELECT note FROM {table} WHERE id IN (1, 400, 900)".encode()).fetchall():
                if "<" in note:
                    found += 1
                    marks = note[note.index("<") + 1 : -1].split("><")
                    assert sorted(marks) == sorted(f"{n}.{t}" for n in range(CLIENTS) for t in range(TIMES))
    assert found == (2 if name.startswith("several") else 1)
