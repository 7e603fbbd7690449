"""Numbers and clauses of MERGE that older servers do not read are refused as these do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.errors import SyntaxRefused
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.sql.text.newer_syntax import check_newer
from phiproxy.sql.text.parse import Scan, parse
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ciphers

VIEW = View(PATH, "clinic", catalog_fresh=True)
MERGE = "MERGE INTO m USING v ON v.id = m.id "


def check(text: str, version: int) -> None:
    check_newer(Scan(text.encode()), parse(text.encode()), version)


@pytest.mark.parametrize(("text", "word"), [
    (MERGE + "WHEN NOT MATCHED BY SOURCE THEN DELETE", "BY"),
    (MERGE + "WHEN NOT MATCHED /* é */ by TARGET THEN DO NOTHING", "by"),
    (MERGE + "WHEN MATCHED THEN DELETE RETURNING m.id", "RETURNING"),
    ("SELECT 1; EXPLAIN " + MERGE + "WHEN MATCHED THEN DELETE RETURNING m.id", "RETURNING"),
])  # fmt: skip
def test_a_clause_of_newer_servers(text: str, word: str) -> None:
    with pytest.raises(SyntaxRefused, match=f'syntax error at or near "{word}"') as refused:
        check(text, 160000)
    assert refused.value.position == text.index(f" {word} ") + 2
    check(text, 170000)


@pytest.mark.parametrize("text", [
    MERGE + "WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "SELECT NOT matched by FROM t",
    "UPDATE t SET id = 1 RETURNING id",
])  # fmt: skip
def test_what_is_no_such_clause(text: str) -> None:
    check(text, 150000)


def planner(version: int) -> Planner:
    return Planner(PROTECTION, replace(CATALOG, server_version=version), full_ciphers())


@pytest.mark.parametrize("number", ["0x1F", "0XfF", "0o17", "0b1", "1_000", "1_0.5", "1.5_0", "1e1_0"])
def test_a_number_of_newer_servers(number: str) -> None:
    text = f"SELECT ssn FROM patients WHERE id = {number} AND ssn = 'x'".encode()
    for version in (140000, 150000):
        with pytest.raises(SyntaxRefused, match="trailing junk after numeric literal") as refused:
            planner(version).script(text, VIEW)
        assert refused.value.position == text.index(b"= ") + 3
        with pytest.raises(SyntaxRefused):
            planner(version).statement(text, (), VIEW)
        unprotected = f"SELECT {number}".encode()
        assert planner(version).script(unprotected, VIEW).text == unprotected
    planner(160000).script(text, VIEW)


@pytest.mark.parametrize("other", ["'0x1F'", "'1_000'", "$$0b1$$", "1 AS a1_0", '1 AS "0x1F"', "10", "1.5e3", "1 /* 1_000 */"])
def test_what_is_no_such_number(other: str) -> None:
    planner(150000).script(f"SELECT ssn, {other} FROM patients WHERE ssn = 'x'".encode(), VIEW)
