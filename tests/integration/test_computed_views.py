"""Views over expressions of protected columns: created through the proxy, and answered as PostgreSQL answers plain ones."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.fixtures.live import Twins
from tests.harness import results

# The constants stand in the views' rests, and nowhere on the server: `@name1@` and the like are a patient's values.
VIEWS = [
    "CREATE VIEW labels AS SELECT id, full_name || ' (' || ssn || ')' AS label, ssn, city FROM patients",
    "CREATE VIEW ages AS SELECT id, name, age(born) AS years, extract(year FROM born) AS y FROM people",
    "CREATE VIEW chosen AS SELECT *, upper(full_name) AS loud FROM patients WHERE full_name > 'B' AND city = 'Springfield'",
    "CREATE VIEW is_first AS SELECT id, city, ssn = '@ssn1@' AS first FROM patients",
    "CREATE VIEW only_first AS SELECT id, full_name FROM patients WHERE ssn = '@ssn1@' OR full_name || '' = '@name2@'",
    "CREATE VIEW visited (patient, what, room, on_day) AS"
    " SELECT p.id, p.full_name || ': ' || v.diagnosis, v.room, current_date FROM patients p JOIN visits v ON v.mrn = p.mrn",
    "CREATE VIEW by_city AS SELECT city, max(full_name) AS last, count(*) AS n, string_agg(notes, ',' ORDER BY id) AS notes"
    " FROM patients GROUP BY city",
    "CREATE VIEW names AS SELECT full_name AS name FROM patients UNION SELECT upper(name) FROM people",
    "CREATE VIEW barred WITH (security_barrier) AS SELECT id, upper(full_name) AS loud, city FROM patients WHERE full_name > 'B'",
    "CREATE VIEW top AS SELECT id, lower(full_name) AS low FROM patients ORDER BY full_name LIMIT 3",
    "CREATE VIEW first_ids AS SELECT id, lower(full_name) AS low FROM patients ORDER BY id LIMIT 3",
    "CREATE VIEW loudest AS SELECT id, label || '!' AS loud, ssn FROM labels WHERE city = 'Springfield'",
    "CREATE VIEW labelled AS SELECT label, id FROM labels",
]
STATEMENTS = [
    "SELECT * FROM labels ORDER BY id",
    "SELECT label FROM labels WHERE id = 3",
    "SELECT label FROM labels WHERE ssn = '@ssn1@'",
    "SELECT id FROM labels WHERE label LIKE '%@ssn1@%'",
    "SELECT id, label FROM labels ORDER BY label DESC LIMIT 2",
    "SELECT id, label FROM labels ORDER BY id LIMIT 2 OFFSET 1",
    "SELECT l.label, v.room FROM labels l JOIN visits v ON v.patient_id = l.id WHERE l.city = 'Springfield' ORDER BY 1, 2",
    "SELECT l.label, v.room FROM labels l LEFT JOIN visits v ON v.patient_id = l.id ORDER BY 1, 2",
    "SELECT p.id, coalesce(label, 'no') FROM patients p LEFT JOIN labels l ON l.id = p.id AND l.city = 'Springfield' ORDER BY 1",
    "SELECT count(*), max(label) FROM labels",
    "SELECT city, count(DISTINCT label) FROM labels GROUP BY city ORDER BY 1",
    "SELECT a.label FROM labels AS a (b, label) WHERE a.b < 3 ORDER BY 1",
    "SELECT x.what FROM labels x (who, what) WHERE who = 2",
    "SELECT id FROM patients WHERE id IN (SELECT id FROM labels WHERE label > 'M') ORDER BY id",
    "SELECT id FROM patients p WHERE EXISTS (SELECT FROM labels l WHERE l.id = p.id AND l.label > 'M') ORDER BY id",
    "WITH l AS (SELECT * FROM labels) SELECT label FROM l WHERE id < 3 ORDER BY 1",
    "SELECT q.label FROM (SELECT label, id FROM labels WHERE id < 4) q ORDER BY 1",
    "SELECT label FROM labels UNION ALL SELECT loud FROM chosen ORDER BY 1",
    "SELECT label, row_number() OVER (ORDER BY label) FROM labels ORDER BY 2",
    "SELECT row_to_json(l) FROM labels l ORDER BY l.id",
    "SELECT l.* FROM labels l, ages a WHERE a.id = l.id ORDER BY l.id",
    "SELECT * FROM labels NATURAL JOIN (SELECT id FROM visits) v ORDER BY id",
    "SELECT * FROM labels JOIN chosen USING (id) ORDER BY id",
    "SELECT label FROM labels WHERE id = 1 FOR UPDATE",
    "SELECT nothing FROM labels",
    "SELECT id FROM labels WHERE label > 3",
    "TABLE labels",
    "SELECT * FROM ages ORDER BY id",
    "SELECT name FROM ages WHERE years > interval '30 years' ORDER BY id",
    "SELECT * FROM chosen ORDER BY id",
    "SELECT loud FROM chosen WHERE id > 1 AND active ORDER BY id LIMIT 2",
    "SELECT loud FROM chosen WHERE id > 1 LIMIT 1000",
    "SELECT * FROM is_first ORDER BY id",
    "SELECT * FROM only_first ORDER BY id",
    "SELECT full_name FROM only_first WHERE id = 1",
    "SELECT * FROM visited ORDER BY 1, 2, 3",
    "SELECT what FROM visited WHERE patient = 1 AND room IS NOT NULL ORDER BY 1",
    "SELECT v.what, c.loud FROM visited v JOIN chosen c ON c.id = v.patient ORDER BY 1, 2",
    "SELECT city, last, n FROM by_city ORDER BY city",
    "SELECT last FROM by_city WHERE city = 'Springfield'",
    "SELECT n FROM by_city WHERE n > 1 ORDER BY last LIMIT 1",
    "SELECT name FROM names ORDER BY name",
    "SELECT loud FROM barred WHERE id > 0 AND city = 'Springfield' ORDER BY 1",
    "SELECT * FROM top ORDER BY id",
    "SELECT * FROM first_ids WHERE id > 1 ORDER BY id",
    "SELECT * FROM loudest ORDER BY id",
    "SELECT loud FROM loudest WHERE ssn = '@ssn1@'",
    "SELECT * FROM labelled ORDER BY id",
    "SELECT labels FROM labels ORDER BY id",
    "SELECT l, l.label, l = l, l IS NULL, (l).label, l::text FROM labels l WHERE l.id < 3 ORDER BY l.label",
    "SELECT c FROM by_city c ORDER BY c",
    "SELECT x FROM labels x (a, b) ORDER BY a",
    "SELECT p.id, l FROM patients p LEFT JOIN labels l ON l.id = p.id AND l.city = 'Springfield' ORDER BY 1",
    "SELECT count(DISTINCT l), row_to_json(max(l.id)) FROM labels l",
    "SELECT json_agg(l ORDER BY l.id), jsonb_build_object('c', (SELECT c FROM by_city c ORDER BY c.city LIMIT 1)) FROM labels l",
    "SELECT coalesce(l, l), label(l), l::labels FROM labels l ORDER BY l.id",
    "SELECT q.l, (q.l).label FROM (SELECT l FROM labels l WHERE id < 3) q ORDER BY 2",
    "SELECT c FROM by_city c UNION ALL SELECT c FROM by_city c WHERE n > 1",
    "SELECT array_agg(b)::text, pg_typeof(array_agg(b))::text FROM barred b",
]  # fmt: skip


@pytest.fixture(scope="module")
def _views(all_split_twins: Twins) -> Iterator[None]:
    """The views, for as long as this module lasts."""
    for view in VIEWS:
        made = all_split_twins.both.run(_filled(all_split_twins, view), protocol="simple")
        assert (made.sqlstate, made.tag) == (None, "CREATE VIEW"), view
    all_split_twins.nothing_leaked()
    yield
    names = ", ".join(view.split()[2] for view in VIEWS)
    assert all_split_twins.both.run(f"DROP VIEW {names}", protocol="simple").tag == "DROP VIEW"


@pytest.fixture
def twins(_views: None, kept_split_twins: Twins) -> Twins:
    """One seeded clinic with the views, and an engine; the leak oracle at the end."""
    return kept_split_twins


def _filled(twins: Twins, text: str) -> str:
    for word in ("ssn1", "name1", "name2"):
        text = text.replace(f"@{word}@", twins.value(word))
    return text


@pytest.mark.parametrize("statement", STATEMENTS)
def test_as_postgresql(twins: Twins, statement: str) -> None:
    twins.everywhere(_filled(twins, statement), ())


@pytest.mark.parametrize("statement", ["SELECT * FROM by_city FOR UPDATE", "SELECT c.n FROM visits v, by_city c FOR SHARE OF c"])
def test_rows_of_groups_are_not_locked(twins: Twins, statement: str) -> None:
    assert results.simple(twins.both.plain, statement)[0].sqlstate == "0A000"
    twins.both.refused(statement)


def test_it_stays_what_it_is(twins: Twins) -> None:
    stored = results.simple(twins.both.proxied, "SELECT pg_get_viewdef('labels'::regclass)")[0].rows
    assert "' ('" not in str(stored)
    with (
        psycopg.connect(twins.clinic.site.sealed_dsn) as conn,
        pytest.raises(psycopg.errors.UndefinedObject, match=r"phiproxy\.computes"),
    ):
        conn.execute("SELECT label FROM labels")
