"""Computed defaults as the client's text: what is where, and what the server may not see."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Context
from phiproxy.sql.result import Split
from phiproxy.sql.split.writes.given_defaults import WithDefaults, with_defaults
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import DEFAULT_TEXTS, VIEW, planner
from tests.sql.split.ask import split_of

DUE, TEXT = DEFAULT_TEXTS["task_due"].decode(), DEFAULT_TEXTS["task_text"].decode()


def given(text: str) -> WithDefaults | None:
    there = planner()
    context = Context(there.protection, there.catalog, VIEW.path, VIEW.database, default_text=there.ciphers.default_text)
    (statement,) = parse(text.encode())
    return with_defaults(statement, text.encode(), context)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("INSERT INTO tasks (id, task_text) VALUES (1, 'x')", f"""(id, task_text, "task_due") VALUES (1, 'x', ({DUE}))"""),
        ("INSERT INTO tasks (id) VALUES (1)", f"""(id, "task_due", "task_text") VALUES (1, ({DUE}), ({TEXT}))"""),
        ("INSERT INTO tasks VALUES (1, 'w', DEFAULT, 'x')", f"VALUES (1, 'w', ({DUE}), 'x')"),
        (
            "INSERT INTO tasks AS t DEFAULT VALUES RETURNING id",
            f"""t ("task_due", "task_text") VALUES (({DUE}), ({TEXT})) RETURNING""",
        ),
        ("INSERT INTO tasks (id) OVERRIDING USER VALUE VALUES (f((1), 2))", f"VALUE VALUES (f((1), 2), ({DUE}), ({TEXT}))"),
        ("UPDATE tasks SET (id, task_due) = (1, DEFAULT), task_text = NULL", f"(1, ({DUE})), task_text = NULL"),
        (
            "MERGE INTO tasks t USING log l ON t.id = l.id WHEN NOT MATCHED AND l.id > 1 THEN INSERT DEFAULT VALUES"
            " WHEN MATCHED THEN UPDATE SET task_due = DEFAULT WHEN NOT MATCHED THEN INSERT VALUES (l.id)",
            f"""INSERT ("task_due", "task_text") VALUES (({DUE}), ({TEXT})) WHEN MATCHED THEN UPDATE SET task_due = ({DUE})"""
            f""" WHEN NOT MATCHED THEN INSERT ("id", "task_due", "task_text") VALUES (l.id, ({DUE}), ({TEXT}))""",
        ),
        (
            "WITH x AS (INSERT INTO tasks (id, task_due) VALUES (1, NULL) RETURNING id) SELECT id FROM x",
            f"""(id, task_due, "task_text") VALUES (1, NULL, ({TEXT})) RETURNING""",
        ),
    ],
)
def test_where_they_stand(text: str, becomes: str) -> None:
    whole = given(text)
    assert whole is not None
    assert becomes in whole.text.decode()
    for start, end, at in whole.pieces:
        assert whole.text[start:end] == text.encode()[at : at + end - start]
    spelled = [whole.text[start:end].decode() for start, end in whole.context.default_spans]
    assert set(spelled) <= {f"({DUE})", f"({TEXT})"}
    assert len(spelled) == whole.text.count(DUE.encode()) + whole.text.count(TEXT.encode())


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO tasks (id, task_due, task_text) VALUES (1, NULL, 'x')",
        "INSERT INTO visits (id) VALUES (1)",
        "UPDATE tasks SET task_due = NULL",
        "DELETE FROM tasks",
        "SELECT task_due FROM tasks",
        "INSERT INTO tasks (id) SELECT * FROM log UNION SELECT * FROM log",
        "INSERT INTO tasks SELECT * FROM patients",
    ],
)
def test_where_none_is_needed_or_it_is_not_known_where(text: str) -> None:
    assert given(text) is None


def test_positions_are_those_of_the_client() -> None:
    text = "INSERT INTO tasks AS t (id, ward) VALUES ($1, 'w'), ($2, DEFAULT) ON CONFLICT DO NOTHING RETURNING id, ward"
    split = split_of(text)
    assert split is not None
    assert (split.start, split.end) == (0, len(text))
    assert split.write is not None
    for start, end, at in split.write.spans:
        assert split.write.text[start:end] == text.encode()[at : at + end - start]


@pytest.mark.parametrize("shown", ["a constant in the source", "anything in the write"])
def test_nothing_of_a_default_goes_to_the_server(shown: str) -> None:
    text = "INSERT INTO tasks (id, task_due) VALUES (1, NULL)"
    whole, split = given(text), split_of(text)
    assert whole is not None
    assert split is not None
    assert split.write is not None
    ((first, last),) = whole.context.default_spans
    if shown == "anything in the write":
        write = dataclasses.replace(split.write, text=whole.text, spans=((0, len(whole.text), 0),))
        seen: Split = dataclasses.replace(split, write=write)
    else:
        seen = dataclasses.replace(split, source=b"SELECT " + whole.text[first:last], source_spans=((7, 7 + last - first, first),))
    assert whole.placed(split) is not None
    assert whole.placed(seen) is None


def test_without_an_engine_the_hint_says_what_would_answer_it() -> None:
    with pytest.raises(StatementRefused, match=r"the default of public\.tasks\.task_due is computed") as refused:
        planner().statement(b"INSERT INTO tasks (id, task_text) VALUES (1, 'x')", (), VIEW)
    assert "compute.engine: embedded" in (refused.value.hint or "")
