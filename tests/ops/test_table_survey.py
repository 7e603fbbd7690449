"""What is read of the tables of a real database."""

from phiproxy.ops.table_survey import SurveyedColumn, survey
from tests.harness.server import PostgresServer

TABLES = """
CREATE EXTENSION citext;
CREATE SCHEMA phiproxy;
CREATE TABLE phiproxy.secret (ssn text);
CREATE TYPE pair AS (a text, b text);
CREATE TYPE mood AS ENUM ('x');
CREATE TABLE own (a pair[], b mood[], c mood, d citext[]);
CREATE TABLE people (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mrn varchar(12) UNIQUE, mail citext, born date,
                     year int GENERATED ALWAYS AS (extract(year from born)) STORED, ssn text, UNIQUE (mrn, born));
CREATE TABLE "Visits" (mrn varchar(12) REFERENCES people (mrn), of text, born date,
                       FOREIGN KEY (of, born) REFERENCES people (mrn, born));
ALTER TABLE "Visits" ENABLE ROW LEVEL SECURITY;
CREATE TABLE parted (day date, note text) PARTITION BY RANGE (day);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO parted VALUES ('2026-05-01', 'x');
INSERT INTO people (mrn, ssn) SELECT i::text, (i % 10)::text FROM generate_series(1, 1000) i;
ANALYZE;
"""


def test_what_is_read(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    try:
        with postgres_server.connect(name) as conn:
            conn.execute(TABLES)
            columns = {".".join(c.address): c for c in survey(conn, "phiproxy")}
    finally:
        postgres_server.drop_database(name)
    assert not any(address.startswith(("phiproxy.", "public.parted_1", "pg_")) for address in columns)
    assert columns["public.people.id"].special == "an identity column"
    assert columns["public.people.year"].special == "a generated column"
    assert columns["public.parted.day"].special == "part of the partition key"
    of_own = {name: columns[f"public.own.{name}"].special for name in "abcd"}
    assert of_own == {"a": "of a type that cannot be protected", "b": None, "c": None, "d": None}
    assert columns["public.people.mail"].type == "public.citext"
    assert columns["public.people.mrn"].type == "character varying(12)"
    assert columns["public.Visits.mrn"].references == ("public", "people", "mrn")
    assert (columns["public.Visits.of"].references, columns["public.Visits.of"].in_long_key) == (None, True)
    assert columns["public.people.born"].in_long_key
    assert columns["public.Visits.mrn"].row_security
    assert _filled(columns["public.people.ssn"]) == (True, 1000, 10)
    assert _filled(columns["public.people.mrn"])[2] == 1000
    assert columns["public.parted.note"].filled
    assert not columns["public.Visits.mrn"].filled


def _filled(column: SurveyedColumn) -> tuple[bool, int | None, int | None]:
    return column.filled, column.rows, column.distinct
