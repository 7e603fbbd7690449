"""What a server answers about its collations, and what that means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from phiproxy.index.characters import ASCII, Characters, character_table
from phiproxy.index.collations import (
    _PROBES,
    Collation,
    characters_of,
    compared,
    detail_query,
    digests_of,
    identity_query,
    needs_characters,
    observed,
    summarised,
    summary_query,
)
from tests.harness.server import PostgresServer

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def server(postgres_server: PostgresServer) -> Iterator[Connection]:
    with postgres_server.connect() as conn:
        yield conn


def _collations(server: Connection) -> dict[str, str]:
    """Family by collation, of those that there are."""
    wanted = {"C": "ascii", "C.utf8": "simple", "pg_c_utf8": "simple", "pg_unicode_fast": "icu", "und-x-icu": "icu", "tr-x-icu": ""}
    names = {name for (name,) in server.execute("SELECT collname FROM pg_collation")}
    return {f'"{name}"': family for name, family in wanted.items() if name in names}


def _answer(server: Connection, query: str) -> tuple[Any, ...]:
    (row,) = server.execute(query.encode()).fetchall()
    return tuple(row)


def test_families_are_recognised(server: Connection) -> None:
    collations = _collations(server)
    assert collations
    for collation, family in collations.items():
        found = summarised(_answer(server, summary_query("assigned", collation)), "assigned")
        assert (found.family, found.same) == (family, family != ""), collation


def test_over_all_code_points(server: Connection) -> None:
    found = summarised(_answer(server, summary_query()))
    assert found.family
    table = observed(server.execute(detail_query().encode()).fetchall(), found.digits)
    assert compared(found.family, table).differing == frozenset()
    assert found.same


def test_differing_code_points_are_found() -> None:
    own = character_table("simple")
    other = replace(
        own, lower={**own.lower, 0xC4: "ae"}, upper={k: v for k, v in own.upper.items() if k != 0xE4}, digits=frozenset({0x30})
    )
    assert compared("simple", other).differing == {0xC4, 0xE4, *range(0x31, 0x3A)}
    row = (False, True, "x", "y", "0123456789", None, _probes("simple"))
    assert digests_of(row) == ("x", "y")
    assert (summarised(row).family, summarised(row).same) == ("simple", False)


def _probes(family: str) -> list[str]:
    found = Characters(family)
    return [f"{found.lower(p.encode()).decode()} {found.upper(p.encode()).decode()}" for p in _PROBES]


def test_rules_of_a_language_are_no_family() -> None:
    row = (True, True, "x", "y", "0123456789", "z", [*_probes("icu")[:-1], "another"])
    assert summarised(row).family == ""


def test_the_record(server: Connection) -> None:
    (identity,) = _answer(server, identity_query(server.info.server_version))
    recorded = Collation(identity, Characters("simple", frozenset({0xC4})))
    assert Collation.load(recorded.dump()) == recorded
    assert Collation.load(None) is None
    assert characters_of(recorded, identity) == recorded.characters
    assert characters_of(recorded, identity + " of another version") == ASCII
    assert characters_of(None, identity) == ASCII


@pytest.mark.parametrize(
    ("expression", "type_name", "needed"),
    [
        ("@", "text", False),
        ("@", "citext", True),
        ("soundex(@)", "text", False),
        ("left(lower(@),3)", "text", True),
        (r"regexp_replace(@,'\D','','g')", "text", True),
        ("regexp_replace(@,'[^0-9]','','g')", "text", False),
        ("upper(@::text)", "int4", True),
    ],
)
def test_what_depends_on_it(expression: str, type_name: str, needed: bool) -> None:
    assert needs_characters(expression, type_name) == needed
