"""``phiproxy encrypt --dry-run``: what is in the way is said once, as a sentence, with what helps."""

from __future__ import annotations

from tests.commands.conftest import Clinic

TABLES = """\
CREATE DOMAIN d AS text;
CREATE TABLE t (id int PRIMARY KEY, s serial, d d, u text UNIQUE, f text, n text, "a: b" text);
CREATE INDEX hashed ON t (md5(f));
CREATE INDEX odd ON t ("a: b");
CREATE VIEW w AS SELECT id, upper(n) n FROM t;
CREATE TABLE c (id int PRIMARY KEY, u text REFERENCES t (u));
INSERT INTO t VALUES (1, 1);
"""
POLICY = """\
database: {database}
deployment: clinic-test
tables:
  public.t:
    columns:
      s: {{type: int4}}
      d: {{type: text}}
      u: {{type: text}}
      f: {{type: text}}
      n: {{type: text}}
      '"a: b"': {{type: text}}
"""


def test_obstacles_are_told_once_and_with_what_helps(clinic: Clinic) -> None:
    clinic.sql(TABLES)
    clinic.policy.write_text(POLICY.format(database=clinic.database))
    assert clinic.run("keys", "init", "--clear", "public.t.d")[0] == 0  # whose type is another one
    code, out, _ = clinic.run("encrypt", "--dry-run")
    assert code == 1
    done, _, obstacles = out.partition("what keeps it from being done:\n")
    obstacles = obstacles.partition("what holds plaintext after it:\n")[0]
    assert ".;" not in obstacles
    assert "DEFAULT of public.t.s" not in done
    assert obstacles.count("DEFAULT of public.t.s: ") == 1
    assert obstacles.count("cannot answer this expression") == 1
    assert "put both columns into one domain in the policy; or drop it\n" in obstacles
    assert "`compute.engine: embedded` would answer this; or drop it, with what reads it\n" in obstacles
    assert "public.t.d is public.d, the policy says text, which is registered and stays: " in obstacles
    assert "ALTER TABLE public.t ALTER COLUMN d TYPE text; or a new column with `type: public.d`\n" in obstacles
    assert """add `'"a: b"'` to the indexes of""" in obstacles
    clinic.sql("DROP VIEW w; ALTER TABLE public.t ALTER COLUMN d TYPE text")
    assert "public.d" not in clinic.run("encrypt", "--dry-run")[1]
