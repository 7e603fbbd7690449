"""The signatures as they are read: the server's own once, the database's each time."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from typing import Any

import pytest

from phiproxy.net.database_objects import read_signatures
from phiproxy.policy.signature_queries import OWN, SERVER, rows
from tests.clinic_model import ANSWER
from tests.harness.server import PostgresServer


async def test_the_server_s_own_are_read_once(postgres_server: PostgresServer) -> None:
    database = postgres_server.create_database()
    asked: list[str] = []
    try:
        with postgres_server.connect(database) as conn:
            conn.execute(
                "CREATE TYPE mood AS ENUM ('sad');"
                " CREATE FUNCTION feel(mood, int DEFAULT 1) RETURNS text LANGUAGE sql AS 'SELECT $1::text';"
                " CREATE TEMP TABLE passing (a int); CREATE TYPE pair AS (a int)"
            )

            async def ask(query: str) -> list[tuple[Any, ...]]:
                asked.append(query)
                return conn.execute(query.encode()).fetchall()

            first, text = await read_signatures(ask, -1)
            again, same = await read_signatures(ask, -1)
            kept, _ = await read_signatures(ask, -1, (first, text))
            upgraded, _ = await read_signatures(ask, -2, (first, text))
    finally:
        postgres_server.drop_database(database)
    assert asked == [SERVER, OWN, OWN, OWN, SERVER, OWN]
    assert kept is first
    assert upgraded is not first
    assert (text, first.functions("feel")) == (same, again.functions("feel"))
    ((arguments, defaults, *_),) = first.functions("feel")
    assert (arguments, defaults) == ((first.named("mood"), 23), 1)
    assert first.is_type("pair")
    assert not first.is_type("passing")
    assert len(first.functions("lower")) > 1
    assert first.is_collation("C")


def test_the_model_has_what_a_server_of_its_version_has(postgres_server: PostgresServer) -> None:
    """But for collations, which are the machine's. ``PHIPROXY_RECORD=1`` records the answer afresh."""
    with postgres_server.connect() as conn:
        if conn.info.server_version // 10_000 != 15:
            pytest.skip("the model is of version 15")
        answer = conn.execute(SERVER.encode()).fetchone()
    assert answer is not None
    said = str(answer[0])
    if os.environ.get("PHIPROXY_RECORD"):
        ANSWER.write_bytes(gzip.compress(said.encode(), mtime=0))
    recorded = gzip.decompress(ANSWER.read_bytes()).decode()
    assert replace(rows(recorded), collations=frozenset()) == replace(rows(said), collations=frozenset())
