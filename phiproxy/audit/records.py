"""One record as a line of canonical JSON: keys sorted, no white space, UTF-8 (RFC 8785 for the values that records have).

A record holds names, numbers, times and shapes of statements. Who makes one passes no value, parameter or constant.
"""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

VERSION: Final = 1
"""Of the record's fields; ``v`` in each."""
Kind = Literal[
    "execution", "refused", "login", "break_glass", "break_glass.reviewed", "key",
    "policy.loaded", "proxy.started", "proxy.stopped", "log.opened", "log.closed", "log.heads", "log.gap",
]  # fmt: skip
"""Every kind of record that there is: who verifies a log is tried with a forged one of each."""
BREAK_GLASS: Final = "break_glass"
"""The kind of a record that masks are lifted for a reason; ``glass`` names it."""
REVIEWED: Final = "break_glass.reviewed"
"""The kind of a record that a second person (``by``) has looked into that."""
_SEQUENCE: Final = b'"sequence":'
_MARK: Final = b'"sequence":null'

Line = tuple[bytes, ...]
"""A record without its number: what stands before the number, and behind it, in one piece or several. Who writes it numbers it."""


def canonical(value: object) -> bytes:
    """Return a value of dicts, lists, texts, whole numbers, booleans and None as canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "backslashreplace")


_second: tuple[int, bytes] = 0, b""


def now() -> bytes:
    """Return this moment as records spell it: UTC with microseconds. The second is spelled once."""
    global _second  # noqa: PLW0603 - a cache of one entry
    microseconds = time.time_ns() // 1000 - _second[0]
    if not 0 <= microseconds < 1_000_000:
        second, microseconds = divmod(microseconds + _second[0], 1_000_000)
        _second = second * 1_000_000, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()
    return _second[1] + b"%06dZ" % microseconds


def line_of(kind: Kind, fields: Mapping[str, Any]) -> Line:
    """Return a record of this moment, still without its number."""
    record = {"kind": kind, "time": now().decode(), "v": VERSION, **fields, "sequence": None}
    before, _, behind = canonical(record).partition(_MARK)
    return before + _SEQUENCE, behind


def numbered(line: Line, sequence: int) -> bytes:
    """Return a record with its number."""
    return b"".join((line[0], b"%d" % sequence, *line[1:]))
