"""Given values that come to where a document is in clear stand nowhere else: not where they meet something sealed."""

from __future__ import annotations

import pytest

from tests.sql.split.writes.records import records_split

_V = "(VALUES (1, $1::text, {}::text)) AS v (id, s, w)"

MET = [
    "UPDATE records SET fields = jsonb_set(fields, '{ward}', to_jsonb($1::text)) WHERE ssn = $1",
    "UPDATE records SET fields = jsonb_set(fields, ARRAY[$1::text], '1') WHERE ssn = $1",
    "UPDATE records SET fields = fields || jsonb_build_object('ward', 'abc') WHERE fields->>'ssn' = 'abc'",
    "UPDATE records SET fields['ward'] = to_jsonb($1::text), ssn = $1",
    "UPDATE records SET fields = jsonb_set(jsonb_set(fields, '{ward}', to_jsonb($1::text)), '{ssn}', to_jsonb($1::text))",
    "INSERT INTO records (id, ssn, fields) VALUES (1, upper($1), jsonb_build_object('ward', $1::text))",
    "INSERT INTO records AS r (id, fields) VALUES (1, $1)"
    " ON CONFLICT (id) DO UPDATE SET fields = r.fields || jsonb_build_object('ward', $2::text), ssn = $2",
    f"UPDATE records SET fields = fields || jsonb_build_object('ward', v.w), ssn = v.s FROM {_V.format('$1')}"
    " WHERE v.id = records.id",
    "UPDATE records SET fields = fields || jsonb_build_object('ward', v.w), ssn = v.s"
    " FROM unnest($1::int[], $2::text[], $2::text[]) v (id, s, w) WHERE v.id = records.id",
    f"UPDATE records SET fields = fields || jsonb_build_object('ward', v.w) FROM {_V.format('$2')} WHERE upper(ssn) = w",
    f"UPDATE records r SET fields = r.fields || jsonb_build_object('ward', v.w) FROM {_V.format('$2')} WHERE upper(ssn) = v::text",
    f"MERGE INTO records r USING {_V.format('$2')} ON r.id = v.id"
    " WHEN MATCHED AND upper(r.ssn) = v.w THEN UPDATE SET fields = r.fields || jsonb_build_object('ward', v.w)",
    "WITH x AS (UPDATE records SET fields = fields || jsonb_build_object('ward', $1::text) WHERE id = 1),"
    " y AS (UPDATE visits SET diagnosis = upper($1)) SELECT 1",
    "UPDATE records SET fields = fields || CASE WHEN upper($1) > 'A' THEN jsonb_build_object('ward', 1)"
    " ELSE jsonb_build_object('ward', 2) END WHERE upper(ssn) = $1",
    "UPDATE records SET fields = CASE left($1, 1) WHEN '0' THEN fields - 'ward' ELSE fields END WHERE upper(ssn) = $1",
]


@pytest.mark.parametrize("statement", MET)
def test_a_value_that_meets_something_sealed_is_not_stored_in_clear(statement: str) -> None:
    split, refusal = records_split(statement)
    assert split is None
    assert "parameters of their own" in str(refusal.hint)


APART = [
    "UPDATE records SET fields = jsonb_set(fields, '{ward}', to_jsonb($1::text)) WHERE ssn = $2",
    "UPDATE records SET fields = fields || jsonb_build_object('ward', upper(ward)) WHERE fields->>'ward' = 'A' AND upper(ssn) = ''",
    "UPDATE records SET fields = coalesce(fields, '{}') || '{\"a\": 1}', closed = coalesce(closed, '{}') || '{\"b\": 2}'",
    f"UPDATE records SET fields = fields || jsonb_build_object('ward', v.w, 'id', v.id), ssn = v.s FROM {_V.format('$2')}"
    " WHERE v.id = records.id",
    "UPDATE records SET fields = fields || jsonb_build_object('ward', v.w), ssn = v.s"
    " FROM unnest($1::int[], $2::text[], $3::text[]) v (id, s, w) WHERE v.id = records.id",
    "INSERT INTO records (id, ssn, fields) VALUES (1, upper($1), jsonb_build_object('ward', $2::text))",
]


@pytest.mark.parametrize("statement", APART)
def test_values_that_meet_nothing_sealed_may_be_stored_in_clear(statement: str) -> None:
    split, _ = records_split(statement)
    assert split is not None
