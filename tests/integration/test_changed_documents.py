"""Documents with sealed fields that the server changes, without an engine: new values are sealed by their place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.docs.pages import DOCS
from tests.harness.oracle import LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.test_document_fields import DDL, POLICY, Both

ALL = "SELECT * FROM charts ORDER BY id"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(postgres_server, tmp_path_factory.mktemp("changed"), policy=POLICY, ddl=DDL) as site:
        yield site


@pytest.fixture
def oracle(site: Site) -> Iterator[LeakOracle]:
    site.tap.reset()
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: [site.proxy.log_path], of_many=True)
    yield oracle
    oracle.assert_no_leak()


@pytest.fixture
def both(site: Site, oracle: LeakOracle) -> Iterator[Both]:
    both, plant = Both(site), oracle.plant
    document = {
        "ssn": plant("ssn"),
        "name": {"family": plant("name"), "given": ["Ada"]},
        "history": [{"note": plant(), "on": "2020"}, None],
        "age": 34,
        "extra": {"a": [plant()]},
        "ward": "B2",
    }
    closed = {"ssn": plant("ssn"), "name": [plant()], "ward": "W", "meta": {"at": "noon", "by": plant()}, "n": [1, plant()]}
    rows = [(1, Jsonb(document), Jsonb(closed)), (2, Jsonb({"ward": "B3"}), Jsonb({"n": {"0": 1}})), (3, None, None)]
    for conn in (both.plain, both.proxied):
        conn.execute("DELETE FROM charts")
        for row in rows:
            conn.execute("INSERT INTO charts (id, doc, closed) VALUES (%s, %s, %s)", row)
    try:
        yield both
    finally:
        both.close()


def stored(site: Site, column: str = "doc") -> dict[str, Any]:
    with psycopg.connect(site.sealed_dsn) as conn:
        (document,) = conn.execute(f"SELECT {column} FROM charts WHERE id = 1".encode()).fetchone() or ({},)
        assert isinstance(document, dict)
        return document


# Each with a value that nobody may see; of which type it is comes last.
CHANGES = [
    ("doc = jsonb_set(doc, '{ssn}', %s)", Jsonb),
    ("doc = jsonb_set(doc, '{name}', jsonb_build_object('family', %s::text, 'given', ward) - 'x') || '{}'", None),
    ("doc = jsonb_set(doc, '{name,family}', to_jsonb(%s::text))", str),
    ("doc = jsonb_set(doc, '{name,family}', to_jsonb(%s::varchar(3)))", str),
    ("doc = jsonb_set(doc, '{history,0,note}', %s::jsonb, false)", Jsonb),
    ("doc = jsonb_insert(doc, '{history,0}', jsonb_build_object('note', %s::text, 'on', id))", str),
    ("doc = jsonb_set_lax(doc, '{ssn}', %s, true, 'return_target')", Jsonb),
    ("doc = doc || jsonb_build_object('ssn', %s::text, 'age', 41, 'ward', 'of ' || id, 'odd key''s', 1.50)", str),
    ("doc = CAST(doc AS jsonb) || jsonb_build_object('extra', %s::text)", str),
    ("doc = (jsonb_set(coalesce(doc, '{}'), '{extra}', %s) - 'ward' #- '{name,given}')::jsonb", Jsonb),
    ("doc['ssn'] = %s", Jsonb),
    ("doc['name']['family'] = to_jsonb(%s::text), doc['ward'] = to_jsonb(id), mrn = 'x'", str),
    ("doc['history'][-1] = jsonb_build_object('note', %s::text)", str),
    ("closed = jsonb_set(closed, '{meta}', jsonb_build_object('at', now()::date = 'infinity', 'by', %s::text))", str),
    ("closed = closed || jsonb_build_object('more', jsonb_build_object('a b', %s::text, 'n', NULL, 'no', false))", str),
    ("closed['meta']['it''s'] = %s", Jsonb),
    ("closed['name'] = %s", Jsonb),
    ("closed = closed #- '{n,0}' #- '{meta,by}' || jsonb_build_object('ssn', %s::text)", str),
]


@pytest.mark.parametrize(("change", "kind"), [one for one in CHANGES if one[1] is not None])
@pytest.mark.parametrize("binary", [False, True])
def test_a_change_is_what_it_is_without_encryption(both: Both, oracle: LeakOracle, change: str, kind: Any, binary: bool) -> None:
    given = "%b" if binary else "%s"
    for id_ in (1, 2, 3):
        statement = f"UPDATE charts SET {change} WHERE id = {id_} RETURNING doc, closed, doc->>'ssn'".replace("%s", given)
        both.same(statement, [kind(oracle.plant())], binary=binary)
    both.same(f"UPDATE charts SET {change}".replace("%s", "NULL"))
    both.same(ALL)


def test_what_is_not_changed_stays_as_it_is_stored_and_what_is_is_found(site: Site, both: Both, oracle: LeakOracle) -> None:
    before, ssn = stored(site), oracle.plant("ssn")
    both.same("UPDATE charts SET doc = jsonb_set(doc, '{ssn}', to_jsonb(%s::text)) WHERE id = 1", [ssn])
    after = stored(site)
    assert before["ssn"] != after["ssn"]
    assert {**after, "ssn": 0} == {**before, "ssn": 0}
    both.same("SELECT id, doc FROM charts WHERE doc->>'ssn' = %s AND right(doc->>'ssn', 4) = %s", [ssn, ssn[-4:]])
    both.same("SELECT id FROM charts WHERE doc @> %s", [Jsonb({"ssn": ssn, "ward": "B2"})])


def test_numbers_and_truth_values_are_made_json(both: Both) -> None:
    both.same("UPDATE charts SET doc['age'] = to_jsonb(%s::int2), doc['extra'] = to_jsonb(%s::bool)", [7, True], binary=True)
    for number in ("1.50", "-0.0", "1e3", "NaN", "Infinity", "123456789012345678901234567890.10"):
        both.same("UPDATE charts SET doc = doc || jsonb_build_object('extra', %s::numeric) WHERE id = 1", [number])
        both.same("SELECT doc->>'extra' FROM charts ORDER BY id")
    both.same("""UPDATE charts SET doc['odd key''s'] = '1.500', doc['extra'] = '{"b": [1.0, 1.00]}' WHERE id = 1""")
    both.same("SELECT doc::text FROM charts ORDER BY id")


def test_a_prepared_change_is_sealed_anew_each_time(site: Site, both: Both, oracle: LeakOracle) -> None:
    seen = set()
    for _ in range(7):
        both.same("UPDATE charts SET doc['ssn'] = %s WHERE id = 1", [Jsonb(oracle.plant())])
        seen.add(stored(site)["ssn"])
    assert len(seen) == 7
    for conn in (both.plain, both.proxied):
        change = "doc = doc || $1, closed = jsonb_set(closed, '{x}', to_jsonb($2))"
        conn.execute(f"PREPARE put (jsonb, text) AS UPDATE charts SET {change}".encode())
        conn.execute("""EXECUTE put ('{"ward": "C", "ssn": "9"}', 'nine')""")
    both.same(ALL)


def test_the_same_shape_with_another_path_is_understood_anew(both: Both, oracle: LeakOracle) -> None:
    for path in ("ssn", "ward", "age", "name"):
        both.same(f"UPDATE charts SET doc = doc #- '{{{path}}}' WHERE id = 1")
    for path in ("ssn", "extra"):
        both.same(f"UPDATE charts SET doc = jsonb_set(doc, '{{{path}}}', '\"{oracle.plant()}\"') WHERE id = 1")
    both.refused("UPDATE charts SET doc = doc #- '{extra,a}' WHERE id = 1")
    both.refused("UPDATE charts SET doc = jsonb_set(doc, '{name,family,x}', '1')")
    both.same(ALL)


def test_jsons_null_is_joined_with_nothing(both: Both) -> None:
    """PostgreSQL makes an array of it, which the policy says no document is."""
    for conn in (both.plain, both.proxied):
        conn.execute("UPDATE charts SET doc = 'null' WHERE id = 1")
    as_it_is = "jsonb_set_lax(doc, '{a}', NULL, true, 'return_target')"
    for joined in ("doc || '{}'", "'{\"a\": 1}'::jsonb || doc", "coalesce(doc, '{}') || '{}'", f"{as_it_is} || '{{}}'"):
        both.refused(f"UPDATE charts SET doc = {joined} WHERE id = 1", sqlstate="22023")
    both.refused("UPDATE charts SET doc = doc || 'null' WHERE id = 2", sqlstate="22023")
    both.refused("UPDATE charts SET doc = doc || '[1]' WHERE id = 2", sqlstate="22P02")
    both.same("UPDATE charts SET doc = doc - 'a' WHERE id = 1")
    both.same("UPDATE charts SET doc['a'] = '1' WHERE id = 1")


REFUSED = [
    "doc = jsonb_set(doc, '{extra,a}', '1')",
    "doc['name'][0] = '1'",
    "doc['history']['x'] = '1'",
    "doc['history']['99999999999']['note'] = '1'",
    "doc['ssn'] = doc['name']['family']",
    "doc['ssn'] = doc",
    "doc['ward'] = doc->'ssn'",
    "doc = doc || closed",
    "doc = doc || jsonb_build_object('ward', doc->'ssn')",
    "doc = doc || jsonb_build_object(doc->>'ssn', 1)",
    "doc = doc || jsonb_build_object('history', jsonb_build_object('note', 'x'))",
    "doc = doc || (doc->'name')",
    "doc = to_jsonb(charts)",
    "closed = jsonb_set(closed, '{n,0}', '1')",
    "closed['n'][0] = '1'",
    "closed = jsonb_set(closed, '{more}', to_jsonb(ssn))",
    "doc = jsonb_strip_nulls(doc)",
]


@pytest.mark.parametrize("change", REFUSED)
def test_what_is_not_known_by_its_place_is_refused(both: Both, change: str) -> None:
    both.refused(f"UPDATE charts SET {change}")


def test_a_value_of_another_kind_is_refused_by_its_path(both: Both, oracle: LeakOracle) -> None:
    value = oracle.plant()
    for change in ("doc['age'] = %s", "doc = jsonb_set(doc, '{name}', %s)", "doc['history'] = %s", "doc['history'][0] = %s"):
        error = both.refused(f"UPDATE charts SET {change} WHERE id = 1", [Jsonb(value)], sqlstate="22P02")
        assert "$." in str(error)
        assert value not in str(error)


def test_a_function_of_ones_own_is_another_one(both: Both) -> None:
    for conn in (both.plain, both.proxied):
        conn.execute(
            "CREATE FUNCTION public.jsonb_set(jsonb, text, jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT $1 -> 'name' $$"
        )
    try:
        both.refused("UPDATE charts SET doc = jsonb_set(doc, '{ssn}', '\"1\"')")
        both.same("UPDATE charts SET doc = pg_catalog.jsonb_set(doc, '{ssn}', '\"1\"')")
    finally:
        for conn in (both.plain, both.proxied):
            conn.execute("DROP FUNCTION public.jsonb_set(jsonb, text, jsonb)")
        both.same(ALL)  # behind DDL of its own a session has the catalogue read, which the sessions of other tests see too


def test_an_operator_of_ones_own_is_another_one(both: Both) -> None:
    for conn in (both.plain, both.proxied):
        conn.execute("CREATE FUNCTION public.tail(jsonb, text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT $1 -> 'name' $$")
        conn.execute("CREATE OPERATOR public.|| (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = public.tail)")
    try:
        both.refused("UPDATE charts SET doc = doc || '{}'")
        both.same("UPDATE charts SET doc = doc OPERATOR(pg_catalog.||) '{}'::jsonb")
    finally:
        for conn in (both.plain, both.proxied):
            conn.execute("DROP OPERATOR public.|| (jsonb, text)")
            conn.execute("DROP FUNCTION public.tail(jsonb, text)")
        both.same(ALL)


def test_a_view_is_written_through(both: Both, oracle: LeakOracle) -> None:
    both.same("CREATE VIEW seen AS SELECT id AS n, doc AS record FROM charts")
    both.same("UPDATE seen SET record = jsonb_set(record, '{ssn}', %s) - 'ward' WHERE n = 1", [Jsonb(oracle.plant())])
    both.same("UPDATE seen SET record['name']['family'] = %s WHERE n = 1", [Jsonb(oracle.plant())])
    both.same("SELECT * FROM seen ORDER BY n")
    both.same("DROP VIEW seen")


def test_leaves_of_several_keys_are_sealed_anew(site: Site, both: Both, oracle: LeakOracle) -> None:
    site.cli("keys", "rotate")
    both.same("UPDATE charts SET doc['ssn'] = %s WHERE id = 1", [Jsonb(oracle.plant())])
    both.same(ALL)
    assert "is done" in site.cli("recrypt")
    both.same(ALL)


def test_one_parameter_at_several_places(both: Both, oracle: LeakOracle) -> None:
    given: Any = {"a": Jsonb(oracle.plant()), "b": oracle.plant()}
    both.same("UPDATE charts SET doc = jsonb_set(jsonb_set(doc, '{ssn}', %(a)s), '{extra}', %(a)s), closed['x'] = %(a)s", given)
    both.same("UPDATE charts SET doc = doc || jsonb_build_object('ssn', %(b)s::text, 'extra', %(b)s::text), ssn = %(b)s", given)
    both.same(ALL)


def test_long_values(both: Both, oracle: LeakOracle) -> None:
    long: Any = [oracle.plant()] * 20_000
    both.same("UPDATE charts SET doc['extra'] = %s, closed = closed || jsonb_build_object('more', 1) WHERE id = 1", [Jsonb(long)])
    both.same("UPDATE charts SET doc = jsonb_set(doc, '{ssn}', to_jsonb(%s::text)) WHERE id = 1", ["".join(long)])
    document = {"ward": "x" * 100_000, "history": [{"note": "n"}] * 9_000}
    both.same("UPDATE charts SET doc = doc || %s WHERE id < 3", [Jsonb(document)])
    both.same(ALL)


def test_the_examples_of_the_documentation_are_answered(both: Both) -> None:
    section = (DOCS / "documents.md").read_text().partition("### Documents that are changed\n")[2]
    examples = section.partition("```sql\n")[2].partition("```")[0].strip().removesuffix(";").split(";\n")
    for example in examples:
        both.same(example.replace("$1", "'x'").replace("$2", "'y'"))
    both.same(ALL)
    assert len(examples) == 5


def test_a_value_is_told_by_its_field_in_explain(site: Site) -> None:
    assert "sealed for public.charts.doc$.ssn" in site.cli("explain", "UPDATE charts SET doc = jsonb_set(doc, '{ssn}', $1)")
