"""Errors and notices of the server on their way to the client: no envelope, no tag, no rewritten expression in any field.

spec/sql 6.3: what describes a whole row is dropped, ``Key (…)=(…)`` keeps the client's column names without values. None of it
depends on the language of the server's messages, nor on its ``bytea_output``.
"""

import re
from collections.abc import Sequence

_TAG = re.compile(rb"""(?:NULLIF\()?(?:pg_catalog\.)?"?substring"?\(("?[^,()]+?"?), \d+, 16\)(?:, '[\\x0]+'::bytea\))?""")
_HIDDEN = re.compile(rb'"?phi_tag_([^",()]+?)_\d+"?(?=[,)])')
_BYTEA = re.compile(rb"\\x[0-9a-f]{16,}|\\\\x[0-9a-f]{16,}", re.IGNORECASE)
# F5 50 01 in bytea's hex form, and in its escape form, where nothing tells where a value ends; quoted, backslashes are doubled.
_ESCAPED = rb"\\{1,2}365P\\{1,2}001"
# A sealed leaf of a document; a message may be cut off in the middle of it.
_LEAF = re.compile(rb"phi1:f55001[0-9a-f]*(?::[0-9A-Za-z_-]*)?")
_ENVELOPE = re.compile(rb"\\xf55001|phi1:f55001|" + _ESCAPED, re.IGNORECASE)
_TO_THE_END = re.compile(_ESCAPED + rb".*", re.DOTALL)
_KEY = re.compile(rb"(\(.*?\))=\(.*\)", re.DOTALL)
_TEXT_FIELDS = frozenset(b"MDHWq")
# A whole line of COPY may be cut off in the middle of an envelope.
_COPY_LINE = re.compile(rb"(COPY [^\n,]*, [^\n,:]*\d[^\n,:]*): .*", re.DOTALL)
_FAILING_ROW = b"Failing row contains"
# Violations of NOT NULL, of CHECK or a partition, of a view's CHECK OPTION: their DETAIL lists a row …
_ROW_STATES = frozenset({b"23502", b"23514", b"44000"})
# … where one of these functions of the server (field R, in no language) made it.
_ROW_ROUTINES = frozenset(
    {
        b"ExecConstraints",
        b"ReportNotNullViolationError",
        b"ExecPartitionCheckEmitError",
        b"ExecWithCheckOptions",
        b"ExecFindPartition",
    }
)


def holds_ciphertext(message: bytes) -> bool:
    """Tell whether a message of an unprotected statement holds the beginning of an envelope or a tag's expression."""
    return _ENVELOPE.search(message) is not None or _TAG.search(message) is not None or _HIDDEN.search(message) is not None


def scrub(fields: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return the fields without ciphertext; order is kept, a DETAIL that lists a whole row is left out."""
    by_code = dict(fields)
    of_row = by_code.get(ord("C")) in _ROW_STATES
    by_server = by_code.get(ord("R")) in _ROW_ROUTINES
    cleaned = []
    for code, value in fields:
        if code not in _TEXT_FIELDS:
            cleaned.append((code, value))
        elif not (_FAILING_ROW in value or (code == ord("D") and of_row and (by_server or _ciphertext(value)))):
            cleaned.append((code, _without_ciphertext(value)))
    return cleaned


def _ciphertext(text: bytes) -> bool:
    return _BYTEA.search(text) is not None or _ENVELOPE.search(text) is not None


def _without_ciphertext(value: bytes) -> bytes:
    text = _HIDDEN.sub(rb"\1", _TAG.sub(rb"\1", _COPY_LINE.sub(rb"\1", value)))
    if text != value or _ciphertext(text):
        text = _KEY.sub(rb"\1", text)
    return _TO_THE_END.sub(b"(protected)", _BYTEA.sub(b"(protected)", _LEAF.sub(b"(protected)", text)))
