"""What the outputs of a SELECT are computed of: which may be of something protected, and which given values stand in them."""

from __future__ import annotations

import pytest

from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.pg_errors.verdict import types
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.tables_and_columns import tables
from phiproxy.sql.split.writes.traces import Traces
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import VIEW, planner


def traces_of(query: str) -> Traces:
    there = planner(15)
    (statement,) = parse(query.encode())
    a = Analysis(query.encode(), Context(there.protection, there.catalog, VIEW.path, VIEW.database), statement, RULES)
    protected = frozenset((t.relation.oid, c.number) for t in tables(a, statement.body) for c in t.columns if c.protected)
    verdict, _ = types(a, statement.body)
    return Traces(verdict, statement.body, protected)


# For each output: "." is computed of nothing that is, or may be, protected.
SECRETS = {
    "SELECT id, ssn, city, upper(city), city || ssn FROM patients": ".!..!",
    "SELECT *, p.* FROM (SELECT id, ssn, city FROM patients) p": ".!..!.",
    "SELECT x.a, x.b FROM (SELECT city || 'x' AS a, upper(ssn) AS b FROM patients) x": ".!",
    "SELECT x.b, x.a FROM (SELECT city, upper(ssn) FROM patients) x (a, b)": "!.",
    "WITH c (n, m) AS (SELECT city, ssn FROM patients) SELECT m, n, c IS NULL FROM c": "!.!",
    "WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c WHERE n < 3) SELECT n FROM c": "!",
    "SELECT city, ssn FROM patients UNION ALL SELECT ssn, city FROM patients": "!!",
    "SELECT city, msg FROM patients, log UNION ALL SELECT msg, city FROM patients, log": "..",
    "SELECT count(*), max(city) FROM patients": "..",
    "SELECT count(*), max(city) FROM patients WHERE ssn = 'x'": "!!",
    "SELECT count(*) FILTER (WHERE ssn = 'x'), count(*) FILTER (WHERE city = 'x') FROM patients": "!.",
    "SELECT (SELECT count(*) FROM log WHERE log.id = p.id), (SELECT max(p.city) FROM log) FROM patients p WHERE ssn = 'x'": ".!",
    "SELECT (SELECT msg FROM log LIMIT 1), (SELECT msg FROM log WHERE notes = p.ssn) FROM patients p": ".!",
    "SELECT EXISTS (SELECT ssn FROM patients), id IN (SELECT id FROM log), city IN (SELECT ssn FROM patients) FROM patients": "..!",
    "SELECT id, p.city FROM patients p JOIN log USING (id)": "..",
    "SELECT mrn, v.room FROM patients p JOIN visits v USING (mrn)": "!.",
    "SELECT rank() OVER (ORDER BY id), rank() OVER (ORDER BY ssn), rank() OVER w FROM patients WINDOW w AS (ORDER BY id)": ".!.",
    "SELECT count(*) FROM (SELECT city FROM patients ORDER BY ssn LIMIT 3) x": "!",
    "SELECT count(*) FROM (SELECT city FROM patients ORDER BY id LIMIT 3) x": ".",
    "SELECT count(*) FROM (SELECT DISTINCT city FROM patients) x": ".",
    "SELECT count(*) FROM (SELECT DISTINCT ON (ssn) city FROM patients) x": "!",
    "SELECT count(*) FROM (SELECT city FROM patients GROUP BY 1 HAVING count(*) > 1) x": ".",
    "SELECT count(*) FROM (SELECT city AS ssn2, ssn AS s FROM patients GROUP BY s, 1) x": "!",
    "SELECT count(*) FROM (SELECT unnest(ARRAY[city]) FROM patients) x": ".",
    "SELECT count(*) FROM (SELECT unnest(ARRAY[ssn]) FROM patients) x": "!",
    "SELECT count(*) FROM patients p JOIN log l ON l.msg = p.city": ".",
    "SELECT count(*) FROM patients p JOIN log l ON l.msg = p.ssn": "!",
    "SELECT count(*) FROM generate_series(1, 3) g": ".",
    "SELECT count(*) FROM pairs()": "!",
    "SELECT a, b, n FROM unnest('{a}'::text[], '{1}'::int[]) WITH ORDINALITY u (a, b, n)": "...",
    "SELECT a, b, n FROM patients, LATERAL unnest(ARRAY[ssn], ARRAY[city]) WITH ORDINALITY u (a, b, n)": "!..",
    "SELECT count(*) FROM patients, LATERAL unnest(string_to_array(ssn, ' ')) u": "!",
    "SELECT a, b FROM ROWS FROM (unnest('{a}'::text[]), pairs()) u (a, b)": "!!",
    "SELECT random(), now(), current_date, read_ssn(1), setval('s', 1), nextval('s')": "...!..",
    "SELECT CASE WHEN active THEN 'a' END, CASE WHEN ssn = '' THEN 'a' END, row_to_json(p), p.* IS NULL FROM patients p": ".!!!",
}


@pytest.mark.parametrize("query", SECRETS)
def test_what_may_be_protected(query: str) -> None:
    traces = traces_of(query)
    found = [traces.output(traces.body, n).secret for n in range(traces.count(traces.body))]
    assert "".join("!" if one else "." for one in found) == SECRETS[query]


def test_given_values_are_told_by_the_outputs_in_which_they_stand() -> None:
    query = "SELECT v.b, v.a || 'y', x.c FROM (VALUES ('a', 1)) v (a, b), (SELECT city || 'x' AS c FROM patients) x"
    traces = traces_of(query)
    numbers, texts, cities = (traces.output(traces.body, n).given for n in range(3))
    (of_values,) = {key for key in numbers if key[1] == 1}
    assert of_values[0] in {body for body, _ in texts}
    assert (id(traces.body), 1) in texts
    assert not cities & texts
    assert {key for key in traces.given if key in cities} == cities


def test_each_array_that_is_unnested_is_an_output_of_its_own() -> None:
    items = "unnest($1::text[], $2::text[]) u (a, b), unnest($3::text[]) WITH ORDINALITY x (u, n)"
    traces = traces_of(f"SELECT u.b, upper(u.a), x.n, upper(x.u) FROM {items}")
    outputs = [traces.output(traces.body, n) for n in range(4)]
    assert not any(one.secret for one in outputs)
    *texts, numbers, others = ({key for key in one.given if key[0] != id(traces.body)} for one in outputs)
    assert [len(one) for one in (*texts, numbers, others)] == [1, 1, 0, 1]
    assert len({*texts[0], *texts[1], *others}) == 3


def test_so_many_expressions_that_they_are_not_traced() -> None:
    query = "SELECT city AS a FROM patients"
    for _ in range(20):
        query = f"SELECT x.a || x.a AS a FROM ({query}) x"
    traces = traces_of(f"SELECT count(*) FROM ({query}) x WHERE x.a = ''")
    with pytest.raises(Impossible):
        traces.output(traces.body, 0)
