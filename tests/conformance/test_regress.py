"""The runner of PostgreSQL's own files sees a difference where there is one, and says what it could not do."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import psycopg
import pytest

from phiproxy.demo.postgres import EmbeddedPostgres
from tests.conformance import regress
from tests.conformance.debsource import NoSource
from tests.conformance.regress import Outcome, Way, both_ways, compared, main, normalised, regression, report, schedule

SPEC = "# a comment\ntest: one two\ntest: three\nignore: random\ntest: random one\n"


def test_a_schedule_says_the_order() -> None:
    assert schedule(SPEC) == ["one", "two", "three", "random"]


def test_what_must_differ_does_not_count() -> None:
    server = EmbeddedPostgres()
    ways = (Way("a", server, 5001, Path("/tmp/a")), Way("b", server, 5002, Path("/tmp/b")))
    said = [f"process {pid} of /tmp/{way.name}/results on {way.port}".encode() for pid, way in zip((1, 2), ways, strict=True)]
    assert normalised(said[0], ways[0]) == normalised(said[1], ways[1]) == ["process PROCESS of RESULTS/results on PORT"]
    assert normalised(b"7850018281 at 5001", ways[0]) == ["7850018281 at PORT"]
    outcome = compared("f", ways, lambda way: way.name.encode())
    assert outcome.difference[-2:] == ["-a", "+b"]
    assert not compared("f", ways, lambda _way: b"same").difference


def test_a_difference_is_one_unless_it_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    equal, different = Outcome("equal", 1.0, 2.0, []), Outcome("different", 1.0, 1.0, ["-a", "+b"])
    assert report("files", iter([equal]), tmp_path)
    assert not report("files", iter([equal, different]), tmp_path)
    assert (tmp_path / "different.diff").read_text() == "-a\n+b\n"
    monkeypatch.setattr(regress, "KNOWN", {"different": "a reason"})
    assert report("files", iter([equal, different]), tmp_path)
    monkeypatch.setattr(regress, "KNOWN", {"equal": "no longer", "different": "a reason"})
    assert not report("files", iter([equal, different]), tmp_path)
    assert not report("files", iter([]), tmp_path)
    said = capsys.readouterr().out
    assert "files: 1 of 2 equal; 2 s directly, 3 s through the proxy: 1.50 times" in said
    assert "as known: a reason" in said
    assert "take it off the list" in said


def test_without_the_source_package_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def cannot(*_: object) -> NoReturn:
        raise NoSource("there is no network")

    monkeypatch.setattr(regress, "source_package", cannot)
    assert main([]) == 0
    assert capsys.readouterr().out == "skipped: there is no network\n"


@pytest.mark.slow
def test_what_a_transaction_of_the_moment_kept_from_being_visible_to_all_is_made_so() -> None:
    with EmbeddedPostgres() as server:
        with psycopg.connect(server.dsn(), autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {regress.DATABASE}")
        other = psycopg.connect(server.dsn(regress.DATABASE))
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        with psycopg.connect(server.dsn(regress.DATABASE), autocommit=True) as conn:
            conn.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
            conn.execute("VACUUM ANALYZE t")
            assert conn.execute("SELECT relallvisible FROM pg_class WHERE relname = 't'").fetchone() == (0,)
            other.close()
            regress.make_visible(server)
            assert conn.execute("SELECT relallvisible = relpages FROM pg_class WHERE relname = 't'").fetchone() == (True,)


@pytest.mark.slow
def test_files_run_both_ways(tmp_path: Path) -> None:
    """Files of our own, laid out as PostgreSQL's are."""
    tmp_path.chmod(0o755)
    files = tmp_path / "source" / "src/test/regress"
    (files / "sql").mkdir(parents=True)
    (files / "parallel_schedule").write_text("test: test_setup\ntest: left_out used\n")
    (files / "sql" / "test_setup.sql").write_text("CREATE TABLE t (a int);\n")
    (files / "sql" / "left_out.sql").write_text("DROP TABLE t;\n")
    (files / "sql" / "used.sql").write_text("INSERT INTO t VALUES (1);\nSELECT a, date '2020-01-02' FROM t;\nSELECT * FROM phi;\n")
    with both_ways(tmp_path) as ways:
        outcomes = list(regression(ways, tmp_path / "source", ["used"], 60))
        assert [(o.name, o.difference) for o in outcomes] == [("test_setup", []), ("used", [])]
        # The sealed column is a bytea to whoever goes past the proxy: such a difference is seen.
        (files / "sql" / "used.sql").write_text("SELECT pg_typeof(ssn) FROM clinic.patients; TABLE clinic.patients \\gdesc\n")
        (outcome,) = (o for o in regression(ways, tmp_path / "source", ["used"], 60) if o.name == "used")
        assert any("bytea" in line for line in outcome.difference if line.startswith("-"))
