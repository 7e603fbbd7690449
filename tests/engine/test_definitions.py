"""Types as SQL that makes them again: read from a server, in the order in which they need each other."""

from __future__ import annotations

import json
from dataclasses import replace

import psycopg
import pytest

from phiproxy.engine.definitions import Definitions, Extension, TypeDefinition, read_definitions, row_type
from phiproxy.errors import ConfigError
from tests.engine.both import read_server

Server = psycopg.Connection[tuple[object, ...]]


def test_what_a_server_says(server: Server) -> None:
    _, definitions = read_server(server)
    made = {t.qualified: t.sql for t in definitions.types}
    assert made["public.sex"] == "CREATE TYPE public.sex AS ENUM ('f', 'm', 'it''s')"
    assert made['"Ward"."Bed kind"'] == """CREATE TYPE "Ward"."Bed kind" AS ENUM ('high', 'low')"""
    assert made["public.grown"] == "CREATE DOMAIN public.grown AS integer NOT NULL CONSTRAINT grown_check CHECK ((VALUE >= 18))"
    bed = 'kind "Ward"."Bed kind", number integer, name text COLLATE pg_catalog."C", spare public.sex[]'
    assert made["public.bed"] == f"CREATE TYPE public.bed AS ({bed})"
    assert made["public.stay"].startswith("CREATE TYPE public.stay AS RANGE (SUBTYPE = date")
    assert made["public.citext"] == ""
    assert "public.patients" not in made  # a row type


def test_the_extensions_are_those_that_are_wanted(server: Server) -> None:
    _, definitions = read_server(server)
    wanted = definitions.with_extensions(["pg_trgm", "citext", "citext"])
    assert [extension.name for extension in wanted.extensions] == ["citext", "pg_trgm"]
    assert wanted.digest != definitions.digest
    with pytest.raises(ConfigError, match="no extension unaccent"):
        definitions.with_extensions(["unaccent"])


def test_each_comes_behind_what_it_needs() -> None:
    needs: dict[int, set[int]] = {1: {2, 3}, 2: {3}, 3: set(), 4: {9}}
    types = [TypeDefinition(n, "s", f"t{n}", "", needs=frozenset(others)) for n, others in needs.items()]
    order = [t.oid for t in Definitions(tuple(types)).in_order()]
    assert order.index(3) < order.index(2) < order.index(1)
    assert sorted(order) == [1, 2, 3, 4]
    circle = Definitions(tuple(TypeDefinition(n, "s", f"t{n}", "", needs=frozenset({3 - n})) for n in (1, 2)))
    with pytest.raises(ConfigError, match="circle"):
        list(circle.in_order())


def test_a_database_without_types() -> None:
    empty = read_definitions("[null, null, null]")
    assert empty == Definitions()
    assert empty.schemas == []


def test_rows_of_tables_are_made_behind_all_types() -> None:
    read = read_definitions(json.dumps([None, None, [[20010, 20009], [20020, 20019]]]))
    assert read.arrays == {20010: 20009, 20020: 20019}
    assert read.digest == Definitions().digest
    rows = row_type(20010, 20009, ("public", "Pat"), [("id", "integer", ""), ("Sex", "sex", 'pg_catalog."C"')])
    assert rows.sql == 'CREATE TYPE public."Pat" AS (id integer, "Sex" sex COLLATE pg_catalog."C")'
    assert rows.oids == (("public", "Pat", 20010, 20009),)
    sex = TypeDefinition(20030, "public", "sex", "")
    wanted = replace(read, types=(sex,), rows=(rows,))
    assert list(wanted.in_order()) == [sex, rows]
    assert wanted.digest != replace(read, types=(sex,)).digest
    assert wanted.with_extensions(()).arrays == read.arrays


def test_a_constraint_that_is_not_valid_holds_for_what_is_made_now(server: Server) -> None:
    server.execute("CREATE DOMAIN loose AS int; ALTER DOMAIN loose ADD CONSTRAINT c CHECK (VALUE > 0) NOT VALID")
    try:
        made = {t.name: t.sql for t in read_server(server)[1].types}
        assert made["loose"] == "CREATE DOMAIN public.loose AS integer CONSTRAINT c CHECK ((VALUE > 0))"
    finally:
        server.execute("DROP DOMAIN loose")


def test_the_digest_is_of_everything() -> None:
    one = TypeDefinition(1, "s", "a", "CREATE")
    assert Definitions((one,)).digest == Definitions((TypeDefinition(1, "s", "a", "CREATE"),)).digest
    assert Definitions((one,)).digest != Definitions((one,), (Extension("x", "1", "s"),)).digest


def test_an_ordinary_role_may_ask(server: Server) -> None:
    """As the proxy's service login is one."""
    told = read_server(server)
    server.execute("CREATE ROLE lowly_reader; SET ROLE lowly_reader")
    try:
        assert read_server(server) == told
    finally:
        server.execute("RESET ROLE; DROP ROLE lowly_reader")
