"""What is made of a protected column."""

import dataclasses
import re

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.column_types import builtin
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.expressions.index_expressions import own_name
from phiproxy.sql.rules import RULES
from phiproxy.sql.text.parse import Statement
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.sql.ask import INDEXED, VIEW, ask, refusal


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["lower"], "lower"),
        (["pg_catalog", "lower"], "lower"),
        (["public", "lower"], ""),
        (["upper"], ""),
        (["pg_catalog", "upper"], "upper"),
        (["soundex"], "soundex"),
        (["ext", "soundex"], "soundex"),
        (["metaphone"], ""),
        (["ext", "metaphone"], ""),
        (["->"], "->"),
        (["->>"], ""),
        (["pg_catalog", "->>"], "->>"),
    ],
)
def test_names_that_are_the_servers_own(names: list[str], name: str) -> None:
    catalog = dataclasses.replace(CATALOG, replaced=frozenset({"upper", "metaphone", "->>"}))
    statement = Statement("SelectStmt", {}, 0, 0, (0, 0))
    analysis = Analysis(b"", Context(PROTECTION, catalog, PATH, "clinic"), statement, RULES)
    assert own_name(analysis, names) == name


def spelled(short: str) -> str:
    """Spell out T1<c>, ANY{c} and the schema of the tables."""
    short = re.sub(r"ANY{([^{}]*)}", r"(pg_catalog.array_agg(\1))[1]", short)
    short = re.sub(r"T(\d)<([^<>]*)>", lambda m: f"pg_catalog.substring({m[2]}, {13 + 16 * int(m[1])}, 16)", short)
    return re.sub(r"(?<!public\.)\b(patients|visits)\b", r'"public".\1', short)


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("SELECT id FROM patients WHERE lower(full_name) = $1", "SELECT id FROM patients WHERE T1<full_name> = $1"),
        ("SELECT id FROM patients p WHERE lower(p.full_name) = lower($1)", "SELECT id FROM patients p WHERE T1<p.full_name> = $2"),
        (
            "SELECT id FROM patients p WHERE LOWER((p.full_name)::text)::varchar IN ('a', 'b') AND full_name <> $1",
            "SELECT id FROM patients p WHERE T1<p.full_name> IN ($2, $3) AND T0<full_name> <> $1",
        ),
        (
            "SELECT lower(full_name), left(full_name, 3) AS l FROM patients",
            'SELECT full_name AS "lower", full_name AS l FROM patients',
        ),
        (
            "SELECT lower(full_name), count(*) FROM patients GROUP BY lower(full_name)",
            'SELECT ANY{full_name} AS "lower", count(*) FROM patients GROUP BY T1<full_name>',
        ),
        (
            "SELECT lower(full_name), count(*) FROM patients GROUP BY 1 HAVING lower(full_name) = 'x'",
            'SELECT ANY{full_name} AS "lower", count(*) FROM patients GROUP BY T1<full_name> HAVING T1<full_name> = $1',
        ),
        (
            "SELECT lower(full_name) AS n, count(*) FROM patients GROUP BY n",
            "SELECT ANY{full_name} AS n, count(*) FROM patients GROUP BY T1<full_name>",
        ),
        (
            "SELECT lower(full_name), full_name FROM patients GROUP BY full_name HAVING lower(full_name) <> 'x'",
            'SELECT ANY{full_name} AS "lower", ANY{full_name} AS "full_name" FROM patients GROUP BY'
            " T0<full_name> HAVING T1<ANY{full_name}> <> $1",
        ),
        ("SELECT DISTINCT lower(full_name) FROM patients", 'SELECT DISTINCT ON (T1<full_name>) full_name AS "lower" FROM patients'),
        (
            "SELECT DISTINCT ON (lower(full_name)) lower(full_name), id FROM patients",
            'SELECT DISTINCT ON (T1<full_name>) full_name AS "lower", id FROM patients',
        ),
        (
            "SELECT count(DISTINCT lower(full_name)), count(lower(full_name)) FROM patients",
            "SELECT count(DISTINCT T1<full_name>), count(full_name) FROM patients",
        ),
        (
            "SELECT x.n FROM (SELECT lower(full_name) AS n FROM patients) x WHERE x.n = 'smith'",
            "SELECT x.n FROM (SELECT full_name AS n FROM patients) x WHERE T1<x.n> = $1",
        ),
        (
            "SELECT x.n FROM (SELECT lower(full_name) AS n FROM patients) x WHERE left(x.n, 3) = 'smi'",
            "SELECT x.n FROM (SELECT full_name AS n FROM patients) x WHERE T3<x.n> = $1",
        ),
        (
            "SELECT a.id FROM patients a JOIN patients b ON lower(a.full_name) = lower(b.full_name)",
            "SELECT a.id FROM patients a JOIN patients b ON T1<a.full_name> = T1<b.full_name>",
        ),
        (
            "SELECT id FROM patients WHERE lower(full_name) IS NULL OR coalesce(lower(full_name), 'x') = $1",
            "SELECT id FROM patients WHERE full_name IS NULL OR coalesce(T1<full_name>, $2) = $1",
        ),
        (
            "SELECT CASE lower(full_name) WHEN 'a' THEN 1 END FROM patients",
            "SELECT CASE T1<full_name> WHEN $1 THEN 1 END FROM patients",
        ),
        (
            "SELECT CASE WHEN id = 1 THEN lower(full_name) END FROM patients",
            "SELECT CASE WHEN id = 1 THEN full_name END FROM patients",
        ),
        ("SELECT id FROM patients WHERE lower(full_name) = ANY($1)", "SELECT id FROM patients WHERE T1<full_name> = ANY($1)"),
        (
            "UPDATE patients SET city = 'x' WHERE lower(full_name) = 'y' RETURNING lower(full_name)",
            "UPDATE patients SET city = 'x' WHERE T1<full_name> = $1 RETURNING full_name AS \"lower\"",
        ),
        (
            "DELETE FROM patients WHERE lower(full_name) IN (SELECT lower(full_name) FROM patients)",
            "DELETE FROM patients WHERE T1<full_name> IN (SELECT T1<phi.c1> FROM (SELECT full_name AS"
            ' "lower" FROM patients) AS phi (c1))',
        ),
        (
            "INSERT INTO patients (full_name) VALUES ($1) ON CONFLICT (lower(full_name)) DO NOTHING",
            "INSERT INTO patients (full_name) VALUES ($1) ON CONFLICT (T1<full_name>) DO NOTHING",
        ),
        (
            "SELECT rank() OVER (PARTITION BY lower(full_name) ORDER BY id) FROM patients",
            "SELECT rank() OVER (PARTITION BY T1<full_name> ORDER BY id) FROM patients",
        ),
        (
            "SELECT lower(full_name) FROM patients UNION SELECT lower(full_name) FROM patients",
            'SELECT DISTINCT ON (T1<phi.c1>) phi.c1 AS "lower" FROM (SELECT full_name AS "lower" FROM'
            ' patients UNION ALL SELECT full_name AS "lower" FROM patients) AS phi (c1)',
        ),
        ("CREATE INDEX i ON patients (lower(full_name))", "CREATE INDEX i ON public.patients ((T1<full_name>))"),
        (
            "SELECT lower(full_name), grouping(lower(full_name)) FROM patients GROUP BY ROLLUP (lower(full_name))",
            'SELECT CASE WHEN grouping(T1<full_name>) = 0 THEN ANY{full_name} END AS "lower",'
            " grouping(T1<full_name>) FROM patients GROUP BY ROLLUP (T1<full_name>)",
        ),
        (
            "SELECT (SELECT count(*) FROM visits v WHERE lower(p.full_name) = $1) FROM patients p GROUP BY lower(p.full_name)",
            "SELECT (SELECT count(*) FROM visits v WHERE T1<p.full_name> = $1) FROM patients p GROUP BY T1<p.full_name>",
        ),
        (
            "SELECT lower(full_name) FROM patients a JOIN patients b USING (full_name)",
            'SELECT "a"."full_name" AS "lower" FROM patients a JOIN patients b ON T0<"a"."full_name"> = T0<"b"."full_name">',
        ),
        ("SELECT left(lower(a.full_name), 3) = 'abc' FROM patients a", "SELECT T3<a.full_name> = $1 FROM patients a"),
        (
            "SELECT id FROM patients WHERE (lower(full_name), id) = ('a', 1)",
            "SELECT id FROM patients WHERE (T1<full_name>, id) = ($1, 1)",
        ),
    ],
)
def test_an_expression_with_an_index(client: str, server: str) -> None:
    assert ask(client, VIEW, INDEXED) == spelled(server)


@pytest.mark.parametrize(
    "client",
    [
        "SELECT lower(full_name) FROM patients ORDER BY lower(full_name)",
        "SELECT a.id FROM patients a JOIN patients b ON lower(a.full_name) = b.full_name",
        "SELECT CASE WHEN id = 1 THEN lower(full_name) ELSE 'x' END FROM patients",
        "SELECT soundex(full_name) FROM patients",
        "SELECT id FROM patients WHERE soundex(full_name) = 'X123'",
        "SELECT id FROM patients WHERE upper(full_name) = 'X'",
        "SELECT id FROM patients WHERE lower(notes) = 'X'",
        "UPDATE patients SET full_name = lower(full_name)",
        "UPDATE patients SET city = lower(full_name)",
        "INSERT INTO patients (full_name) SELECT lower(full_name) FROM patients",
        "SELECT min(lower(full_name)) FROM patients",
        "SELECT lower(full_name) || 'x' FROM patients",
        "CREATE VIEW v AS SELECT lower(full_name) FROM patients",
        "CREATE INDEX i ON patients (upper(full_name))",
    ],
)
def test_an_expression_without_a_complete_index_is_refused(client: str) -> None:
    assert ask(client, VIEW, INDEXED) == "0A000"


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("upper(full_name) = 'X'", "Add `upper(full_name)` to the indexes of public.patients.full_name in the policy"),
        ("left(lower(notes), 2) = 'X'", "Add `left(lower(notes),2)` to the indexes of public.patients.notes in the policy"),
        ("soundex(full_name) = 'X1'", "The index on soundex(full_name) is there and answers nothing yet"),
        ("left(full_name, id) = 'X1'", "where all else in it is constant"),
    ],
)
def test_a_refusal_names_the_index_that_would_answer(condition: str, hint: str) -> None:
    assert hint in (refusal(f"SELECT 1 FROM patients WHERE {condition}", VIEW, INDEXED).hint or "")


def dated() -> Planner:
    """The clinic with a date in place of one of its texts."""
    table = PROTECTION.by_name["public", "patients"]
    born = dataclasses.replace(table.columns["ssn"], type=builtin("date"))
    tables = tuple(dataclasses.replace(t, columns={**t.columns, "ssn": born}) if t is table else t for t in PROTECTION.tables)
    return Planner(dataclasses.replace(PROTECTION, tables=tables), CATALOG, Ciphers(Keyring(lambda: 0.0)))


DATED = dated()


def test_a_cast_to_text_is_shown() -> None:
    plan = DATED.statement(b"SELECT ssn::text, CAST(p.ssn AS varchar) AS v FROM public.patients p", (), VIEW)
    assert plan.sql == b'SELECT ssn AS "ssn", p.ssn AS v FROM public.patients p'
    assert plan.columns is not None
    reveals = [reveal for reveal in plan.columns.reveals if reveal is not None]
    assert [(r.type.name, r.column.shown_of is not None, r.typed, r.cast) for r in reveals] == [
        ("text", True, True, True),
        ("varchar", True, True, True),
    ]
    assert plan.typed


@pytest.mark.parametrize(
    "client",
    [
        "SELECT 1 FROM patients WHERE ssn::text = '2000-01-01'",
        "SELECT 1 FROM patients WHERE ssn = $1::text",
        "SELECT ssn::text FROM patients GROUP BY ssn::text",
        "SELECT count(DISTINCT ssn::text) FROM patients",
        "SELECT DISTINCT ssn::text FROM patients",
        "SELECT left(ssn::text, 4) FROM patients",
        "SELECT ssn::int FROM patients",
        "SELECT ssn::text || 'x' FROM patients",
        "SELECT COALESCE(ssn::text, 'x') FROM patients",
        "SELECT 1 FROM patients a JOIN patients b ON a.ssn::text = b.ssn::text",
        "UPDATE patients SET notes = ssn::text",
        "UPDATE patients SET city = ssn::text",
        "SELECT 1 FROM patients ORDER BY ssn::text",
        "CREATE VIEW v AS SELECT ssn::text FROM patients",
    ],
)
def test_what_a_cast_gives_is_only_shown(client: str) -> None:
    assert ask(client, VIEW, DATED) in ("0A000", "42883", "42846")
