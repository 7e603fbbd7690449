"""``phiproxy explain``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from phiproxy import app
from phiproxy.commands.context import load, print_json, print_table
from phiproxy.plan.explain import Explanation


def explain(config: Path, sql: str, only: str | None, *, path: list[str] | None = None, as_json: bool) -> int:
    """Print what the server would see, and the use of each parameter and column; 1 when the statement is refused."""
    configuration = load(config)
    # the first policy where none is named, as a statement is most often tried against the only one there is
    policy = configuration.policies[0] if only is None else configuration.policy_of(only)
    found = app.explain(configuration.settings, sql, database=policy.database, path=path)
    if as_json:
        print_json({"database": policy.database, **asdict(found)})
    else:
        _print(found)
    return 1 if found.answer == "refused" else 0


def _print(found: Explanation) -> None:
    if found.answer == "refused":
        place = f" at character {found.position}" if found.position is not None else ""
        sys.stdout.write(f"refused: SQLSTATE {found.sqlstate}{place}\n{found.message}\n")
        if found.hint:
            sys.stdout.write(f"hint: {found.hint}\n")
        return
    sys.stdout.write(f"{found.answer}\n{found.server}\n")
    if found.note:
        sys.stdout.write(f"{found.note}\n")
    tables = (("in the text", found.uses), ("the server's parameter", found.parameters), ("result", found.columns))
    for what, rows in tables:
        if rows:
            sys.stdout.write("\n")
            print_table("", [what, "use"], rows)
