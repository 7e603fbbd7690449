"""EXPLAIN of a split statement: the plans of its parts, as one result.

In text each part stands behind a line that says whose it is; in a form that programs read they are entries of one list, as
PostgreSQL writes the plans of a statement that rules have made several of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct, pack
from typing import NamedTuple

from phiproxy.errors import WireError
from phiproxy.plan.split_write_parameters import whole_messages
from phiproxy.wire.messages import Field, encode_row_description, message
from phiproxy.wire.oids import BUILTIN_TYPES

_ROW, _COMPLETE = ord("D"), ord("C")
_COLUMN = Struct("!Hi")
ONCE = b"Executed by the server, once, and not measured:"
COMPUTED = b"Computed beside the proxy, over the opened rows of that:"
WRITTEN = b"Written by the server:"
_TYPES = {"json": "json", "xml": "xml"}


class Plan(NamedTuple):
    """The plan of one part, in ``lines``, one where a program reads it; ``heading`` says whose it is."""

    heading: bytes
    lines: Sequence[bytes]


class Explained(NamedTuple):
    """The plans of the parts before the one that is executed now, in the FORMAT ``form``."""

    plans: tuple[Plan, ...]
    form: str


def lines_of(messages: bytes) -> list[bytes]:
    """Return the values of rows; WireError where one has another number of columns than one."""
    return [_value(messages, start, end) for tag, start, end in whole_messages(messages) if tag == _ROW]


def ends_at(messages: bytes) -> int:
    """Return where the first CommandComplete begins; WireError."""
    found = next((start for tag, start, _ in whole_messages(messages) if tag == _COMPLETE), None)
    if found is None:
        raise WireError("a plan was told without an end")
    return found


def shown(plans: Sequence[Plan], form: str) -> bytes:
    """Return plans as rows; WireError where they are not as PostgreSQL writes them."""
    if form not in _JOINED:
        return b"".join(map(row, [line for plan in plans for line in ([plan.heading] if plan.heading else []) + list(plan.lines)]))
    joined, *others = (_only(plan.lines) for plan in plans)
    for other in others:
        joined = _JOINED[form](joined, other)
    return row(joined)


def description(form: str, formats: Sequence[int]) -> bytes:
    """Return the RowDescription of an EXPLAIN."""
    oid = BUILTIN_TYPES[_TYPES.get(form, "text")].oid
    return encode_row_description([Field(b"QUERY PLAN", 0, 0, oid, -1, -1, formats[0] if formats else 0)])


def written(explained: Explained, data: bytes, start: int, end: int) -> bytes:
    """Return the rows that the first row of an explained write becomes: all plans before it, and itself."""
    return shown((*explained.plans, Plan(WRITTEN, [_value(data, start, end)])), explained.form)


def row(value: bytes) -> bytes:
    """Return a row of one column."""
    return message(b"D", pack("!Hi", 1, len(value)) + value)


def _value(messages: bytes, start: int, end: int) -> bytes:
    count, size = _COLUMN.unpack_from(messages, start + 5)
    if count != 1 or size != end - start - 11:
        raise WireError("a plan was not told as one column")
    return messages[end - size : end]


def _only(lines: Sequence[bytes]) -> bytes:
    if len(lines) != 1:
        raise WireError("a plan was not told as one row")
    return lines[0]


def _json(one: bytes, other: bytes) -> bytes:
    """``[{…}]`` and ``[{…}]`` → ``[{…}, {…}]``."""
    return _cut(one, behind=b"\n]") + b"," + _cut(other, before=b"[")


def _xml(one: bytes, other: bytes) -> bytes:
    """``<explain …><Query>…</Query></explain>`` twice → once, with both queries."""
    head, line, queries = other.partition(b"\n")
    if not head.startswith(b"<explain"):
        raise WireError("a plan was not told in XML")
    return _cut(one, behind=b"\n</explain>") + line + queries


def _yaml(one: bytes, other: bytes) -> bytes:
    """``- Plan: …`` twice → both entries of one list."""
    return one + b"\n" + other


def _cut(plan: bytes, *, before: bytes = b"", behind: bytes = b"") -> bytes:
    if not (plan.startswith(before) and plan.endswith(behind)):
        raise WireError("a plan was not told in its format")
    return plan[len(before) : len(plan) - len(behind)]


_JOINED: dict[str, Callable[[bytes, bytes], bytes]] = {"json": _json, "xml": _xml, "yaml": _yaml}
