"""Replies to DDL that became a DO block."""

from __future__ import annotations

from phiproxy.effects import Effects
from phiproxy.plan.statement_plan import ScriptPart
from phiproxy.session.ddl_replies import counts, ended, outside, tag_of
from phiproxy.session.pipeline import Expected, Kind


def test_an_error_is_where_the_clients_statement_is() -> None:
    server = b"DO $q$BEGIN EXECUTE $s$CREATE TABLE t (a nope)$s$; END$q$"
    fields = [(ord("S"), b"ERROR"), (ord("p"), b"17"), (ord("q"), b"CREATE TABLE t (a nope)"), (ord("W"), b"PL/pgSQL function")]
    assert outside(fields, server) == [(ord("S"), b"ERROR"), (ord("P"), str(server.index(b" nope")).encode())]
    assert outside(fields[:1], server) == fields[:1]


def test_tags_go_with_their_statement() -> None:
    parts = (ScriptPart(None, True, False, Effects(tag=b"CREATE TABLE")), ScriptPart(None, False, True, Effects()))
    assert [tag_of(Expected(Kind.QUERY, parts=parts, part=i)) for i in range(3)] == [b"CREATE TABLE", b"", b""]
    assert tag_of(Expected(Kind.EXECUTE)) == b""


def test_rows_of_a_table_made_from_a_query_are_told_once() -> None:
    parts = (
        ScriptPart(None, True, False, Effects(tag=b"CREATE TABLE AS")),
        ScriptPart(None, True, False, Effects(tag=b"CREATE TABLE")),
    )
    told = [(ord("S"), b"INFO"), (ord("C"), b"PHI01"), (ord("D"), b"42")]
    front = Expected(Kind.QUERY, parts=parts)
    assert not counts(front, [*told[:2], (ord("D"), b"x")])
    assert not counts(front, [told[0], (ord("C"), b"00000"), told[2]])
    assert ended(front) == b"CREATE TABLE AS"
    assert counts(front, told)
    assert [ended(front), ended(front)] == [b"SELECT 42", b"CREATE TABLE AS"]
    assert not counts(Expected(Kind.QUERY, parts=parts, part=1), told)
