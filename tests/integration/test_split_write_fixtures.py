"""Every write of the fixtures that is refused without an engine, and random ones: as PostgreSQL does it, or refused; no leak."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from tests.fixtures.cases import CASES, Case
from tests.fixtures.grammar_writes import writes as random_writes
from tests.fixtures.live import Twins
from tests.harness import explore
from tests.integration.test_generated import tried
from tests.sql.split.ask import is_split


@pytest.fixture
def twins(kept_split_twins: Twins) -> Twins:
    """One seeded clinic for all cases, with an engine; the leak oracle at the end."""
    return kept_split_twins


WRITE = re.compile(r"\s*(insert|update|delete|merge)\b", re.IGNORECASE)


def refused_without_an_engine() -> list[object]:
    cases = [c for c in CASES if c.refuse == "0A000" and not c.unit and c.since <= 15 and (c.write or WRITE.match(c.statement))]
    return [pytest.param(case, id=case.id) for case in cases]


@pytest.mark.parametrize("case", refused_without_an_engine())
def test_as_postgresql(twins: Twins, case: Case) -> None:
    statement, params = case.with_values(twins.value)
    if not is_split(case):
        twins.both.refused(statement, params, types=case.types)
        return
    for named, result_format in ((False, 0), (True, 1)):
        with twins.rolled_back():
            outcome = twins.both.run(
                statement, params, types=case.types or None, named=named, result_format=result_format, ordered=False
            )
            if not outcome.sqlstate:
                twins.same_state()
        if case.rest:
            assert (outcome.sqlstate or "") == case.error
    if not params:
        with twins.rolled_back():
            outcome = twins.both.run(statement, protocol="simple", ordered=False)
            if not outcome.sqlstate:
                twins.same_state()


@st.composite
def computed_writes(draw: st.DrawFn) -> tuple[str, tuple[str | None, ...]]:
    """Writes of computed values, of rows that only the plaintext tells, and with computed RETURNING; parameters stand anywhere."""
    params: list[str | None] = []

    def given(*values: str) -> str:
        value = draw(st.sampled_from([*values, "@new_a@", "x"]))
        if draw(st.booleans()):
            params.append(value)
            return f"${len(params)}::text"
        return f"'{value}'"

    def text(column: str) -> str:
        form = draw(
            st.sampled_from(["{c} || {v}", "upper({c})", "coalesce({c}, {v})", "left({c}, 3)", "concat({c}, {v})", "{v}", "{c}"])
        )
        return form.format(c=column, v=given() if "{v}" in form else "")

    def condition(table: str, columns: list[str]) -> str:
        column = f"{table}.{draw(st.sampled_from(columns))}"
        forms = [
            "{c} ILIKE {v}",
            "{c} > {v}",
            "length({c}) > 3",
            "{c} IS NOT NULL",
            "{t}.id < 3",
            "{t}.id IN (1, 2) AND {c} <> {v}",
        ]
        form = draw(st.sampled_from(forms))
        return form.format(c=column, t=table, v=given("%a%", "%1%") if "{v}" in form else "")

    columns = ["ssn", "full_name", "notes", "address"]
    kind = draw(st.sampled_from(["update", "update", "from", "delete", "insert", "select", "upsert", "upsert", "merge", "merge"]))
    returning = draw(
        st.sampled_from(["", " RETURNING id", " RETURNING upper(notes), id", " RETURNING *", " RETURNING notes || current_date"])
    )
    if kind in ("update", "from"):
        named = draw(st.lists(st.sampled_from(columns), min_size=1, max_size=3, unique=True))
        entries = [f"{name} = {text('p.' + draw(st.sampled_from(columns)))}" for name in named]
        plain = [[], ["city = lower(city)"], ["visits_count = visits_count + 1"], ["active = DEFAULT"]]
        others, joins = "", ""
        if kind == "from":
            shown = [" RETURNING v.patient_id, p.id", " RETURNING upper(p.notes) || v.patient_id, v.patient_id AS of, p.*"]
            returning = draw(st.sampled_from([returning, *shown]))
            others, joins = " FROM visits v", " AND v.patient_id = p.id"
            # Of several visits any may be the one that decides, so what is taken of them is the same for all.
            plain += [["visits_count = v.patient_id"], ["city = left(v.room, 0) || p.city", "visits_count = v.patient_id + 1"]]
        entries += draw(st.sampled_from(plain))
        returning = returning.replace(" *", " p.*").replace(" id", " p.id").replace(", id", ", p.id")
        statement = f"UPDATE patients p SET {', '.join(entries)}{others} WHERE {condition('p', columns)}{joins}{returning}"
    elif kind == "delete":
        statement = f"DELETE FROM visits WHERE {condition('visits', ['diagnosis', 'mrn'])}" + draw(
            st.sampled_from(["", " RETURNING id, reverse(diagnosis)"])
        )
    elif kind == "insert":
        statement = f"INSERT INTO patients (notes, address, city) VALUES (reverse({given()}), {text('NULL')}, 'c'){returning}"
    elif kind == "upsert":
        ids = draw(st.lists(st.sampled_from(["1", "2", "777", "778"]), min_size=1, max_size=2))
        rows = ", ".join(f"({number}, {given()}, {'NULL' if draw(st.booleans()) else given()}, 'c')" for number in ids)
        sets = f"notes = {text('p.notes')} || {draw(st.sampled_from(['excluded.notes', 'excluded.address', 'p.ssn']))}"
        sets += draw(st.sampled_from(["", ", city = excluded.city", ", visits_count = p.visits_count + 1"]))
        where = f" WHERE {condition('p', columns)}" if draw(st.booleans()) else ""
        insert = f"INSERT INTO patients AS p (id, notes, address, city) VALUES {rows}"
        statement = f"{insert} ON CONFLICT (id) DO UPDATE SET {sets}{where}{returning}"
    elif kind == "merge":
        statement = _merge(draw, text, condition, given, columns)
    else:
        chosen = text("p." + draw(st.sampled_from(columns)))
        clear = [
            "p.city",
            "lower(p.city) || '-'",
            "CASE WHEN p.active THEN 'act' ELSE p.city END",
            "(SELECT max(city) FROM patients)",
        ]
        room = draw(st.sampled_from([*clear, "count(*) OVER (PARTITION BY p.city)"]))
        query = f"SELECT p.id, {chosen}, {room} FROM patients p WHERE {condition('p', columns)} ORDER BY p.id"
        grouped = f"SELECT min(p.id), max({chosen}), p.city || count(*) FROM patients p GROUP BY p.city ORDER BY 1"
        derived = f"SELECT q.id, {chosen.replace('p.', 'q.')}, q.c FROM (SELECT *, {clear[1]} AS c FROM patients p) q ORDER BY q.id"
        statement = f"INSERT INTO visits (patient_id, diagnosis, room) {draw(st.sampled_from([query, query, grouped, derived]))}"
    return statement, tuple(params)


@st.composite
def dated_writes(draw: st.DrawFn) -> tuple[str, tuple[str | None, ...]]:
    """Writes with dates, patterns and ranges of which an index answers some, and with words that mean a date of the clock."""
    params: list[str | None] = []

    def given(kind: str, *values: str) -> str:
        value = draw(st.sampled_from(values))
        if draw(st.booleans()):
            params.append(value)
            return f"${len(params)}::{kind}"
        return f"'{value}'" if draw(st.booleans()) else f"{kind} '{value}'"

    def day() -> str:
        return given("date", "1980-01-01", "1980-01-15", "1980-12-31", "1981-06-30", "1989-12-31", "0001-01-01", "4000-01-01")

    def word() -> str:
        return draw(st.sampled_from(["'today'", "date 'yesterday'", "'tomorrow'", "current_date", "now()", "'now'"]))

    def condition(t: str) -> str:
        pattern = given("text", "Smi%", "Sm%", "%mi%", "S_i%", "smith", "%")
        forms = [
            f"{t}.born < {day()}",
            f"{t}.born BETWEEN {day()} AND {day()}",
            f"{t}.born >= {day()} AND {t}.born < {day()}",
            f"{t}.born < {word()}",
            f"{t}.born IN ({day()}, 'today')",
            f"NOT {t}.born = {day()}",
            f"{t}.id < 3",
        ]
        forms += [f"{t}.name {draw(st.sampled_from(['LIKE', 'ILIKE', 'NOT LIKE']))} {pattern}"] if t == "p" else []
        return draw(st.sampled_from(forms))

    where = " AND ".join(condition("p") for _ in range(draw(st.integers(1, 2))))
    born = draw(st.sampled_from([word(), f"p.born + {draw(st.integers(1, 9))}", day(), "current_date - 30", "NULL"]))
    name = draw(st.sampled_from(["upper(p.name)", "p.name || current_user", "'x'", "left(p.name, 2)", "p.name"]))
    shown = ["", " RETURNING p.id", " RETURNING p.id, upper(p.name), age(p.born) IS NULL", " RETURNING p.born < current_date"]
    returning = draw(st.sampled_from(shown))
    other = "(SELECT upper(s.word), s.born FROM stays s WHERE s.id = p.id)"
    kind = draw(st.sampled_from(["update", "list", "query", "from", "delete", "using", "insert"]))
    # Parameters of a part that is not used would stand nowhere.
    text = {
        "update": f"UPDATE people p SET born = {born}, name = {name}, city = 'c' WHERE {where}{returning}",
        "list": f"UPDATE people p SET (born, name) = ({born}, {name}) WHERE {where}{returning}",
        "query": f"UPDATE people p SET (name, born) = {other} WHERE {where}{returning}",
        "from": f"UPDATE people p SET name = {name}, city = s.id FROM stays s WHERE s.id = p.id AND {where}{returning}",
        "delete": f"DELETE FROM people p WHERE {where}{returning}",
        "using": f"DELETE FROM people p USING stays s WHERE s.id = p.id AND {where} AND {condition('s')}{returning}",
        "insert": f"INSERT INTO people AS p (name, born, city) SELECT p.name, p.born, p.city FROM people p WHERE {where}",
    }[kind]
    numbers = sorted({int(n) for n in re.findall(r"\$(\d+)", text)})
    for new, old in enumerate(numbers, start=1):
        text = re.sub(rf"\${old}\b", f"${new}", text)
    return text, tuple(params[n - 1] for n in numbers)


def _merge(
    draw: st.DrawFn, text: Callable[[str], str], condition: Callable[..., str], given: Callable[..., str], columns: list[str]
) -> str:
    updates = f"UPDATE SET notes = {text(draw(st.sampled_from(['p.notes', 'v.diagnosis', 'p.ssn'])))}"
    updates += draw(st.sampled_from(["", ", city = v.room", ", visits_count = p.visits_count + 1", ", address = 'a'"]))
    clauses = [f"WHEN MATCHED AND {condition('p', columns)} THEN {updates}"]
    clauses += draw(st.sampled_from([[], ["WHEN MATCHED THEN DO NOTHING"], ["WHEN MATCHED AND p.id > 3 THEN DELETE"]]))
    if draw(st.booleans()):
        clauses.append(f"WHEN NOT MATCHED THEN INSERT (id, notes, city) VALUES (900 + v.id, {text('v.diagnosis')}, v.room)")
    if draw(st.booleans()):
        # A given value that no clause uses is stored nowhere protected, and sent as it is.
        first, second = (given(), given()) if "v.diagnosis" in " ".join(clauses) else ("'d'", "'e'")
        source = f"(VALUES (1, {first}, 'c1'), (777, {second}, 'c2')) AS v (id, diagnosis, room) ON v.id = p.id"
    else:
        source = "visits v ON v.patient_id = p.id"
    source += f" AND {condition('p', columns)}" if draw(st.booleans()) else ""
    return f"MERGE INTO patients p USING {source} {' '.join(clauses)}"


@pytest.mark.slow
def test_random_writes(twins: Twins) -> None:
    became = tried(twins, random_writes(), 50)
    explore.enough(became, "equal", 7)


@pytest.mark.slow
def test_random_computed_writes(twins: Twins) -> None:
    became = tried(twins, computed_writes(), 84)
    explore.enough(became, "equal", 50)


@pytest.mark.slow
def test_random_dated_writes(twins: Twins) -> None:
    became = tried(twins, dated_writes(), 50)
    explore.enough(became, "equal", 25)
