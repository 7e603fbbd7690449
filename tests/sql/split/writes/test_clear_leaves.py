"""Which writes to documents that are in clear in part are split: nothing sealed is moved to where they are in clear."""

from __future__ import annotations

import pytest

from tests.sql.split.writes.records import records_split

MOVED = [
    "UPDATE swapped SET closed = fields || '{}'",
    "UPDATE swapped SET fields = closed || '{}'",
    "INSERT INTO records (id, fields) SELECT r.id + 20, r.fields || '{}' FROM other.records r",
    "UPDATE public.records x SET fields = r.fields || '{}' FROM other.records r WHERE r.id = x.id",
    "MERGE INTO public.records x USING other.records r ON r.id = x.id WHEN MATCHED THEN UPDATE SET fields = r.fields || '{}'",
    "INSERT INTO records (id, fields) SELECT records.id + 20, records.fields || '{}'"
    " FROM (records r CROSS JOIN (SELECT 1) one) AS records (id, ssn, closed, fields)",
    "INSERT INTO records (id, fields) SELECT 5, records.fields || '{}'"
    " FROM records r RIGHT JOIN (SELECT closed AS fields FROM records) s USING (fields) AS records",
]


@pytest.mark.parametrize("statement", MOVED)
def test_what_is_another_column_by_its_name_is_not_moved(statement: str) -> None:
    assert records_split(statement)[0] is None


KEYS = [
    "UPDATE records SET closed = jsonb_set(closed, '{anything}', jsonb_build_object(fields->>'ssn', 1))",
    "UPDATE records SET closed = jsonb_set(closed, '{anything}', fields->'extra')",
    "UPDATE records SET closed = jsonb_set(closed, '{anything}', to_jsonb(closed->'extra'))",
    "UPDATE records SET closed = jsonb_set(closed, '{anything}', (closed->>'extra')::jsonb)",
    "UPDATE records SET closed = jsonb_set(closed, '{anything}', jsonb_object(ARRAY[ssn, 'x']))",
    "UPDATE records SET whole = jsonb_build_object(ssn, 1)",
    "UPDATE records SET whole = jsonb_set(whole, ARRAY[ssn], '1')",
    "UPDATE records SET whole = fields || '{}'",
    "UPDATE records SET whole = (SELECT jsonb_object_agg(r.ssn, 1) FROM records r)",
    "UPDATE records SET whole = replace(whole::text, 'a', 'b')::jsonb",
    "INSERT INTO records (id, whole) SELECT id, jsonb_build_object(upper(ssn), 1) FROM records",
]


@pytest.mark.parametrize("statement", KEYS)
def test_nothing_sealed_becomes_a_key_also_where_all_scalars_are_sealed(statement: str) -> None:
    assert records_split(statement)[0] is None


WITHOUT_KEYS = [
    "UPDATE records SET closed = jsonb_set(closed, '{anything}', to_jsonb(upper(fields->>'ssn')))",
    "UPDATE records SET closed = jsonb_set(closed, '{anything}', to_jsonb($1::text)) WHERE ssn = $1",
    "UPDATE records SET closed = jsonb_set(closed, '{extra}', fields->'extra')",
    "UPDATE records SET fields = fields || jsonb_build_object('ssn', upper(ssn), 'ward', ward)",
    "UPDATE records SET whole = whole || jsonb_build_object('a', upper(ssn), 'b', jsonb_build_object('c', ssn, 'd', ward))",
    "UPDATE records SET whole = jsonb_set(whole, '{a,b}', whole->'c')",
    "UPDATE records SET whole['note'] = to_jsonb(CASE WHEN id = 1 THEN upper(ssn) ELSE ssn || 'x' END)",
    "INSERT INTO records (id, whole) SELECT v.id, jsonb_build_object('a', v.diagnosis::text) FROM visits v",
]


@pytest.mark.parametrize("statement", WITHOUT_KEYS)
def test_scalars_are_computed_where_scalars_are_sealed(statement: str) -> None:
    assert records_split(statement)[0] is not None


DECIDED = [
    "UPDATE records SET fields = CASE WHEN upper(ssn) = 'A' THEN jsonb_set(fields, '{ward}', '1') ELSE fields END",
    "UPDATE records SET fields = CASE left(ssn, 1) WHEN '0' THEN fields - 'ward' ELSE fields END",
    "UPDATE records SET fields = fields || CASE WHEN upper(ssn) = 'A' THEN '{\"ward\": 1}' ELSE '{}' END",
    "UPDATE records SET fields = coalesce(CASE WHEN upper(ssn) = 'A' THEN fields END, '{}')",
    "UPDATE records SET closed = jsonb_set(closed, '{ward}', CASE WHEN upper(ssn) = 'A' THEN '1'::jsonb ELSE '2' END)",
]


@pytest.mark.parametrize("statement", DECIDED)
def test_nothing_sealed_decides_what_is_stored_in_clear(statement: str) -> None:
    assert records_split(statement)[0] is None


IN_PLACE = [
    "UPDATE records SET fields = CASE WHEN upper(ssn) = 'A' THEN jsonb_set(fields, '{ssn}', to_jsonb(ssn)) ELSE fields END",
    "UPDATE records SET fields = CASE WHEN ward = 'A' THEN jsonb_set(fields, '{ward}', '1') ELSE '{}' END",
    "UPDATE swapped SET closed = closed || '{}'",
    "UPDATE swapped s SET fields = jsonb_set(s.fields, '{ward}', '1')",
    "INSERT INTO records (id, fields) SELECT r.id + 20, r.fields || '{}' FROM public.records r",
    "INSERT INTO records (id, fields) SELECT r.id + 20, r.fields || '{}' FROM records r CROSS JOIN (SELECT 1) one",
    "UPDATE other.records x SET fields = r.fields || '{}' FROM other.records r WHERE r.id = x.id",
]


@pytest.mark.parametrize("statement", IN_PLACE)
def test_what_is_the_same_column_stays_in_its_place(statement: str) -> None:
    assert records_split(statement)[0] is not None
