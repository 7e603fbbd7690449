"""What is split, message by message: the same said to both twins, and the same answered, with the positions of errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest

from tests.fixtures.live import Twins
from tests.harness.backend import Backend, both_ways
from tests.session.frames import SYNC, bind, close, describe, error_fields, execute, parse, query, show_server

SORTED = "SELECT id, upper(full_name) AS name, city FROM patients ORDER BY full_name, id"
DECLARED = [query("BEGIN"), query(f"DECLARE c SCROLL CURSOR FOR {SORTED}")]
# Those of the two databases have OIDs of their own.
_TABLE = re.compile(r"(\(b'[^']*', )[1-9]\d*,")


@pytest.fixture(scope="module")
def backends(all_split_twins: Twins) -> Iterator[tuple[Backend, Backend]]:
    """Raw connections: straight to the plaintext twin, and through the proxy."""
    with both_ways(all_split_twins.clinic) as both:
        yield both


def heard(frames: Sequence[bytes]) -> list[str]:
    """Return what must be the same: of errors all but the words, which the proxy signs."""
    shown = []
    for frame in frames:
        if frame[:1] in (b"E", b"N"):
            fields = error_fields(frame)
            shown.append(f"{fields['S']} {fields['C']} at {fields.get('P')}")
        else:
            shown.append(_TABLE.sub(r"\1oid,", show_server(frame)))
    return shown


FETCHES: dict[str, list[bytes]] = {
    "formats by column": [parse("FETCH 2 c"), bind(results=(0, 1, 0)), describe(), execute(), SYNC],
    "formats by column, undescribed": [parse("FETCH 2 c"), bind(results=(1, 0, 0)), execute(), SYNC],
    "formats of another number of columns": [parse("FETCH 2 c"), bind(results=(0, 1)), describe(), execute(), SYNC],
    "no such format": [parse("FETCH 2 c"), bind(results=(2,)), execute(), SYNC],
    "formats of MOVE": [parse("MOVE 1 c"), bind(results=(0, 1)), describe(), execute(), execute(), SYNC, query("FETCH c")],
    "executed again": [parse("FETCH 1 c"), bind(), execute(), execute(), SYNC, query("FETCH c")],
    "in parts": [parse("FETCH 4 c"), bind(results=(1,)), execute("", 3), execute("", 1), execute("", 1), SYNC, query("FETCH c")],
    "in parts, behind one another": [
        *(query("MOVE ALL c"), parse("FETCH BACKWARD 3 c"), bind(portal="a"), execute("a", 1), parse("FETCH 2 c")),
        *(bind(portal="b"), execute("b", 1), SYNC, execute("a", 1), execute("b"), execute("a"), SYNC),
        *(close("a", "P"), parse("FETCH 1 c"), bind(portal="a"), execute("a", 5), SYNC),
    ],
    "in a portal of its own, as a statement's": [
        *(parse(SORTED, "s"), bind(statement="s", portal="p"), execute("p", 1), parse("FETCH 2 c"), bind(portal="a")),
        *(execute("a"), execute("p", 2), close("s"), SYNC),
    ],
    "in a portal of the cursor's name": [parse("FETCH 1 c"), bind(portal="c"), SYNC],
}


@pytest.mark.parametrize("name", FETCHES)
def test_fetch_from_a_cursor(backends: tuple[Backend, Backend], name: str) -> None:
    plain, proxied = (heard(backend.says([*DECLARED, *FETCHES[name]])) for backend in backends)
    assert proxied == plain


@pytest.mark.parametrize("executed", [(), (execute("p", 1),)])
@pytest.mark.parametrize("reading", ["FETCH ALL FROM p", "MOVE 1 FROM p"])
def test_a_portal_is_not_read_as_a_cursor(backends: tuple[Backend, Backend], executed: tuple[bytes, ...], reading: str) -> None:
    """The server's portal of this name has the source's rows."""
    bound = [query("BEGIN"), parse(SORTED), bind(portal="p"), *executed, SYNC]
    for said in ([query(reading)], [parse(reading), bind(), execute(), SYNC]):
        plain, proxied = (heard(backend.says([*bound, *said])) for backend in backends)
        refused = proxied.index("ERROR 0A000 at 1")
        assert plain[:refused] == proxied[:refused]
        assert proxied[refused + 1 :] == ["ReadyForQuery E"]
    prepared = [parse(reading, "f"), SYNC, *bound, bind(statement="f"), execute(), SYNC, close("f"), SYNC]
    plain, proxied = (heard(backend.says(prepared)) for backend in backends)
    assert any(line.startswith("ERROR 0A000") for line in proxied)
    assert len([line for line in proxied if "DataRow" in line]) == len(executed)


@pytest.mark.parametrize("hold", ["", "WITH HOLD"])
@pytest.mark.parametrize("wrong", ["nope", "upper(full_name)::int"])
def test_a_cursor_that_was_not_declared_is_none(backends: tuple[Backend, Backend], hold: str, wrong: str) -> None:
    failing = query(f"DECLARE c CURSOR {hold} FOR SELECT upper(ssn), {wrong} FROM patients ORDER BY full_name")
    fetched = query("FETCH c")
    said = [query("BEGIN"), query("SAVEPOINT a"), failing, query("ROLLBACK TO a"), fetched, query("COMMIT"), fetched]
    plain, proxied = (heard(backend.says(said)) for backend in backends)
    assert proxied == plain


# What is prepared, and lists of values: of each type, of wrong ones, and of wrong types.
EXECUTED: dict[str, tuple[str, ...]] = {
    "(text) AS SELECT upper(full_name) || $1 FROM patients ORDER BY id": (
        "'a'", "1", "1.5", "true", "NULL", "DATE '2000-01-01'", "'a'::varchar(2)", "-1", "", "'a', 2",
    ),
    "(int) AS SELECT upper(full_name), $1 FROM patients ORDER BY full_name": (
        "'1'", "'x'", "1.5", "1.7::float8", "true", "99999999999", "'1'::text", "- 5", "1::bool",
    ),
    "(date) AS SELECT upper(full_name), $1 FROM patients ORDER BY full_name": (
        "'2000-01-01'", "TIMESTAMP '2000-01-01 10:00'", "'2000-01-01'::text", "1", "'x'",
    ),
    "(boolean) AS SELECT upper(full_name), $1 FROM patients ORDER BY full_name": ("'t'", "0", "'t'::text"),
    "(uuid, text[]) AS SELECT upper(full_name), $1, $2 FROM patients ORDER BY id": (
        "'x', '{a}'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{a}'::varchar[]", "NULL, 1", "NULL, '{'",
    ),
    "AS SELECT upper(full_name) FROM patients WHERE full_name > $1 AND id > $2 ORDER BY full_name": (
        "'A', 1", "'\u00c4', /* here */ 'x'", "true, true", "'A', 1::bigint", "1",
    ),
    "(text) AS SELECT $1, coalesce($1), q.* FROM (SELECT max(full_name), $1, $1::int FROM patients) q": ("'7'", "'x'"),
    "(int) AS SELECT upper(ssn), (SELECT $1)::int8, (SELECT $1), CASE id WHEN 1 THEN 2 ELSE $1 END FROM patients ORDER BY 1": (
        "'7'",
    ),
    "AS UPDATE patients SET notes = notes || $1 WHERE id = $2 RETURNING id, notes": (
        "'A', '1'", "'\u00c4', 'x'", "true, true", "NULL, 1",
    ),
    "AS UPDATE patients SET notes = upper($1), visits_count = $2 WHERE id = 1 RETURNING notes": (
        "'A', 1", "'A', 'x'", "'A', 99999999999", "'A', true",
    ),
}  # fmt: skip


@pytest.mark.parametrize("prepared", EXECUTED)
def test_values_of_execute_are_assigned(backends: tuple[Backend, Backend], prepared: str) -> None:
    said = [query(f"PREPARE q {prepared}")]
    for values in EXECUTED[prepared]:
        executed = f"EXECUTE q ({values})" if values else "EXECUTE q"
        said += [query("BEGIN"), query(f"  {executed}"), query("ROLLBACK")]
    plain, proxied = (heard(backend.says([*said, query("DEALLOCATE q")])) for backend in backends)
    assert proxied == plain


@pytest.mark.parametrize("shown", ["($1)", '$1 COLLATE "C"', "(SELECT ($1))"])
def test_execute_of_a_column_whose_name_would_be_another_is_refused(backends: tuple[Backend, Backend], shown: str) -> None:
    said = [query(f"PREPARE q (text) AS SELECT upper(full_name), {shown} FROM patients"), query("EXECUTE q ('x')")]
    assert heard(backends[1].says([*said, query("DEALLOCATE q")]))[2] == "ERROR 0A000 at 1"


@pytest.mark.parametrize("change", ["DELETE FROM visits", "UPDATE visits SET room = 'x'", "UPDATE visits SET mrn = upper('x')"])
@pytest.mark.parametrize("returning", ["", " RETURNING id", " RETURNING upper(diagnosis)"])
def test_rows_are_not_changed_through_a_split_cursor(backends: tuple[Backend, Backend], change: str, returning: str) -> None:
    declared = [query("BEGIN"), query("DECLARE c CURSOR FOR SELECT id, upper(diagnosis) FROM visits ORDER BY id FOR UPDATE")]
    text = f"{change} WHERE CURRENT OF c{returning}"
    for said in ([query(text)], [parse(text), bind(), execute(), SYNC]):
        *_, error, ready = backends[1].says([*declared, query("FETCH c"), *said])
        assert error_fields(error)["C"] == "0A000"
        assert error_fields(error)["H"].startswith("Fetch the primary key too")
        assert heard([ready]) == ["ReadyForQuery E"]


COPIES = {
    "FROM patients ORDER BY full_name, id": (
        "", "BINARY", "CSV HEADER FORCE QUOTE *", "(FORMAT csv, HEADER, FORCE_QUOTE (name), DELIMITER ';', NULL 'no')",
        "(FORMAT binary)", "(FORMAT nothing)", "(FORMAT csv, FORMAT csv)", "(ENCODING 'nothing')", "(ENCODING 'LATIN1')",
        "(ON_ERROR ignore)", "(HEADER match)", "(FORMAT csv, FORCE_QUOTE (nothing))", "(FORMAT csv, DELIMITER 'ab')",
        "(FORMAT binary, HEADER)", "(FORMAT text, FORCE_QUOTE (name))",
        "/* \u00fc */ (FREEZE, FORMAT nothing)",
    ),
    "FROM patients p LEFT JOIN (SELECT mrn, diagnosis FROM visits) v ON v.mrn = p.mrn || '' ORDER BY v.diagnosis, p.id LIMIT 3": (
        "", "(FORMAT csv, HEADER)",
    ),
    "FROM patients WHERE full_name || nothing > 'A'": ("", "(FORMAT binary)"),
}  # fmt: skip


@pytest.mark.parametrize("source", COPIES)
def test_copy_of_what_is_computed(backends: tuple[Backend, Backend], source: str) -> None:
    copies = [f"COPY (SELECT id, upper(full_name) AS name, city {source}) TO STDOUT {options}" for options in COPIES[source]]
    said = [part for text in copies for part in (query(text), parse(text), bind(), describe(), execute(), SYNC)]
    plain, proxied = (heard(backend.says(said)) for backend in backends)
    assert proxied == plain


@pytest.mark.parametrize(("constant", "changed"), [
    ("'01/02/2003'::date", "DateStyle TO German"), ("'2003-01-02 10:00'::timestamptz", "TimeZone TO 'Asia/Kolkata'"),
    ("'-1 day 2 hours'::interval", "IntervalStyle TO sql_standard"),
])  # fmt: skip
@pytest.mark.parametrize("executed", ["driver", "portal", "sql"])
def test_constants_are_read_when_a_statement_is_prepared(
    backends: tuple[Backend, Backend], constant: str, changed: str, executed: str
) -> None:
    """The engine would read them again: so what they may be is refused, in words by which drivers prepare it again."""
    text = f"SELECT upper(full_name), extract(epoch FROM {constant}) FROM patients ORDER BY id"
    prepared = query(f"PREPARE q AS {text}") if executed == "sql" else parse(text, "q") + SYNC
    bound, run = (bind(statement="q", portal="p"), [execute("p"), SYNC]) if executed != "sql" else (query("EXECUTE q"), [])
    before = [bound, SYNC] if executed == "portal" else []
    done = run if executed == "portal" else [bound, *run]
    kept = [query("BEGIN"), prepared, *before, query("SET LOCAL work_mem TO '1MB'"), *done, query("ROLLBACK; DEALLOCATE q")]
    plain, proxied = (heard(backend.says(kept)) for backend in backends)
    assert proxied == plain
    said = [query("BEGIN"), prepared, *before, query(f"SET LOCAL {changed}"), *done]
    frames = backends[1].says(said)
    refused = error_fields(next(frame for frame in frames if frame[:1] == b"E"))
    assert (refused["C"], refused["R"]) == ("0A000", "RevalidateCachedQuery")
    assert not any(frame[:1] == b"D" for frame in frames)
    backends[1].says([query("DEALLOCATE q")])


# Of views that only the engine computes: what is wrong in them is said when they are made.
WRONG_VIEWS = (
    "SELECT upper(ssn) AS u FROM patients GROUP BY u HAVING nope > 1",
    "SELECT upper(ssn) AS u FROM patients GROUP BY u HAVING u > 'a'",
    "SELECT upper(ssn) AS u FROM patients WHERE nope > 1",
    "SELECT upper(ssn) AS u FROM patients WHERE u > 'a'",
    "SELECT upper(ssn) AS u FROM patients ORDER BY u || nope",
    "SELECT upper(ssn) AS u FROM patients UNION SELECT room FROM visits ORDER BY nope",
    "SELECT DISTINCT ON (nope) upper(ssn) AS u FROM patients",
    "SELECT upper(ssn) AS u, row_number() OVER (ORDER BY nope) FROM patients",
    "SELECT upper(ssn) AS u, row_number() OVER (w ORDER BY id) FROM patients WINDOW w AS (PARTITION BY id ORDER BY ssn)",
    "SELECT upper(ssn) AS u, max(id) FILTER (WHERE nope) FROM patients GROUP BY u",
    "SELECT upper(ssn) AS u, string_agg(full_name, ',' ORDER BY nope) FROM patients GROUP BY u",
    "SELECT upper(ssn) AS u FROM patients p WHERE EXISTS (SELECT 1 FROM visits WHERE nope = p.id)",
    "SELECT upper(ssn) AS u, (SELECT room FROM visits v WHERE v.id = nope) FROM patients p",
    "SELECT upper(ssn) AS u FROM patients WHERE nothing(id) > 1",
    "SELECT upper(ssn) AS u FROM patients GROUP BY u HAVING nothing(1)",
    "SELECT upper(ssn) AS u FROM patients WHERE id::nothing IS NULL",
    "SELECT upper(ssn) AS u FROM patients p ORDER BY id USING <>",
    "SELECT upper(ssn) AS u FROM patients GROUP BY ssn HAVING row_number() OVER () > 1",
    "SELECT upper(ssn) AS u FROM patients LIMIT nope",
    "SELECT upper(ssn) AS u FROM patients LIMIT 'x'",
    "SELECT upper(ssn) AS u, 'x'::int FROM patients",
    "SELECT upper(ssn) AS u, date 'x' FROM patients",
    "SELECT upper(ssn) AS u FROM patients GROUP BY 1 HAVING count(*) > 'x'",
)


@pytest.mark.parametrize("query_of_view", WRONG_VIEWS)
def test_a_wrong_view_is_not_made(backends: tuple[Backend, Backend], query_of_view: str) -> None:
    said = [query("BEGIN"), query(f'CREATE VIEW "\u00fc" AS {query_of_view}'), query("ROLLBACK"), query('SELECT FROM "\u00fc"')]
    plain, proxied = (heard(backend.says(said)) for backend in backends)
    assert proxied == plain
    assert plain[2].startswith("ERROR ")


def test_a_wrong_view_is_not_prepared_or_made_in_a_string(backends: tuple[Backend, Backend]) -> None:
    view = f"CREATE VIEW v AS {WRONG_VIEWS[0]}"
    for said in ([parse(view), bind(), execute(), SYNC], [query(f"CREATE TABLE made (a int); {view}")]):
        errors = [[line for line in heard(backend.says(said)) if line.startswith("ERROR")] for backend in backends]
        assert errors[1] == errors[0] != []
    said = [query("BEGIN"), query("SELECT 1/0"), query(view)]
    plain, proxied = (heard(backend.says(said)) for backend in backends)
    assert proxied == plain
