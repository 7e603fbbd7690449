"""Which blind index would answer, and what it takes until it does: a hint must not lead to where nothing goes on."""

from __future__ import annotations

from collections.abc import Iterable

from phiproxy.policy.protection import Slot

_FILLED = "On a column that holds values it answers nothing until they are rewritten, which this version cannot do yet."


def waiting(slots: Iterable[Slot]) -> frozenset[str]:
    """Return the expressions that have a slot, but none that answers."""
    live = [slot for slot in slots if slot.state != "dropped"]
    return frozenset(s.expression for s in live) - {s.expression for s in live if s.state == "active"}


def add_index(shown: str, owner: str) -> str:
    """Say which line to add to the policy. ``shown`` is one expression in backquotes, or several between ``or``."""
    return f"Add {shown} to the indexes of {owner} in the policy, then run phiproxy keys init. {_FILLED}"


def await_index(shown: str) -> str:
    """Say of an index that is in the policy why it does not answer."""
    return (
        f"The index on {shown} is there and answers nothing yet: values stored before it lack its tag, and this version cannot"
        " rewrite them (`phiproxy check` counts them)."
    )
