"""What ``--dry-run`` prints: what would be done, what keeps it from being done, and nothing else happens."""

import sys
from collections.abc import Mapping, Sequence
from typing import Final

from phiproxy.commands.command_context import print_json
from phiproxy.jobs.rewriting_looks import RewritingLook

DONE: Final = "what is done"
OBSTACLES: Final = "what keeps it from being done"


def print_told(told: Mapping[str, Sequence[str]]) -> None:
    """Print lines below their titles; a title without any is left out."""
    for title, lines in told.items():
        if lines:
            sys.stdout.write(f"{title}:\n" + "".join(f"  {line}\n" for line in lines))


def print_looks(looks: Sequence[RewritingLook], *, as_json: bool) -> int:
    """Print what jobs would do in databases; 1 where something keeps one from being done."""
    if as_json:
        print_json(
            [
                {"database": x.database, **x.facts, "done": x.done, "obstacles": x.obstacles} | ({"room": x.room} if x.room else {})
                for x in looks
            ]
        )
    for look in () if as_json else looks:
        rows = [f"{label}: {count} rows are written anew" for label, count in sorted(look.facts.get("rows", {}).items())]
        where = f" in {look.database}"
        if not look.done and not look.obstacles:
            sys.stdout.write(f"nothing to do{where}\n")
        print_told({DONE + where: [*look.done, *rows, *look.room], OBSTACLES + where: look.obstacles})
    return 1 if any(look.obstacles for look in looks) else 0
