"""Views over expressions of protected columns: made, replaced, renamed, granted, dumped, dropped and attacked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from phiproxy.policy.view_rests import sealed_in
from tests.fixtures.live import Twins, extended_site, watched_twins
from tests.harness import results
from tests.harness.differential import Differential
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.waiting import until
from tests.integration.test_dumps import program, ran

LABELS = "SELECT id, full_name || ' of ' || city AS label, ssn FROM patients"


@pytest.fixture(scope="module")
def twins(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, engine_directory: Path) -> Iterator[Twins]:
    """One seeded clinic and an engine; the leak oracle at the end."""
    settings = f"compute: {{engine: embedded, directory: {engine_directory}}}\n"
    directory = tmp_path_factory.mktemp("view_definitions")
    with extended_site(postgres_server, directory, settings=settings) as site, watched_twins(site) as found:
        yield found
        found.both.close()  # which one of the tests has opened anew


@pytest.fixture
def both(twins: Twins) -> Iterator[Differential]:
    """Both sessions in a transaction that is rolled back."""
    with twins.rolled_back():
        yield twins.both


def run(both: Differential, *statements: str) -> None:
    for statement in statements:
        assert both.run(statement, protocol="simple").sqlstate is None, statement


@contextmanager
def view(twins: Twins, name: str, query: str, *more: str) -> Iterator[None]:
    """Make a view on both sides, which is dropped again."""
    for statement in (f"CREATE VIEW {name} AS {query}", *more):
        assert twins.both.run(statement, protocol="simple").sqlstate is None, statement
    try:
        yield
    finally:
        twins.both.run(f"DROP VIEW {name} CASCADE", protocol="simple")


def test_a_computed_column_is_replaced_by_a_protected_one(both: Differential) -> None:
    """On the server the column keeps its type, so it is computed as it was: PostgreSQL takes one of the same type, and no other."""
    run(
        both,
        f"CREATE VIEW v AS {LABELS}",
        "CREATE OR REPLACE VIEW v AS SELECT id, full_name AS label, ssn FROM patients",
        "SELECT label FROM v WHERE label > 'C' ORDER BY label",
        "SELECT * FROM v ORDER BY id",
        "CREATE OR REPLACE VIEW v AS SELECT id, ssn AS label, ssn FROM patients",
        "SELECT * FROM v ORDER BY id",
    )
    for changed in (
        "mrn AS label, ssn",
        "full_name AS label, length(ssn) AS ssn",
        "full_name AS label, upper(ssn) AS loud",
        "full_name AS label",
    ):
        both.run("SAVEPOINT s", protocol="simple")
        replaced = f"CREATE OR REPLACE VIEW v AS SELECT id, {changed} FROM patients"
        assert both.run(replaced, protocol="simple").sqlstate == "42P16"
        both.run("ROLLBACK TO s", protocol="simple")


def test_a_protected_column_is_replaced_by_a_computed_one(both: Differential) -> None:
    """On the server the column stays one of envelopes; that it is text is told by the rest."""
    run(
        both,
        "CREATE VIEW v AS SELECT id, ssn, notes FROM patients",  # nothing is computed there
        "CREATE OR REPLACE VIEW v AS SELECT id, upper(ssn) || '!' AS ssn, notes FROM patients",
        "SELECT * FROM v ORDER BY id",
        "SELECT ssn || 'x', length(ssn), v FROM v WHERE ssn > '1' ORDER BY ssn",
        "SELECT v.ssn FROM patients p LEFT JOIN v ON v.id = p.id AND p.city = 'Springfield' ORDER BY p.id",
        "CREATE VIEW w AS SELECT ssn || '?' AS asked, id FROM v",
        "SELECT asked FROM w ORDER BY id",
        "DROP VIEW w",
        "CREATE OR REPLACE VIEW v AS SELECT id, lower(full_name) AS ssn, left(notes, 3) AS notes, id + 1 AS next FROM patients",
        "SELECT id, ssn, notes, next + 0 FROM v ORDER BY id",
        "CREATE OR REPLACE VIEW v AS SELECT id, full_name AS ssn, notes || '' AS notes, id + 1 AS next FROM patients",
        "SELECT ssn, notes, next + 0 FROM v WHERE ssn IS NOT NULL ORDER BY id",
        "ALTER VIEW v RENAME COLUMN notes TO said",
        "SELECT max(said), count(said) FROM v",
        "CREATE OR REPLACE VIEW v AS SELECT id, ssn, upper(notes) AS said, id AS next FROM patients",
        "SELECT id, ssn, said FROM v ORDER BY id",
        "CREATE OR REPLACE VIEW v AS SELECT id, city AS ssn, NULL::text AS said, id AS next FROM patients WHERE notes > 'a'",
        "SELECT id, ssn, said FROM v WHERE ssn = 'Springfield' ORDER BY id",
        "CREATE VIEW w AS SELECT id, ssn FROM patients",  # nothing is computed there, nor in what replaces it
        "CREATE OR REPLACE VIEW w AS SELECT id, city AS ssn FROM patients",
        "SELECT id, ssn, w FROM w WHERE ssn = 'Springfield' ORDER BY id",
        "SELECT w.ssn, p.ssn FROM w JOIN patients p ON p.id = w.id AND p.full_name > 'A' ORDER BY 2",
    )
    assert both.run("SELECT ssn + 1 FROM v", protocol="simple").sqlstate == "42883"


def test_no_type_of_a_column_is_changed(both: Differential) -> None:
    made = "CREATE VIEW v AS SELECT id, mrn, mrn || '' AS told, notes FROM patients"
    run(both, made, "CREATE VIEW s AS SELECT mrn, notes FROM patients")
    for changed in (
        "v AS SELECT id, upper(mrn) AS mrn, mrn || '' AS told, notes FROM patients",
        "v AS SELECT id, notes AS mrn, mrn || '' AS told, notes FROM patients",
        "v AS SELECT id, mrn, mrn || '' AS told, length(notes) AS notes FROM patients",
        "v AS SELECT id, mrn, mrn || '' AS told, mrn AS notes FROM patients",
        "v AS SELECT id, mrn::varchar(13) AS mrn, mrn || '' AS told, notes FROM patients",
        "s AS SELECT notes || '' AS mrn, notes FROM patients",
        "s AS SELECT notes AS mrn, notes FROM patients",
        "s AS SELECT visits_count AS mrn, notes FROM patients",
        "s AS SELECT 'x'::varchar(12) AS mrn",
        "v AS SELECT 1 AS id",
        "v AS SELECT 1 AS number, ''::varchar(12) AS mrn, ''::text AS told, ''::text AS notes",
    ):
        both.run("SAVEPOINT s", protocol="simple")
        assert both.run(f"CREATE OR REPLACE VIEW {changed}", protocol="simple").sqlstate == "42P16", changed
        both.run("ROLLBACK TO s", protocol="simple")
    cast = "upper(mrn)::varchar(12)"
    run(
        both,
        f"CREATE OR REPLACE VIEW v AS SELECT id, {cast} AS mrn, mrn || '' AS told, notes FROM patients",
        "SELECT * FROM v ORDER BY id",
        f"CREATE OR REPLACE VIEW s AS SELECT {cast} AS mrn, notes FROM patients",
        "SELECT mrn FROM s WHERE mrn > 'A' ORDER BY 1",
    )


def test_what_is_bytea_to_the_server_keeps_its_type_too(both: Differential) -> None:
    for before, after in (
        ("city::bytea AS x", "ssn AS x"),
        ("ssn AS x", "city::bytea AS x"),
        ("convert_to(ssn, 'UTF8') AS x", "ssn AS x"),
        ("city::bytea AS x, upper(ssn)", "ssn AS x, upper(ssn)"),
    ):
        both.run("SAVEPOINT s", protocol="simple")
        run(both, f"CREATE VIEW v AS SELECT id, {before} FROM patients", "SELECT * FROM v ORDER BY id")
        replaced = f"CREATE OR REPLACE VIEW v AS SELECT id, {after} FROM patients"
        assert both.run(replaced, protocol="simple").sqlstate == "42P16", after
        both.run("ROLLBACK TO s", protocol="simple")


def test_in_the_transaction_that_makes_it(both: Differential) -> None:
    run(
        both,
        f"CREATE VIEW v AS {LABELS}",
        "SELECT * FROM v ORDER BY id",
        "SAVEPOINT s",
        "CREATE OR REPLACE VIEW v AS SELECT id, upper(full_name) AS label, ssn FROM patients",
        "SELECT * FROM v ORDER BY id",
        "ROLLBACK TO s",
        "SELECT * FROM v ORDER BY id",
        "DROP VIEW v",
    )
    assert both.run("SELECT * FROM v", protocol="simple").sqlstate == "42P01"


def test_it_is_replaced(both: Differential) -> None:
    run(
        both,
        f"CREATE VIEW v AS {LABELS}",
        "CREATE VIEW w AS SELECT label FROM v",
        "CREATE OR REPLACE VIEW v AS SELECT id, lower(notes) AS label, ssn FROM patients WHERE full_name > 'C'",
        "SELECT * FROM v ORDER BY id",
        "CREATE OR REPLACE VIEW v AS SELECT id, city || notes AS label, ssn, length(full_name) AS n, id + 1 AS next FROM patients",
        "SELECT id || label || ssn || n || next FROM v ORDER BY id",  # with other numbers of columns than PostgreSQL's
        "SELECT n + 0 FROM v WHERE next > 2 ORDER BY id",
        "CREATE OR REPLACE VIEW v AS SELECT id, 'x' AS label, ssn, 3 AS n, id AS next, 1.5 AS more FROM patients",
        "SELECT label || next || more FROM v ORDER BY id",
    )


def test_what_depends_on_it(both: Differential) -> None:
    run(
        both,
        f"CREATE VIEW v AS {LABELS}",
        "CREATE VIEW w AS SELECT label || '!' AS loud FROM v WHERE id < 4",
        "SELECT * FROM w ORDER BY 1",
        "SAVEPOINT s",
    )
    assert both.run("DROP VIEW v", protocol="simple").sqlstate == "2BP01"
    run(both, "ROLLBACK TO s", "DROP VIEW v CASCADE", "ROLLBACK TO s", "DROP VIEW w")


def test_names_are_the_server_s(both: Differential) -> None:
    run(
        both,
        f"CREATE VIEW v AS {LABELS}",
        "ALTER VIEW v RENAME TO renamed",
        "SELECT label FROM renamed ORDER BY id",
        "ALTER VIEW renamed RENAME COLUMN label TO said",
        "SELECT said FROM renamed ORDER BY id",
        "SET LOCAL search_path = archive",
        "SELECT said FROM public.renamed ORDER BY id",
        "SET LOCAL search_path = public",
        "SELECT said FROM renamed ORDER BY id",
        "ALTER VIEW renamed RENAME COLUMN id TO number",
        "SELECT said FROM renamed WHERE number = 2",
        "COMMENT ON VIEW renamed IS 'seen'",
        "ALTER VIEW renamed SET (security_barrier = true)",
        "SELECT said FROM renamed WHERE said > 'B' ORDER BY 1",
    )


def test_what_is_prepared_over_it_is_there_still_when_it_is_back(twins: Twins) -> None:
    sessions = (twins.both.plain, twins.both.proxied)
    with view(twins, "v", LABELS):
        for conn in sessions:
            conn.send_prepare(b"over_v", b"SELECT label FROM v WHERE id = 1")
            assert results.collect(conn)[-1].sqlstate is None
        twins.both.run("PREPARE by_sql AS SELECT label FROM v WHERE id = 2", protocol="simple")
        for now, then in (("v", "w"), ("w", "v"), ("v", "v")):
            said = []
            for conn in sessions:
                conn.send_query_prepared(b"over_v", [], [])
                said.append([(o.sqlstate, o.text) for o in results.collect(conn)])
            assert said[0] == said[1]
            assert said[0][0][0] == (None if now == "v" else "42P01")
            if now == "v":
                assert twins.both.run("EXECUTE by_sql", protocol="simple").count == 1
            else:  # PostgreSQL says that the view is not there
                assert results.simple(twins.both.proxied, "EXECUTE by_sql")[-1].sqlstate == "0A000"
            if now != then:
                twins.both.run(f"ALTER VIEW {now} RENAME TO {then}", protocol="simple")
        for conn in sessions:
            assert results.simple(conn, "DEALLOCATE ALL")[-1].sqlstate is None


def test_the_columns_of_its_table_are_renamed(twins: Twins) -> None:
    """An unprotected one, which the server follows. A protected one is renamed by the policy first."""
    with view(twins, "v", LABELS):
        for before, after in (("city", "town"), ("town", "city")):
            run(twins.both, f"ALTER TABLE patients RENAME COLUMN {before} TO {after}", "SELECT * FROM v ORDER BY id")
        with twins.rolled_back():
            for what in ("RENAME COLUMN full_name TO whole_name", "RENAME TO persons"):
                refused = results.simple(twins.both.proxied, f"ALTER TABLE patients {what}")[-1]
                assert (refused.sqlstate, "renamed_to:" in refused.hint) == ("0A000", True)
                results.simple(twins.both.proxied, "ROLLBACK; BEGIN")


def test_of_other_kinds(both: Differential) -> None:
    """One that reads with the rights of who asks, and recursive ones, whose columns' types are said by casts."""
    more = "SELECT p.id, t.n || p.full_name FROM t, patients p WHERE p.id = t.id + 1"
    steps = f"(SELECT id, upper(full_name) FROM patients WHERE id = 1 UNION ALL {more})"
    run(
        both,
        "CREATE VIEW invoked WITH (security_invoker) AS SELECT id, upper(full_name) AS loud FROM patients",
        "SELECT * FROM invoked ORDER BY id",
        f"CREATE VIEW steps AS WITH RECURSIVE t (id, n) AS {steps} SELECT id::int AS id, n::text AS n FROM t",
        "SELECT * FROM steps ORDER BY id",
        "SELECT max(n) FROM steps WHERE id < 3",
    )
    refused = results.simple(both.proxied, f"CREATE VIEW untyped AS WITH RECURSIVE t (id, n) AS {steps} SELECT * FROM t")[-1]
    assert (refused.sqlstate, refused.hint) == ("0A000", "Say it with a cast: CAST(… AS text) AS id.")


def test_its_rows_are_not_copied_by_its_name(twins: Twins) -> None:
    with view(twins, "v", LABELS):
        for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                for statement, state in (("COPY v TO STDOUT", "42809"), ("COPY v (nothing) TO STDOUT", "42703")):
                    with pytest.raises(psycopg.Error) as refused, conn.cursor() as cursor, cursor.copy(statement) as copy:
                        copy.read()
                    assert refused.value.sqlstate == state


def test_it_is_described(twins: Twins) -> None:
    with view(twins, "v", LABELS), twins.rolled_back():
        for result_format in (0, 1):
            twins.both.run("SELECT * FROM v WHERE id = $1", ["1"], named=True, result_format=result_format)
            twins.both.run("SELECT label FROM v WHERE label > $1 AND id > $2", ["B", "0"], named=True, result_format=result_format)
        run(
            twins.both,
            "PREPARE p (int) AS SELECT label FROM v WHERE id = $1",
            "EXECUTE p (2)",
            "DECLARE c CURSOR FOR SELECT label FROM v ORDER BY id",
            "FETCH 2 FROM c",
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'v' AND column_name !~ '^phi_view_'"
            " AND column_name <> 'ssn' ORDER BY ordinal_position",
            "SELECT id FROM log WHERE EXISTS (SELECT FROM v WHERE v.id = log.id) ORDER BY id",
        )
        with psycopg.connect(twins.clinic.proxy_dsn) as conn, conn.cursor() as cursor:
            with cursor.copy("COPY (SELECT label FROM v ORDER BY label) TO STDOUT") as copy:
                copied = b"".join(bytes(data) for data in copy)
            rows = conn.execute("SELECT label FROM v ORDER BY label").fetchall()
            assert copied.decode() == "".join(f"{label if label is not None else chr(92) + 'N'}\n" for (label,) in rows)
        plan = results.simple(twins.both.proxied, "EXPLAIN SELECT label FROM v WHERE id = 1 AND label > 'B'")[0].rows
        assert "id = 1" in str(plan)


REFUSED = [
    ("CREATE VIEW v AS SELECT upper(full_name) FROM patients WITH CHECK OPTION", "write to the table itself"),
    ("CREATE TEMP VIEW v AS SELECT upper(full_name) AS u FROM patients", "Create it in a schema"),
    ("CREATE VIEW v AS SELECT id FROM stays WHERE born < '01/02/2000' AND word || '' > 'a'", "2000-01-31"),
    ("INSERT INTO log (msg) SELECT label FROM labels", ""),
    ("CREATE MATERIALIZED VIEW v AS SELECT upper(full_name) AS u FROM patients", ""),
    ("CREATE VIEW v AS SELECT upper(full_name) || random() AS u FROM patients", ""),
    ("UPDATE labels SET ssn = 'x'", "Write to the table itself"),
    ("INSERT INTO labels (id) VALUES (99)", "Write to the table itself"),
    ("DELETE FROM labels", "Write to the table itself"),
    ("SELECT phi_view_1 FROM labels", ""),
    ("SELECT upper(x) FROM (SELECT phi_view_1 AS x FROM labels) q", ""),
    ("SELECT upper(label) FROM labels l (a, b, c, d)", ""),
    ("SELECT label FROM labels WHERE labels.phi_view_1 IS NOT NULL", ""),
    ("CREATE VIEW v AS SELECT phi_view_1 FROM labels", ""),
    ("SELECT random(), l FROM labels l", ""),
    ("CREATE VIEW v AS SELECT upper(full_name) AS u, (NULL::visits).room AS r FROM patients", ""),
    ("CREATE OR REPLACE VIEW labels AS SELECT 1 AS id, 'x'::text AS label, 'y'::text AS ssn", "Drop the view"),
    ("CREATE OR REPLACE VIEW labels AS SELECT id, msg AS label, msg AS ssn FROM log", "Drop the view"),
    (f"CREATE OR REPLACE VIEW labels AS {LABELS.replace(', ssn', ', ssn COLLATE ucs_basic AS ssn')}", "Drop"),
]


def test_refused(twins: Twins) -> None:
    with view(twins, "labels", LABELS):
        for statement, hint in REFUSED:
            refused = results.simple(twins.both.proxied, statement)[-1]
            assert refused.sqlstate in ("0A000", "42703"), (statement, refused)
            assert hint in str(refused), statement


def test_grants_and_owners(twins: Twins) -> None:
    site = twins.clinic.site
    with site.server.connect() as conn:
        conn.execute("DROP ROLE IF EXISTS view_reader")
        conn.execute("CREATE ROLE view_reader LOGIN PASSWORD 'reader'")
    try:
        for dsn in (site.plain_dsn, site.sealed_dsn):
            with psycopg.connect(dsn) as conn:
                conn.execute("REVOKE ALL ON patients FROM PUBLIC")
        with view(twins, "v", LABELS):
            refused, shown = [], []
            for dsn in (site.server.dsn(site.plain, "view_reader", "reader"), site.proxy.dsn(site.sealed, "view_reader", "reader")):
                with psycopg.connect(dsn, autocommit=True) as reader:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        reader.execute("SELECT label FROM v ORDER BY id")
                    results.simple(twins.both.plain, "GRANT SELECT ON v TO view_reader")
                    results.simple(twins.both.proxied, "GRANT SELECT ON v TO view_reader")
                    shown.append(reader.execute("SELECT label FROM v ORDER BY id").fetchall())
                    for query in ("SELECT full_name FROM patients", "SELECT phi_view_1 FROM v"):
                        with pytest.raises(psycopg.Error) as error:
                            reader.execute(query.encode())
                        refused.append(error.value.sqlstate)
                    results.simple(twins.both.plain, "REVOKE SELECT ON v FROM view_reader")
                    results.simple(twins.both.proxied, "REVOKE SELECT ON v FROM view_reader")
            assert shown[0] == shown[1] != []
            assert refused[0] == refused[2] == "42501"
    finally:
        for dsn in (site.plain_dsn, site.sealed_dsn):
            with psycopg.connect(dsn) as conn:
                conn.execute("GRANT ALL ON patients TO PUBLIC")
        with site.server.connect() as conn:
            conn.execute("DROP ROLE view_reader")


def test_it_is_dumped_and_restored(twins: Twins) -> None:
    site = twins.clinic.site
    with view(twins, "v", LABELS):
        before = results.simple(twins.both.proxied, "SELECT * FROM v ORDER BY id")[0].rows
        dump = ran(program(site, "pg_dump"), "--table=v", "-d", site.sealed_dsn)
        assert not twins.clinic.oracle.contains(dump)
        assert b"' of '" not in dump
        with psycopg.connect(site.sealed_dsn) as conn:
            conn.execute("DROP VIEW v")
        ran(program(site, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", site.sealed_dsn, given=dump)
        with psycopg.connect(twins.clinic.proxy_dsn) as conn:
            assert conn.execute("SELECT * FROM v ORDER BY id").fetchall() != []
        assert results.simple(twins.both.proxied, "SELECT * FROM v ORDER BY id")[0].rows == before


@pytest.mark.parametrize(
    ("of", "to"),
    [("patients.full_name", "patients.notes"), ("AS phi_view_0", "AS phi_view_0x"), ("patients.city", "patients.phone")],
)
def test_a_changed_source_is_refused(twins: Twins, of: str, to: str) -> None:
    """Whoever can change the catalogue gets nothing computed over other columns than those that the view was made for."""
    site = twins.clinic.site
    with view(twins, "v", LABELS):
        with psycopg.connect(site.sealed_dsn) as conn:
            (stored,) = conn.execute("SELECT pg_get_viewdef('v'::regclass)").fetchone() or ("",)
            conn.execute("DROP VIEW v")
            assert of in stored
            conn.execute(f"CREATE VIEW v AS {stored.replace(of, to)}".encode())
        with psycopg.connect(twins.clinic.proxy_dsn, autocommit=True) as conn:
            if to == "patients.phone":  # of the same type, and in clear: rows are the server's to give
                return
            with pytest.raises(psycopg.Error) as error:
                conn.execute("SELECT label FROM v")
            # the last where the proxy has not looked at the catalogue since: a value that is stored is bound to its column
            assert error.value.sqlstate in ("0A000", "42703", "42704", "XX001")


def test_a_rest_of_another_view_does_not_reveal_more(twins: Twins) -> None:
    """A rest that is put over the inputs of another view: these are nobody's but that view's."""
    site = twins.clinic.site
    with (
        view(twins, "v", "SELECT id, left(full_name, 1) AS initial FROM patients"),
        view(twins, "whole", "SELECT id, full_name || '' AS name FROM patients"),
    ):
        with psycopg.connect(site.sealed_dsn) as conn:
            (stored,) = conn.execute("SELECT pg_get_viewdef('whole'::regclass)").fetchone() or ("",)
            head, _ = stored.split("FROM ( SELECT", 1)
            conn.execute(f"CREATE VIEW stolen AS {head} FROM (SELECT id, phi_view_1 FROM v) AS s(c1, c2)".encode())
        try:
            with (
                psycopg.connect(twins.clinic.proxy_dsn, autocommit=True) as conn,
                pytest.raises(psycopg.errors.FeatureNotSupported),
            ):
                conn.execute("SELECT name FROM stolen")
        finally:
            with psycopg.connect(site.sealed_dsn) as conn:
                conn.execute("DROP VIEW stolen")


def test_writes_that_read_it(both: Differential) -> None:
    run(
        both,
        f"CREATE VIEW v AS {LABELS}",
        "UPDATE patients p SET notes = v.label FROM v WHERE v.id = p.id AND v.label > 'C'",
        "SELECT id, notes FROM patients ORDER BY id",
        "DELETE FROM patients WHERE id IN (SELECT id FROM v WHERE label < 'K')",
        "SELECT id FROM patients ORDER BY id",
        "INSERT INTO patients (id, notes) SELECT id + 1000, label FROM v",
        "SELECT notes FROM patients WHERE id > 1000 ORDER BY id",
    )


def test_a_proxy_that_has_just_started(twins: Twins) -> None:
    """It has no keys yet: they are fetched for what the view computes, then for what it shows."""
    with view(twins, "v", LABELS):
        before = results.simple(twins.both.proxied, "SELECT label FROM v ORDER BY id")[0].rows
        site = twins.clinic.site
        site.proxy.terminate()
        site.proxy.start()
        with psycopg.connect(twins.clinic.proxy_dsn, autocommit=True) as conn:
            shown = conn.execute("SELECT label FROM v ORDER BY id").fetchall()
            assert [label.encode() if label is not None else None for (label,) in shown] == [value for (value,) in before]
        twins.both.close()
        twins.both = Differential(twins.clinic)


def test_its_rest_follows_the_data_keys(twins: Twins) -> None:
    """``recrypt`` seals it anew, and those that name it: no key is retired before, and the views are afterwards what they were."""
    site = twins.clinic.site

    def keys() -> dict[str, str]:
        with site.server.connect(site.sealed) as conn:
            stored = conn.execute("SELECT c.relname::text, pg_get_viewdef(c.oid) FROM pg_class c WHERE c.relname LIKE 'follows%'")
            rests = {str(name): sealed_in(str(text)) for name, text in stored.fetchall()}
        return {name: sealed.hex()[10:18] for name, sealed in rests.items() if sealed is not None}

    with view(
        twins,
        "follows",
        LABELS,
        "CREATE VIEW follows_outer WITH (security_barrier) AS SELECT id, label || '!' AS loud FROM follows",
        "CREATE VIEW follows_plainly AS SELECT id, ssn FROM follows",
        "GRANT SELECT ON follows_outer TO PUBLIC",
        "COMMENT ON COLUMN follows.label IS 'whose it is'",
    ):
        before = keys()
        assert set(before) >= {"follows", "follows_outer"}
        site.cli("keys", "rotate")
        (old,) = set(before.values())
        refused = run_cli("keys", "retire", old, "-c", str(site.config), env=site.env)
        assert "still holds 1 values of public.follows.phi_view_0" in refused.stderr
        with site.server.connect(site.sealed) as conn:
            conn.execute(f"ALTER ROLE {site.service} SUPERUSER".encode())
            try:
                assert "is done" in site.cli("recrypt")
            finally:
                conn.execute(f"ALTER ROLE {site.service} NOSUPERUSER".encode())
            ((options, acl, comment),) = conn.execute(
                "SELECT o.reloptions, o.relacl::text, col_description('follows'::regclass, 2) FROM pg_class o"
                " WHERE o.oid = 'follows_outer'::regclass"
            ).fetchall()
            assert (options, "=r/" in str(acl), comment) == (["security_barrier=true"], True, "whose it is")
        after = keys()
        assert after.keys() == before.keys()
        assert old not in after.values()
        assert "is retired" in site.cli("keys", "retire", old)
        for query in ("follows", "follows_outer", "follows_plainly"):
            twins.everywhere(f"SELECT * FROM {query} ORDER BY id", ())


def test_views_over_views_grow_by_a_level_each(twins: Twins) -> None:
    """A rest names those that its view reads by their digests: naming all of their bytes, each level would double them."""
    levels = ["CREATE VIEW level_0 AS SELECT id, label || '!' AS label FROM levels"] + [
        f"CREATE VIEW level_{n} AS SELECT a.id, a.label || b.label AS label FROM level_{n - 1} a JOIN levels b ON a.id = b.id"
        for n in range(1, 6)
    ]
    with view(twins, "levels", LABELS, *levels):
        with twins.clinic.site.server.connect(twins.clinic.site.sealed) as conn:
            stored = conn.execute("SELECT length(pg_get_viewdef(oid)) FROM pg_class WHERE relname ~ '^level_' ORDER BY relname")
            lengths = [int(str(length)) for (length,) in stored.fetchall()]
        assert len(lengths) == len(levels)
        assert lengths[-1] - lengths[-2] < 2 * (lengths[2] - lengths[1]) + 500
        twins.both.run("SELECT id, upper(label) FROM level_5 ORDER BY label", protocol="simple")


def test_a_view_that_is_replaced_while_its_rest_is_sealed_anew_stays_what_it_was_replaced_by(twins: Twins) -> None:
    site = twins.clinic.site
    with (
        view(twins, "raced", LABELS),
        site.server.connect(site.sealed) as watching,
        psycopg.connect(site.server.dsn(site.sealed)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        (stored,) = other.execute("SELECT pg_get_viewdef('raced'::regclass)").fetchone() or ("",)
        watching.execute(f"ALTER ROLE {site.service} SUPERUSER".encode())
        try:
            site.cli("keys", "rotate")
            job = pool.submit(run_cli, "recrypt", "-c", str(site.config), env=site.env)
            until(lambda: bool(watching.execute("SELECT FROM pg_locks WHERE NOT granted").rowcount), "the job waits for the view")
            other.execute(f"CREATE OR REPLACE VIEW raced AS SELECT q.*, 1 AS more FROM ({stored.rstrip(';')}) AS q".encode())
            other.commit()
            assert "view public.raced was changed meanwhile" in job.result(timeout=240).stderr
            assert watching.execute("SELECT more FROM raced LIMIT 1").fetchall() == [(1,)]
            number = re.search(r"jobs resume (\d+)", job.result().stderr)
            assert number is not None
            assert "is done" in site.cli("jobs", "resume", number[1])
        finally:
            watching.execute(f"ALTER ROLE {site.service} NOSUPERUSER".encode())
