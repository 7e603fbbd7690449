"""Expressions that the proxy evaluates itself: each gives what PostgreSQL gives, or is refused."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st

from tests.harness import explore, results
from tests.harness.differential import Differential

WORDS = ["", " ", "a", "Ab", " aB ", "xXx", "zz z", "'", "\\", "é", "Straße", "  \tq\n ", "0123456789"]
Draw = st.DrawFn


def constant(draw: Draw) -> str:
    word = draw(st.sampled_from([None, *WORDS]))
    if word is None:
        return draw(st.sampled_from(["NULL", "NULL::text"]))
    return "'" + word.replace("'", "''") + "'"


def expression(draw: Draw, params: list[str | None], depth: int, *, simple: bool) -> str:
    kind = draw(st.integers(0, 9 if depth else 1))
    if kind == 0 and not simple:
        if not params or draw(st.booleans()):
            params.append(draw(st.sampled_from([None, *WORDS])))
        number = draw(st.integers(1, len(params)))
        return draw(st.sampled_from(["${}", "${}::text", "CAST(${} AS varchar)", "${}::varchar(2)"])).format(number)
    if kind <= 1:
        return draw(st.sampled_from(["{}", "({})", "{}::text", "CAST({} AS varchar(1))"])).format(constant(draw))
    one, two = (expression(draw, params, depth - 1, simple=simple) for _ in range(2))
    shape = draw(
        st.sampled_from(
            [
                "({0} || {1})", "(({0}) || ({1}))::text", "lower({0})", "pg_catalog.upper({0})", "btrim({0})", "trim({0})",
                "trim(both {1} from {0})", "trim(leading from {0})", "trim(trailing {1} from {0})", "ltrim({0}, {1})", "rtrim({0})",
                "nullif({0}, {1})", "coalesce({0}, {1})", "concat({0}::text, {1}::varchar)", "upper({0})::varchar(3)",
                "CAST(lower({0}) AS character varying(2))", "concat({0}::text, 'q')",
            ]
        )
    )  # fmt: skip
    return shape.format(one, two)


@st.composite
def statements(draw: Draw) -> tuple[str, list[str | None], bool]:
    simple = draw(st.booleans())
    params: list[str | None] = []
    made = expression(draw, params, 2, simple=simple)
    shape = draw(
        st.sampled_from(
            [
                "INSERT INTO patients (ssn) VALUES ({}) RETURNING ssn",
                "INSERT INTO patients (phone, ssn) SELECT {}, 'x' RETURNING phone",
                "UPDATE patients SET full_name = {} RETURNING full_name",
                "SELECT id, ssn FROM patients WHERE ssn = {}",
                "SELECT id FROM patients WHERE {} IS NULL OR full_name <> {}",
            ]
        )
    )
    return shape.replace("{}", made), params, simple


def answer(both: Differential, statement: str, params: list[str | None], *, simple: bool) -> str:
    """Run it both ways in a transaction of its own."""

    def run(conn: object) -> results.Outcome:
        if simple:
            return results.simple(conn, statement)[-1]  # type: ignore[arg-type]
        return results.extended(conn, statement, params, results.Form(None, 0, 0))[-1]  # type: ignore[arg-type]

    for conn in (both.plain, both.proxied):
        results.simple(conn, "BEGIN")
        results.simple(conn, "SELECT setval('patients_id_seq', 100)")
    try:
        found, expected = run(both.proxied), run(both.plain)
    finally:
        for conn in (both.plain, both.proxied):
            results.simple(conn, "ROLLBACK")
    if found.message.startswith("phiproxy:") and found.sqlstate == "0A000":
        return "refused"
    if found.sqlstate is not None:
        assert expected.sqlstate is not None, f"{found.sqlstate} {found.message}, and PostgreSQL accepts {statement} {params}"
        return "error"
    assert found.visible(ordered=False) == expected.visible(ordered=False), found.difference(expected, ordered=False)
    return "equal"


def test_each_is_what_postgresql_says(differential: Differential) -> None:
    for word in ("Ab", "a", ""):
        differential.run("INSERT INTO patients (ssn, full_name) VALUES ($1, $2)", [word, word])

    def run(generated: tuple[str, list[str | None], bool]) -> Counter[str]:
        statement, params, simple = generated
        return Counter([answer(differential, statement, params, simple=simple)])

    explore.enough(explore.tried(statements(), 400, run), "equal", 100)


def test_nothing_of_it_is_sent(differential: Differential) -> None:
    """The oracle looks for the planted value in the capture, as it is and in other cases."""
    word = differential.clinic.plant("mrn")
    for statement, params in (
        ("INSERT INTO patients (full_name) VALUES (upper($1) || lower($1))", [word]),
        (f"UPDATE patients SET full_name = trim('{word} ') || 'x' WHERE full_name = $1", [word]),
    ):
        differential.run(statement, params)
    differential.run(
        f"PREPARE p AS INSERT INTO patients (full_name) VALUES (upper($1) || '{word}') RETURNING full_name", protocol="simple"
    )
    differential.run(f"EXECUTE p ('{word}')", protocol="simple")
    differential.run("EXECUTE p (NULL)", protocol="simple")
    sent = differential.clinic.site.tap.upstream()
    assert not any(form in data for data in sent for form in (word.upper().encode(), word.lower().encode(), word.encode()))
