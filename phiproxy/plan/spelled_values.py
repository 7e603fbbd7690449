"""Values of a client's that spell what is stored: a dump that was made past the proxy would be sealed once more.

Whether a value is one is told by opening it. Another thread does so by record keys that the loop has taken before: a keyring is
not for two threads.
"""

from binascii import unhexlify
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from phiproxy.crypto.envelope import LONGEST_HEAD, envelope_parts
from phiproxy.documents.sealed_leaves import LOOKS_SEALED, envelope_of
from phiproxy.errors import DataKeyWant, KeyNeeded, KeyWant, SealError, ValueRefused
from phiproxy.long_values import copied, cut, decoded, found_at, holds
from phiproxy.policy.protection import ProtectedColumn

RecordNames = set[tuple[int, bytes]]
"""Of records the numbers of their data keys, and their salts."""
MOST_KEYS: Final = 1000
"""Of so many data keys it is looked at once whose they are: that one is nobody's a keyring remembers for seconds only."""
_BLANKS = b" \t\n\v\f\r"  # bytea's text form may have them between its digits


class SpelledKeys(dict[tuple[int, bytes], bytes]):
    """Record keys of what a client's value spells; under those ``of_nobody`` nothing opens (SealError)."""

    def __init__(self) -> None:
        super().__init__()
        self.of_nobody: RecordNames = set()

    def __missing__(self, record: tuple[int, bytes]) -> bytes:
        """Raise SealError for the key of a record of nobody's; KeyError for one that was not looked for."""
        if record in self.of_nobody:
            raise SealError("a value is under no key that is known")
        raise KeyError(record)


def needed_together(wants: Iterable[KeyWant], spelled: Iterable[RecordNames] = ()) -> KeyNeeded:
    """Return what asks for the keys of all that values spell at once; ValueRefused for too many.

    Each time that a key is asked for, all values of a statement are looked at again.
    """
    together = {*wants, *(DataKeyWant(key_id) for records in spelled for key_id, _ in records)}
    if len(together) > MOST_KEYS:
        raise ValueRefused(
            f"values of one statement spell stored ones under more than {MOST_KEYS} data keys", hint="Store them a few at a time."
        )
    return KeyNeeded(together)


def may_spell_stored(column: ProtectedColumn, value: bytes) -> bool:
    """Tell whether a value, in the column's canonical form, may spell a stored one."""
    return spells_stored(value) if column.document is None else holds(value, LOOKS_SEALED)


def spells_stored(value: bytes) -> bool:
    """Tell whether a text begins as an envelope does that is spelled as a bytea."""
    return value[:2] == b"\\x" and value[2:8].lower() == b"f55001"


def envelope_spelled(text: bytes) -> bytes:
    """Return what a text of which ``spells_stored`` holds spells; ValueError where these are no hexadecimal digits. In pieces."""
    digits = b"".join([piece.translate(None, _BLANKS) for piece in cut(text, 2, len(text))])
    return b"".join([unhexlify(piece) for piece in cut(digits, 0, len(digits))])


def records_spelled(column: ProtectedColumn, values: Sequence[bytes | None]) -> RecordNames:
    """Return the records of what values in a column's canonical form spell that may be stored. For any thread."""
    found: RecordNames = set()
    for value in values:
        if value is not None and may_spell_stored(column, value):
            found |= _record_of(value) if column.document is None else _records_of_leaves(value)
    return found


def _record_of(text: bytes) -> RecordNames:
    try:
        key_id, _, _, _, salt, _, _ = envelope_parts(envelope_spelled(text)[:LONGEST_HEAD])
    except (ValueError, SealError):
        return set()
    return {(key_id, salt)}


def _records_of_leaves(text: bytes) -> RecordNames:
    """Return the records of the leaves of a document that begin as stored ones do.

    A leaf is a whole string, so it has no escapes, and a quote before and behind it; but for a text that is put at a place.
    """
    found: RecordNames = set()
    begin = found_at(text, LOOKS_SEALED)
    while begin >= 0:
        end = begin + len(LOOKS_SEALED)
        if begin == 0 or text[begin - 1 : begin] == b'"':
            behind = found_at(text, b'"', end)
            end = behind if behind >= 0 else len(text)
            with suppress(SealError, UnicodeDecodeError):
                key_id, _, _, _, salt, _, _ = envelope_parts(envelope_of(decoded(copied(text, begin, end))), field=True)
                found.add((key_id, salt))
        begin = found_at(text, LOOKS_SEALED, end)
    return found
