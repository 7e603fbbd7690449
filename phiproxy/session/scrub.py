"""Errors and notices of the server on their way to the client: no envelope, no tag, no rewritten expression in any field.

sql.md section 6: "Failing row contains" is dropped, ``Key (…)=(…)`` keeps the client's column names without values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_TAG = re.compile(rb'(?:pg_catalog\.)?"?substring"?\(("?[^,()]+?"?), \d+, 16\)')
_BYTEA = re.compile(rb"\\x[0-9a-f]{16,}|\\\\x[0-9a-f]{16,}", re.IGNORECASE)
_ENVELOPE = re.compile(rb"\\xf55001", re.IGNORECASE)
_KEY = re.compile(rb"\bKey \((.*)\)=\((.*)\)", re.DOTALL)
_TEXT_FIELDS = frozenset(b"MDHWq")
_FAILING_ROW = b"Failing row contains"


def holds_ciphertext(message: bytes) -> bool:
    """Tell whether a message of an unprotected statement holds the beginning of an envelope or a tag's expression."""
    return _ENVELOPE.search(message) is not None or _TAG.search(message) is not None


def scrub(fields: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return the fields without ciphertext; order is kept, a DETAIL that lists a whole row is left out."""
    cleaned = []
    for code, value in fields:
        if code not in _TEXT_FIELDS:
            cleaned.append((code, value))
            continue
        if _FAILING_ROW in value:
            continue
        text = _TAG.sub(rb"\1", value)
        changed = text != value
        key = _KEY.search(text)
        if key and (changed or _BYTEA.search(text)):
            text = text[: key.start()] + b"Key (" + key[1] + b")" + text[key.end() :]
        cleaned.append((code, _BYTEA.sub(b"(protected)", text)))
    return cleaned
