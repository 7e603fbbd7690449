"""Passes over one statement: the outcome is an answer or a refusal, and the client's tree stays what it was."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from phiproxy.errors import CatalogNeeded, PathNeeded, SyntaxRefused
from phiproxy.sql import passes
from phiproxy.sql.context import Analysis, Context
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


_TOLD = ("kind", "start", "end", "effects", "edits", "numbers", "touches", "definition", "copy", "cacheable", "unforeseen")


def told(text: str, since: int) -> list[object]:
    """Return what is said of each statement of a text, so that it can be compared."""
    said: list[object] = []
    try:
        becomes = outcomes(text, since)
    except SyntaxRefused:
        return said
    for outcome in becomes:
        if isinstance(outcome, Answered):
            fields = {f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)}
            said.append((Answered, {name: value for name, value in fields.items() if name in _TOLD}))
        else:
            error = outcome.error if isinstance(outcome, Refused) else outcome
            said.append((type(outcome), type(error), str(error), getattr(error, "position", None)))
    return said


def test_ddl_of_others_is_as_by_all_passes_and_a_tree_stays_as_it_was_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree also of a statement that is refused half-way: PostgreSQL's own words for it are looked for in the tree."""
    here: list[bool] = []
    defines_others = passes._defines_others

    def noted(a: Analysis) -> bool:
        here.append(defines_others(a))
        return here[-1]

    shown = [(text, 0) for text in OTHERS] + [(case.with_values(lambda word: f"Zoë-{word}-9")[0], case.since) for case in CASES]
    kinds: set[object] = set()
    short: dict[tuple[str, int], list[object]] = {}
    with monkeypatch.context() as patch:
        patch.setattr(passes, "_defines_others", noted)
        for text, since in shown:
            here.clear()
            said = told(text, since)
            kinds |= {one[0] for one in said if isinstance(one, tuple)}
            if any(here):
                short[text, since] = said
    assert {Answered, Refused} <= kinds
    monkeypatch.setattr(passes, "_defines_others", lambda _: False)
    assert [(text, said, all_) for (text, since), said in short.items() if (all_ := told(text, since)) != said] == []
    assert len(short) > len(OTHERS) / 2
