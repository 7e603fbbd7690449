"""Of a statement of which only defaults are left to the engine the server does all else, as one statement."""

from __future__ import annotations

from functools import partial

import pytest

from tests.harness.costs import calls_of
from tests.sql.split.ask import split_of


@pytest.mark.parametrize(
    ("text", "write"),
    [
        (
            "INSERT INTO tasks (id, task_due) SELECT id, NULL FROM patients ORDER BY id",
            'INSERT INTO tasks (id, task_due, "task_text") SELECT id, NULL, $1 FROM patients ORDER BY id',
        ),
        (
            "INSERT INTO tasks (id, task_text) SELECT id, upper(notes) FROM patients",  # all rows are the engine's
            'INSERT INTO tasks (id, task_text, "task_due") SELECT phi_write.phi_1, phi_write.phi_2, phi_write.phi_3 FROM ROWS FROM',
        ),
        (
            "WITH x AS (INSERT INTO tasks (id, task_text) VALUES (1, DEFAULT), ($1, NULL) RETURNING id)"
            " SELECT x.id, l.msg FROM x, log l",
            'WITH x AS (INSERT INTO tasks (id, task_text, "task_due") VALUES (1, $1, $2), ($3, NULL, $2) RETURNING id)'
            " SELECT x.id, l.msg FROM x, log l",
        ),
        ("UPDATE tasks SET task_due = DEFAULT, ward = $1", "UPDATE tasks SET task_due = $1, ward = $2"),
    ],
)
def test_what_the_server_gets(text: str, write: str) -> None:
    split = split_of(text)
    assert split is not None
    assert split.write is not None
    assert split.write.text.decode().startswith(write)


def test_what_many_rows_take_grows_with_their_number() -> None:
    splits, taken = list[object](), []

    def look(text: str) -> None:
        splits.append(split_of(text))

    for rows in (100, 800):
        text = "INSERT INTO tasks (id, task_text) VALUES " + ", ".join(f"({n}, 'ward {n}')" for n in range(rows))
        taken.append(calls_of(partial(look, text)))
    assert None not in splits
    assert taken[1] < 12 * taken[0]  # 8 times the rows; the square of that were 64
