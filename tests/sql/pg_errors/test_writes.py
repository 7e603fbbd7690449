"""Writes: what PostgreSQL refuses in what they assign."""

from __future__ import annotations

import pytest

from tests.sql.pg_errors.ask import said, verdict

MERGE = "MERGE INTO visits v USING patients p ON p.id = v.patient_id "


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        (
            "INSERT INTO visits (id) SELECT ssn FROM patients",
            "42804",
            'column "id" is of type integer but expression is of type text',
        ),
        ("INSERT INTO visits VALUES (true)", "42804", 'column "id" is of type integer but expression is of type boolean'),
        ("INSERT INTO stays VALUES (1, 5)", "42804", 'column "born" is of type date but expression is of type integer'),
        (
            "UPDATE stays SET born = $1 WHERE word = $1::text",
            "42804",
            'column "born" is of type date but expression is of type text',
        ),
        ("UPDATE stays SET born = bed", "42804", 'column "born" is of type date but expression is of type integer'),
        (
            "UPDATE visits v SET id = p.ssn FROM patients p",
            "42804",
            'column "id" is of type integer but expression is of type text',
        ),
        (
            "INSERT INTO visits VALUES (1) ON CONFLICT (id) DO UPDATE SET id = excluded.mrn",
            "42804",
            'column "id" is of type integer but expression is of type character varying',
        ),
        (
            "INSERT INTO visits VALUES (1) ON CONFLICT (id) DO UPDATE SET room = 'x' WHERE visits.id = excluded.mrn",
            "42883",
            "operator does not exist: integer = character varying",
        ),
        ("DELETE FROM log v USING patients p WHERE p.id = v.msg", "42883", "operator does not exist: integer = text"),
        ("DELETE FROM visits RETURNING mrn + 1", "42883", "operator does not exist: character varying + integer"),
        *(
            (text, "42P10", f'invalid reference to FROM-clause entry for table "{label}"')
            for label, text in (
                ("patients", "UPDATE patients SET notes = upper(notes) FROM LATERAL (SELECT patients.id) x"),
                ("patients", "UPDATE patients SET notes = upper(notes) FROM LATERAL (SELECT public.patients.id) x"),
                ("p", "UPDATE patients p SET notes = upper(p.notes) FROM visits v, LATERAL (SELECT v.id, notes) x"),
                ("p", "UPDATE patients p SET notes = upper(p.notes) FROM LATERAL (SELECT p) x"),
                ("p", "UPDATE patients p SET notes = upper(p.notes) FROM LATERAL (SELECT ctid) x"),
                ("p", "DELETE FROM patients p USING visits v JOIN LATERAL (SELECT 1 WHERE v.id = p.id) x ON true"),
                ("p", "DELETE FROM patients p USING unnest(ARRAY[p.ssn]) x"),
                ("p", "WITH w AS (DELETE FROM patients p USING LATERAL (SELECT p.*) x RETURNING 1) SELECT 1 FROM patients"),
            )
        ),
    ],
)
def test_what_does_not_fit(text: str, state: str, words: str) -> None:
    error = said(text)
    assert error is not None
    assert error[:2] == (state, words)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO visits (diagnosis, patient_id) VALUES (5, '1'), (true, 2.5), (DEFAULT, DEFAULT)",
        "INSERT INTO stays (born) SELECT admitted FROM stays",
        "INSERT INTO visits DEFAULT VALUES",
        "UPDATE patients SET notes = upper(notes), city = 'x'",
        "UPDATE patients p SET notes = upper(p.notes) FROM visits v, LATERAL (SELECT v.room, p.id FROM visits p) x WHERE x.id = 1",
        "UPDATE patients p SET notes = upper(p.notes) FROM unnest(ARRAY[1]) g, LATERAL (SELECT id FROM visits) x WHERE x.id = 1",
        "UPDATE visits SET (diagnosis, room) = (SELECT p.ssn, upper(p.notes) FROM patients p LIMIT 1)",
        "INSERT INTO charts (doc['a'], doc['b']) VALUES ('1', '2')",
        "UPDATE charts SET doc['a'] = '1', doc['b'] = '2'",
        "UPDATE stays SET born = $1, admitted = $1 WHERE $1::date IS NULL",
        "INSERT INTO stays (born, admitted) VALUES ($1, $2), ($1, $2)",
        "UPDATE stays SET word = $1::text WHERE born = $1",
        "UPDATE stays s SET word = $1::text FROM people p WHERE p.id = s.id RETURNING s.born = $1",
    ],
)
def test_nothing_is_said_of_a_statement_that_may_fit(text: str) -> None:
    assert said(text) is None


@pytest.mark.parametrize(
    ("text", "state", "words", "at"),
    [
        ("INSERT INTO patients (id, id, ssn) VALUES (1, 2, 'x')", "42701", 'column "id" specified more than once', 27),
        ("INSERT INTO charts (doc, doc['a']) VALUES ('{}', '1')", "42701", 'column "doc" specified more than once', 26),
        (MERGE + "WHEN NOT MATCHED THEN INSERT (id, id) VALUES (1, 2)", "42701", 'column "id" specified more than once', 95),
        ("INSERT INTO patients (id, ctid) VALUES (1, '(0,1)')", "42703", 'column "ctid" of relation "patients" does not exist', 27),
        ("UPDATE patients SET ctid = '(0,1)'", "0A000", 'cannot assign to system column "ctid"', 21),
        ("UPDATE patients SET notes = 'a', notes = 'b'", "42601", 'multiple assignments to same column "notes"', 34),
        ("UPDATE charts SET doc['a'] = '1', doc = '{}'", "42601", 'multiple assignments to same column "doc"', 35),
        (
            "INSERT INTO visits (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET room = 'a', room = 'b'",
            "42601",
            'multiple assignments to same column "room"',
            79,
        ),
        (
            MERGE + "WHEN MATCHED THEN UPDATE SET room = 'a', room = p.city",
            "42601",
            'multiple assignments to same column "room"',
            102,
        ),
        ("INSERT INTO stays (born, admitted) VALUES ($1, $1)", "42P08", "inconsistent types deduced for parameter $1", 48),
        ("UPDATE stays SET born = $1, admitted = $1", "42P08", "inconsistent types deduced for parameter $1", 40),
        ("UPDATE patients SET notes[1] = DEFAULT", "0A000", "cannot set an array element to DEFAULT", 21),
        ("UPDATE patients SET (notes[1], city) = (DEFAULT, 'x')", "0A000", "cannot set an array element to DEFAULT", 22),
        ("UPDATE patients SET notes.x = DEFAULT", "0A000", "cannot set a subfield to DEFAULT", 21),
        ("INSERT INTO patients (id, notes[1]) VALUES (1, DEFAULT)", "0A000", "cannot set an array element to DEFAULT", 27),
        ("UPDATE patients SET (ssn, city) = ('a', 'b', 'c')", "42601", "number of columns does not match number of values", 35),
        ("UPDATE patients SET (ssn, city) = (SELECT 'a')", "42601", "number of columns does not match number of values", 35),
        (
            "UPDATE patients SET (ssn, visits_count) = ('a', ssn)",
            "42804",
            'column "visits_count" is of type integer but expression is of type text',
            49,
        ),
    ],
)
def test_what_is_assigned(text: str, state: str, words: str, at: int) -> None:
    error = verdict(text)
    assert error is not None
    assert (error.sqlstate, error.message, error.position) == (state, words, at)


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        (MERGE + "AND p.ssn WHEN MATCHED THEN DELETE", "42804", "argument of AND must be type boolean, not type text"),
        (MERGE + "WHEN MATCHED AND p.id THEN DELETE", "42804", "argument of WHEN must be type boolean, not type integer"),
        (
            MERGE + "WHEN MATCHED THEN UPDATE SET patient_id = p.ssn",
            "42804",
            'column "patient_id" is of type integer but expression is of type text',
        ),
        (
            MERGE + "WHEN NOT MATCHED THEN INSERT (id, patient_id) VALUES (1, p.ssn)",
            "42804",
            'column "patient_id" is of type integer but expression is of type text',
        ),
        ("INSERT INTO patients (ssn[1]) VALUES ('x')", "42804", "cannot assign to a part of a column of type text"),
    ],
)
def test_merge_and_parts_of_columns(text: str, state: str, words: str) -> None:
    error = said(text)
    assert error is not None
    assert error[:2] == (state, words)


def test_what_merge_may_do() -> None:
    assert said(MERGE + "WHEN MATCHED THEN UPDATE SET diagnosis = p.ssn WHEN NOT MATCHED THEN INSERT (id) VALUES (p.id)") is None


@pytest.mark.parametrize(
    "target",
    [
        ("patients (ssn) VALUES ('x')", "(city) DO UPDATE SET ssn = patients.ssn || 'x'"),
        ("patients (notes) VALUES ('x')", "(notes) DO NOTHING"),
        ("patients (ssn) VALUES ('x')", "(city, id) DO UPDATE SET ssn = patients.ssn || 'x'"),
        ("members (mrn) VALUES ('x')", "(mrn, email) DO UPDATE SET email = members.email || 'x'"),
    ],
)
def test_on_conflict_of_no_unique_index_has_no_position(target: tuple[str, str]) -> None:
    error = verdict("INSERT INTO {} ON CONFLICT {}".format(*target))
    assert error is not None
    assert (error.sqlstate, error.position) == ("42P10", None)
    assert error.message == "there is no unique or exclusion constraint matching the ON CONFLICT specification"


@pytest.mark.parametrize("target", ["(mrn)", "(lower(city))", "(nothing)", "(id)", "ON CONSTRAINT members_pkey"])
def test_on_conflict_of_what_may_be_a_unique_index(target: str) -> None:
    assert said(f"INSERT INTO members (mrn) VALUES ('x') ON CONFLICT {target} DO UPDATE SET email = members.email || 'x'") is None


def test_a_view_of_more_names_than_columns_has_no_position() -> None:
    error = verdict("CREATE VIEW v (a, b) AS SELECT upper(ssn) FROM patients")
    assert error is not None
    assert (error.sqlstate, error.message) == ("42601", "CREATE VIEW specifies more column names than columns")
    assert error.position is None
