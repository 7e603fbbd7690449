"""The differential harness: one statement on the plaintext twin directly and on the sealed one through the proxy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn

from tests.harness import results
from tests.harness.clinic import Clinic
from tests.harness.results import Outcome

Protocol = Literal["simple", "extended"]
SELECTS: list[tuple[int, int, bool]] = [(p, r, named) for p in (0, 1) for r in (0, 1) for named in (False, True)]


class Differential:
    """Two sessions that live as long as the test, so that transactions and prepared statements go on."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        # PGconn.connect would hold the GIL, which the tap's thread needs; these connect step by step
        self._sessions = [psycopg.connect(dsn, autocommit=True) for dsn in (clinic.plain_dsn, clinic.proxy_dsn)]
        self.plain, self.proxied = (session.pgconn for session in self._sessions)

    def close(self) -> None:
        """Close both sessions."""
        for session in self._sessions:
            session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def run(
        self,
        statement: str,
        params: Sequence[object] = (),
        *,
        protocol: Protocol = "extended",
        types: Sequence[int] | None = None,
        param_format: int = 0,
        result_format: int = 0,
        named: bool = False,
        ordered: bool | None = None,
    ) -> Outcome:
        """Run it both ways, assert that a client sees the same, return the proxy's last result.

        Rows are compared as a bag unless the statement says ORDER BY or ``ordered`` says otherwise. ``named`` prepares
        and describes it first: then the declared parameter types are compared too.
        """

        def one(conn: PGconn) -> tuple[list[Outcome], tuple[int, ...]]:
            if protocol == "simple":
                assert not params, "the simple protocol has no parameters"
                return results.simple(conn, statement), ()
            form = results.Form(types, param_format, result_format)
            if named:
                return results.prepared(conn, statement, params, form)
            return results.extended(conn, statement, params, form), ()

        expected, expected_types = one(self.plain)
        found, found_types = one(self.proxied)
        if ordered is None:
            ordered = re.search(r"\border\s+by\b", statement, re.IGNORECASE) is not None
        where = f"{protocol}{' named' if named else ''}, formats {param_format}/{result_format}"
        assert len(found) == len(expected), f"{len(found)} results, not {len(expected)} ({where})"
        for one_found, one_expected in zip(found, expected, strict=True):
            same = one_found.visible(ordered=ordered) == one_expected.visible(ordered=ordered)
            difference = "" if same else one_found.difference(one_expected, ordered=ordered)
            assert same, f"through the proxy / directly ({where}): {difference}"
        assert found_types == expected_types, f"parameter types differ ({where})"
        return found[-1]

    def read(self, statement: str, params: Sequence[object] = (), *, types: Sequence[int] | None = None) -> Outcome:
        """Run a statement that changes nothing in every way: text and binary in and out, named or not; simple if it can.

        Binary parameters are tried only where libpq's caller can know their types: all strings, or ``types`` given.
        """
        binary_in = types is not None or all(p is None or isinstance(p, str) for p in params)
        for param_format, result_format, named in SELECTS:
            if param_format and not (binary_in and params):
                continue
            self.run(statement, params, types=types, param_format=param_format, result_format=result_format, named=named)
        if not params:
            self.run(statement, protocol="simple")
        return self.run(statement, params, types=types)

    def refused(
        self,
        statement: str,
        params: Sequence[object] = (),
        *,
        sqlstate: str = "0A000",
        protocol: Protocol | None = None,
        hint: str | None = None,
        types: Sequence[int] = (),
    ) -> Outcome:
        """Assert that the proxy refuses it, that nothing planted went upstream, and that the session goes on."""
        ways: list[Protocol] = [protocol] if protocol else ["extended"] if params else ["simple", "extended"]
        last = None
        for way in ways:
            self.clinic.site.tap.reset()
            if way == "simple":
                last = results.simple(self.proxied, statement)[-1]
            else:
                last = results.extended(self.proxied, statement, params, results.Form(types or None))[-1]
            assert last.sqlstate == sqlstate, f"{way}: {last.sqlstate or last.status} {last.message}"
            assert last.message.startswith("phiproxy:"), last.message
            for texts in (last.message.encode(), last.hint.encode()):
                assert not self.clinic.oracle.contains(texts), "the error tells a planted value"
            sent = self.clinic.site.tap.upstream()
            assert not any(self.clinic.oracle.contains(data) for data in sent), "a planted value went upstream"
            if hint is not None:
                assert hint in last.hint, last.hint
            self._goes_on()
        assert last is not None
        return last

    def _goes_on(self) -> None:
        """In a transaction the refusal has aborted it as any error would; outside the session simply works."""
        if self.proxied.transaction_status == pq.TransactionStatus.INERROR:
            assert results.simple(self.proxied, "SELECT 1")[-1].sqlstate == "25P02"
            return
        assert results.simple(self.proxied, "SELECT 1")[-1].text == [("1",)]
