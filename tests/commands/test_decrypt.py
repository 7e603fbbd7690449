"""``phiproxy decrypt``: what columns are again, and what keeps them from being so."""

from __future__ import annotations

import json

from tests.commands.conftest import Clinic

OWN_TYPES = """\
CREATE SCHEMA lab;
CREATE SCHEMA "Lab X";
CREATE EXTENSION citext SCHEMA lab;
CREATE TYPE lab.result AS ENUM ('positive', 'nega''tive');
CREATE TYPE "Lab X"."Mood %s" AS ENUM ('a b', 'c');
CREATE DOMAIN lab.grade AS int CONSTRAINT positive CHECK (VALUE > 0);
CREATE DOMAIN lab."text" AS varchar(7);
CREATE DOMAIN lab.needed AS varchar(5) NOT NULL;
"""
COLUMNS = {
    "result": ("lab.result", "nega'tive"), "mood": ('"Lab X"."Mood %s"', "a b"), "grade": ("lab.grade", "5"),
    "word": ('lab."text"', "x"), "mail": ("lab.citext", "A@b"), "results": ("lab.result[]", "{positive,positive}"),
    "grades": ("lab.grade[]", "{1,NULL}"), "code": ("char(5)", "ab"), "names": ("varchar(9)[]", "{x}"),
    "at": ("timestamptz(1)", "2020-01-01 10:00:00.1+00"), "time": ("timetz(2)", "10:00:00.12+02"),
    "numbers": ("numeric(6,3)[]", "{1.5}"),
}  # fmt: skip
TYPES = """\
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
 WHERE attrelid = 't'::regclass AND attnum > 1 AND NOT attisdropped ORDER BY 1
"""


def policy_of(clinic: Clinic, columns: dict[str, str]) -> None:
    listed = "".join(f"      {name}: {{type: {json.dumps(type_name)}}}\n" for name, type_name in columns.items())
    clinic.policy.write_text(f"database: {clinic.database}\ndeployment: clinic-test\ntables:\n  public.t:\n    columns:\n{listed}")


def done(clinic: Clinic, *arguments: str) -> None:
    code, _, err = clinic.run(*arguments)
    assert code == 0, (arguments, err)


def test_columns_of_types_of_ones_own_are_of_these_again(clinic: Clinic) -> None:
    """Wherever they are, and whatever they are called; with lengths, and arrays of them; and their values are what they were."""
    clinic.sql(OWN_TYPES)
    defined = ", ".join(f'"{name}" {type_name}' for name, (type_name, _) in COLUMNS.items())
    given = ", ".join("'{}'".format(value.replace("'", "''")) for _, value in COLUMNS.values())
    clinic.sql(f"CREATE TABLE t (id int PRIMARY KEY, {defined}); ALTER TABLE t ALTER result SET DEFAULT 'positive'")
    clinic.sql(f"INSERT INTO t VALUES (1, {given}), (2{', NULL' * len(COLUMNS)})")
    before = clinic.sql("SELECT t::text FROM t ORDER BY id"), clinic.sql(TYPES)
    policy_of(clinic, {name: type_name for name, (type_name, _) in COLUMNS.items()})
    done(clinic, "keys", "init")
    done(clinic, "encrypt")
    assert {stored for _, stored in clinic.sql(TYPES) if stored != "bytea"} == set()
    done(clinic, "decrypt", "t", "--reorder")
    quoted = ", ".join(f'"{name}"' for name in COLUMNS)
    shown = f"SELECT ROW(id, {quoted})::text FROM t ORDER BY id"
    assert (clinic.sql(shown), clinic.sql(TYPES)) == before
    clinic.sql("INSERT INTO t (id) VALUES (3)")
    assert clinic.sql("SELECT result::text FROM t WHERE id = 3") == [("positive",)]


def test_a_domain_that_takes_no_null_is_named_before_anything_is_begun(clinic: Clinic) -> None:
    """The column that is filled beside has NULL in all rows at first. What is said helps."""
    clinic.sql(OWN_TYPES)
    clinic.sql("CREATE TABLE t (id int PRIMARY KEY, c lab.needed); INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    policy_of(clinic, {"c": "lab.needed"})
    done(clinic, "keys", "init")
    done(clinic, "encrypt")
    code, out, _ = clinic.run("decrypt", "t", "--dry-run")
    assert code == 1
    assert "public.t.c: lab.needed takes no NULL, which all rows have in the hidden column at first" in out
    assert "ALTER DOMAIN lab.needed DROP NOT NULL" in out
    clinic.sql("ALTER DOMAIN lab.needed DROP NOT NULL")
    done(clinic, "decrypt", "t")
    clinic.sql("ALTER DOMAIN lab.needed SET NOT NULL")
    assert clinic.sql("SELECT c::text, pg_typeof(c)::text FROM t ORDER BY id") == [("x", "lab.needed"), ("y", "lab.needed")]


def test_a_typed_table_is_named_before_anything_is_begun(clinic: Clinic) -> None:
    """No column can be added to it. What is said helps, both ways."""
    clinic.sql('CREATE TYPE "row" AS (id int, c text); CREATE TABLE t OF "row" (PRIMARY KEY (id))')
    clinic.sql("INSERT INTO t VALUES (1, 'x')")
    policy_of(clinic, {"c": "text"})
    done(clinic, "keys", "init")
    code, out, _ = clinic.run("encrypt", "--dry-run")
    named = 'public.t is a table of type public."row", which no column can be added to: ALTER TABLE public.t NOT OF'
    assert (code, named in out) == (1, True), out
    clinic.sql("ALTER TABLE t NOT OF")
    done(clinic, "encrypt")
    done(clinic, "decrypt", "t")
    clinic.sql('ALTER TABLE t OF "row"')
