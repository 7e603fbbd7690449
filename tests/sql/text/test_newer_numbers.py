"""Numbers that older servers do not read are refused as these do, where something protected is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.errors import SyntaxRefused
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ciphers

VIEW = View(PATH, "clinic", catalog_fresh=True)


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
