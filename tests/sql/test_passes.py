"""Passes over one statement: the outcome is an answer or a refusal, and the client's tree stays what it was."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from phiproxy.errors import CatalogNeeded, PathNeeded, SyntaxRefused
from phiproxy.sql import passes
from phiproxy.sql.context import Context
from phiproxy.sql.passes import OF_OTHERS, PASSES, analyse
from phiproxy.sql.result import Answered, Refused
from phiproxy.sql.text.parse import parse
from tests.fixtures.cases import CASES
from tests.fixtures.model import VIEW as FIXTURE_VIEW
from tests.fixtures.model import planner


def outcomes(text: str, since: int = 0) -> list[object]:
    """Return what becomes of each statement of a text; the trees are compared with what they were."""
    there = planner(since)
    context = Context(there.protection, there.catalog, FIXTURE_VIEW.path, FIXTURE_VIEW.database)
    becomes: list[object] = []
    for statement in parse(text.encode()):
        parsed = copy.deepcopy(statement)
        try:
            becomes.append(analyse(statement, text.encode(), context))
        except (PathNeeded, CatalogNeeded) as needed:
            becomes.append(needed)
        assert statement == parsed, text
    return becomes


def test_the_tree_stays_as_it_was_parsed() -> None:
    """Also of a statement that is refused half-way: PostgreSQL's own words for it are looked for in the tree."""
    kinds: set[type] = set()
    for case in CASES:
        statement, _ = case.with_values(lambda word: f"Zoë-{word}-9")
        try:
            kinds |= set(map(type, outcomes(statement, case.since)))
        except SyntaxRefused:
            continue
    assert {Answered, Refused} <= kinds


def test_every_pass_says_what_it_does() -> None:
    assert all(step.__doc__ for step in (*PASSES, *OF_OTHERS))
    assert len({step.__name__ for step in PASSES}) == len(PASSES)


OTHERS = (
    "CREATE TABLE log2 (LIKE log INCLUDING ALL)",
    "CREATE TEMP TABLE log2 (a int, b text)",
    "ALTER TABLE log ADD COLUMN a mood DEFAULT 'good'",
    "ALTER TABLE log RENAME TO protocol",
    "DROP TABLE log, log2 CASCADE",
    "DROP FUNCTION f(mood)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT set_config(''search_path'', ''x'', false)'",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO log (id) VALUES (1); END",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO lg (id) VALUES (1); END",
    "CREATE RULE r AS ON INSERT TO log DO ALSO INSERT INTO lg VALUES (1)",
    "CREATE RULE r AS ON INSERT TO log DO ALSO INSERT INTO log VALUES (1)",
    "CREATE INDEX ON log (lower(msg))",
    "CREATE TRIGGER t BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION f()",
    "CREATE POLICY p ON log USING (msg = 'x')",
    "DO 'BEGIN PERFORM 1; END'",
    "SET search_path = audit, public",
    "SET search_path = phiproxy",
    "SET array_nulls TO off",
    "SET phiproxy.purpose = 'no code at all!'",
    "SET phiproxy.end_user = 7",
    "SET ROLE app",
    "RESET ALL",
    "SHOW search_path",
    "COMMIT",
    "PREPARE TRANSACTION 'x'",
    "GRANT SELECT ON log TO app",
    "COMMENT ON TABLE log IS 'x'",
    # Names of what is protected, wherever they stand.
    "COMMENT ON TABLE log IS 'of patients'",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS E'SELECT \\x73sn FROM \\x70atients'",
    "DO 'BEGIN PERFORM ssn FROM pat'\n'ients; END'",
    'CREATE TABLE log2 (LIKE U&"\\0070atients")',
    "ALTER TABLE patients ADD CHECK (ssn <> '')",
    "DROP TABLE PATIENTS",
    # What is found by other names.
    "DROP INDEX patients_mrn_key",
    "DROP TYPE mood",
    "DROP EXTENSION citext",
    "ALTER TYPE mood RENAME VALUE 'good' TO 'fine'",
    "ALTER TYPE mood RENAME TO humour",
    "ALTER SCHEMA public RENAME TO private",
)


@pytest.mark.parametrize("shown", ["others", "fixtures"])
def test_ddl_of_others_is_as_by_all_passes(shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = OTHERS if shown == "others" else [case.with_values(lambda word: f"Zoë-{word}-9")[0] for case in CASES]

    def told() -> list[object]:
        said: list[object] = []
        for text in texts:
            try:
                for outcome in outcomes(text):
                    if isinstance(outcome, Answered):
                        fields = {f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)}
                        said.append((text, {name: value for name, value in fields.items() if name in _TOLD}))
                    else:
                        error = outcome.error if isinstance(outcome, Refused) else outcome
                        said.append((text, type(error), str(error), getattr(error, "position", None)))
            except SyntaxRefused:
                continue
        return said

    short = told()
    monkeypatch.setattr(passes, "_defines_others", lambda _: False)
    assert [(a, b) for a, b in zip(short, told(), strict=True) if a != b] == []


_TOLD = ("kind", "start", "end", "effects", "edits", "numbers", "touches", "definition", "copy", "cacheable", "unforeseen")
