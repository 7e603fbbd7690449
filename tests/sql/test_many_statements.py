"""A string of many statements: what each costs does not hang on how many others there are, and no comment keeps a value."""

from __future__ import annotations

import pytest
from pglast.parser import scan

from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.sql.text import parse as parse_module
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ring

VIEW = View(PATH, "clinic", catalog_fresh=True)


def _scanned(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    """Return how many characters the lexer reads while a text is planned."""
    read = [0]

    def counted(part: str) -> object:
        read[0] += len(part)
        return scan(part)

    with monkeypatch.context() as patch:
        patch.setattr(parse_module, "scan", counted)
        Planner(PROTECTION, CATALOG, Ciphers(full_ring())).script(text.encode(), VIEW)
    return read[0]


@pytest.mark.parametrize("behind", ["::text", "/* c */"])
def test_the_lexer_reads_as_many_times_more_as_the_text_is_longer(monkeypatch: pytest.MonkeyPatch, behind: str) -> None:
    def text(count: int) -> str:
        return "; ".join(f"UPDATE patients SET ssn = '{n:05}'{behind} WHERE id = {n:05}" for n in range(count))

    few, many = (_scanned(monkeypatch, text(count)) for count in (50, 400))
    assert 0 < many < 10 * few


def test_comments_of_every_statement_are_blanked_whichever_seals() -> None:
    text = (
        b"/* a 1 */ SELECT 1; SELECT 2 -- b zoe78\n; /* c zoe78 */ UPDATE patients /* d */ SET ssn = 'zoe78' WHERE id = 1 /* e */;"
        b" SELECT msg /* f zoe78 */ FROM log /* g */"
    )
    planner = Planner(PROTECTION, CATALOG, Ciphers(full_ring()))
    plan = planner.script(text, VIEW)
    sent, _ = plan.render(planner.ciphers)
    assert b"/*" not in sent
    assert b"--" not in sent
    assert b"zoe78" not in sent
    assert plan.rendered is not None
    assert sent.count(b"SELECT") == 3


def test_comments_of_a_string_that_touches_nothing_stay() -> None:
    text = b"/* a */ SELECT 1; SELECT msg /* patients */ FROM log; SET application_name = 'x'"
    assert Planner(PROTECTION, CATALOG, Ciphers(full_ring())).script(text, VIEW).identity
