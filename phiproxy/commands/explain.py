"""``phiproxy explain``."""

import sys
from dataclasses import asdict
from pathlib import Path

from phiproxy import app
from phiproxy.commands.command_context import load, print_json, print_table
from phiproxy.plan.explanation import Explanation


def explain(
    config: Path, sql: str, only: str | None, *, path: list[str] | None = None, role: str | None = None, as_json: bool
) -> int:
    """Print what the server would see, and the use of each parameter and column; 1 when the statement is refused.

    For a ``role`` also what of each column it is shown, and why; without a statement only that.
    """
    configuration = load(config)
    # the first policy where none is named, as a statement is most often tried against the only one there is
    policy = configuration.policies[0] if only is None else configuration.policy_of(only)
    explanation = app.explain(configuration.settings, sql, database=policy.database, path=path, role=role)
    if as_json:
        print_json({"database": policy.database, **asdict(explanation)})
    else:
        if explanation.shown:
            print_table("", [f"to {explanation.role}", "is shown", "since"], explanation.shown)
        if explanation.answer:
            sys.stdout.write("\n" * bool(explanation.shown))
            _print(explanation)
    return 1 if explanation.answer == "refused" else 0


def _print(explanation: Explanation) -> None:
    if explanation.answer == "refused":
        where = f" at character {explanation.position}" if explanation.position is not None else ""
        sys.stdout.write(f"refused: SQLSTATE {explanation.sqlstate}{where}\n{explanation.message}\n")
        if explanation.hint:
            sys.stdout.write(f"hint: {explanation.hint}\n")
        return
    sys.stdout.write(f"{explanation.answer}\n{explanation.server}\n")
    if explanation.engine:
        sys.stdout.write(f"\nthe engine, over the opened rows of that:\n{explanation.engine}\n")
    if explanation.write:
        sys.stdout.write(f"\nthe server, with what was computed:\n{explanation.write}\n")
    if explanation.note:
        sys.stdout.write(f"{explanation.note}\n")
    tables = (
        ("in the text", explanation.uses),
        ("the server's parameter", explanation.parameters),
        ("result", explanation.columns),
    )
    for what, rows in tables:
        if rows:
            sys.stdout.write("\n")
            print_table("", [what, "use"], rows)
