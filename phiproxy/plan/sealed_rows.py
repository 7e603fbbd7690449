"""Rows whose protected fields are envelopes in binary, as nearly all are, opened in one loop over rows and fields.

``compile_rows`` and ``make_span_opener`` do the same with a call for each field. Whatever is not as it nearly always is, another
header, a long value, a row that is no row or a value that does not open, is left to these: one row at a time.
"""

import struct
from collections.abc import Sequence
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phiproxy.crypto.envelope import unpad
from phiproxy.crypto.seal import KnownHeader, LastRecord, Note
from phiproxy.long_values import LONG_VALUE
from phiproxy.wire.fields import LENGTHS, ROW, FieldFunction, RowsFunction

_length_at, _pack_length = Struct("!i").unpack_from, Struct("!i").pack
_head_at, _pack_head = Struct("!BIH").unpack_from, Struct("!cI").pack
_HEAD_SIZE = Struct("!BIH").size
_NO_DECRYPTION = AESGCM(bytes(32)).decrypt

Sealed = tuple[int, KnownHeader, FieldFunction | None]
"""Where a protected field is, what is known of its column's values, and what writes an opened one (None: it is shown as it is)."""


def compile_sealed_rows(  # noqa: C901, PLR0915 - another function for each row or field would cost what is saved
    fields: Sequence[Sealed], columns: int, tally: list[int], one_row: RowsFunction
) -> RowsFunction:
    """Return what opens the given fields in a run of rows of so many columns, as ``compile_rows`` does.

    The one number of ``tally`` grows by the count of rows. ``one_row`` does the same for the rows that are left to it, and raises
    what there is to be raised; its own rows it counts elsewhere.
    """
    sealed = {position: (known, write) for position, known, write in fields}
    places = [sealed.get(position, (None, None)) for position in range(max(sealed) + 1)]

    def rows(data: bytes, at: int, stop: int, shown: list[bytes]) -> int:  # noqa: C901, PLR0912, PLR0915 - likewise
        add, whole, short = shown.append, 0, len(LENGTHS)
        salt_now, decrypt = b"", _NO_DECRYPTION
        last_now: LastRecord | None = None
        notes: list[Note] = []
        while stop - at >= _HEAD_SIZE:
            tag, size, count = _head_at(data, at)
            end = at + 1 + size
            if tag != ROW or end > stop:
                break
            copied, pos, head = at + 5, at + 7, len(shown)
            add(b"")
            try:
                for known, write in places:
                    if known is None:
                        (length,) = _length_at(data, pos)
                        pos += 4 + length if length > 0 else 4
                        continue
                    split, header, sealed_at, shortest, before, after, padded, note, last = known.facts
                    length, begins, slots, salt, nonce = split(data, pos)
                    if length < 0:
                        pos += 4
                        continue
                    behind = pos + 4 + length
                    if begins != header or not shortest <= length <= LONG_VALUE or behind > end:
                        break
                    if salt != salt_now or last is not last_now:
                        cipher = last.cipher
                        if cipher is None or salt != last.salt:
                            cipher = last.derive(salt)
                        salt_now, last_now, decrypt = salt, last, cipher.decrypt
                    value = decrypt(nonce, data[pos + sealed_at : behind], before + slots + after)
                    if padded:
                        value = unpad(value)
                    if note is not None:
                        notes.append(note)
                    if write is not None:
                        value = write(value)
                    if copied < pos:
                        add(data[copied:pos])
                    length_shown = len(value)
                    add(LENGTHS[length_shown] if length_shown < short else _pack_length(length_shown))
                    add(value)
                    size += length_shown - length
                    pos = copied = behind
                else:
                    if pos <= end and count == columns:
                        shown[head] = _pack_head(b"D", size)
                        add(data[copied:end])
                        at = end
                        whole += 1
                        if notes:
                            for note in notes:
                                note()
                            notes.clear()
                        continue
            except (InvalidTag, struct.error):
                pass  # it is said of the row below
            del shown[head:]
            notes.clear()
            at = one_row(data, at, max(end, at + _HEAD_SIZE), shown)
            whole += 1
        tally[0] += whole
        return at

    return rows
