"""The search path: what SET makes of it, and the temporary tables that are told with it."""

from __future__ import annotations

import pytest

from phiproxy.plan.search_path import IN_TEMPORARY, divided, joined, set_path
from phiproxy.sql.statements.utility import effects
from phiproxy.sql.text.parse import messages, parse


def test_what_was_joined_is_divided_again() -> None:
    assert joined(("pg_temp_3", "public"), {"visits", "patients"}) == ("pg_temp_3", "public", "", "patients", "visits")
    assert divided(("pg_temp_3", "public", "", "patients")) == (("pg_temp_3", "public"), frozenset({"patients"}))
    assert divided(joined(("public",), ())) == (("public",), frozenset())
    assert divided(()) == ((), frozenset())


def test_a_constant_path_keeps_the_temporary_tables() -> None:
    (statement,) = parse(b"SET search_path TO a, pg_temp")
    changed = effects(statement.kind, statement.body, list(messages(statement.body)))
    assert set_path(("pg_temp_3", "public", "", "patients"), changed.path) == ("pg_catalog", "a", "pg_temp_3", "", "patients")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('SET search_path TO archive, "Public"', ("pg_catalog", "archive", "Public")),
        ("SET LOCAL search_path = 'a, b'", ("pg_catalog", "a, b")),
        ("SET search_path TO public, pg_catalog", ("public", "pg_catalog")),
        ("SET search_path TO ''", ("pg_catalog",)),
        ('SET search_path TO "$user", public', None),
        ("SET search_path TO DEFAULT", None),
        ("SET search_path FROM CURRENT", None),
        ("RESET search_path", None),
        ("SET ROLE bob", None),
    ],
)
def test_a_constant_path_is_followed(text: str, path: tuple[str, ...] | None) -> None:
    (statement,) = parse(text.encode())
    changed = effects(statement.kind, statement.body, list(messages(statement.body)))
    assert changed.path_unknown
    assert set_path(("pg_catalog", "public"), changed.path) == path
    assert set_path(None, changed.path) is None


def test_temporary_tables_come_first_where_there_are_any() -> None:
    (statement,) = parse(b"SET search_path TO a, pg_temp")
    changed = effects(statement.kind, statement.body, list(messages(statement.body)))
    assert set_path(("pg_temp_3", "pg_catalog", "public"), changed.path) == ("pg_catalog", "a", "pg_temp_3")
    assert set_path(("pg_catalog", "public"), changed.path) == ("pg_catalog", "a")
    (statement,) = parse(b"SET search_path TO pg_temp, a")
    first = effects(statement.kind, statement.body, list(messages(statement.body)))
    assert set_path(("pg_catalog", "public"), first.path) == (IN_TEMPORARY, "pg_catalog", "a")
    assert set_path(("pg_temp_3", "pg_catalog"), first.path) == (IN_TEMPORARY, "pg_catalog", "pg_temp_3", "a")
    assert set_path((IN_TEMPORARY, "pg_catalog", "a"), changed.path) == ("pg_catalog", "a")
    (statement,) = parse(b"SET search_path TO a")
    assert set_path(("pg_temp_3", "pg_catalog"), effects(statement.kind, statement.body, list(messages(statement.body))).path) == (
        "pg_temp_3",
        "pg_catalog",
        "a",
    )
