"""Documents with sealed fields: the closures that seal the leaves of one, and that open those of one or of a part of it.

All leaves of a document are sealed under the record of its row: one salt for each document and data key, of the table's scope.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.hmac import HMAC

from phiproxy.crypto.envelope import envelope_parts
from phiproxy.crypto.seal import OpenSpan, Record, RecordKeys, many_nonces
from phiproxy.documents.field_paths import Path, spell_path
from phiproxy.documents.field_values import FieldValues, field_values
from phiproxy.documents.sealed_leaves import LOOKS_SEALED, PREFIX, envelope_of, leaf_of, looks_sealed
from phiproxy.documents.walk import AS_LISTED, Walk, listed, refused_document, stored_otherwise
from phiproxy.errors import IndexKeyWant, SealError, ValueRefused
from phiproxy.long_values import LONG_JSON, copied, decoded, encoded, found_at, take_apart
from phiproxy.policy.physical_documents import OF_NULL
from phiproxy.policy.protection import DocumentFields, Part, ProtectedColumn, Slot
from phiproxy.types.declared import DeclaredType
from phiproxy.types.json_types import Value, canonical, canonical_ascii, parse
from phiproxy.types.value_errors import UnsupportedVersion
from phiproxy.wire.bytea_and_text import check_text

if TYPE_CHECKING:
    from phiproxy.plan.column_ciphers import Ciphers

Macs = Sequence[HMAC]
"""A column's index keys, one for each slot that is live, in slot order; of a document those of its fields, one after the other."""


class RowStoreFunction(Protocol):
    """Seals a value."""

    def __call__(self, value: bytes, record: Record, macs: Macs, keys: RecordKeys | None = None, /) -> bytes:
        """Return what the server gets. ``keys`` open what a document spells that is stored; without them the keyring is asked."""


Made = tuple[RowStoreFunction, tuple[IndexKeyWant, ...]]

VERSION = b"\x01"
"""What a jsonb begins with in its binary form."""
_WHOLE = frozenset({"int2", "int4", "int8"})
_JSONB = DeclaredType.builtin("jsonb")
# Of other leaves than listed ones, by their paths: a document may have any number of them.
_MAX_OTHERS = 4096


class _Others:
    """What seals and opens other leaves of a document: under its identity, with the path of each bound into its values.

    A client chooses their paths, so nothing is counted or noted by them, and few are remembered.
    """

    def __init__(self, ciphers: Ciphers, column: ProtectedColumn) -> None:
        self._ciphers = ciphers
        self._label = column.label
        self._column = column
        self._seals: dict[Path, Callable[[bytes, Record], bytes]] = {}
        self._opens: dict[Path, OpenSpan] = {}

    def at(self, path: Path) -> ProtectedColumn:
        """Return the column of a leaf at a path."""
        return _other_at(self._column, path)

    def seal(self, path: Path) -> Callable[[bytes, Record], bytes]:
        """Return what seals the leaf at a path."""
        seal = self._seals.get(path)
        if seal is None:
            if len(self._seals) >= _MAX_OTHERS:
                self._seals.clear()
            seal = self._seals[path] = self._ciphers.sealing_once(self.at(path))
        return seal

    def open_now(self, path: Path) -> OpenSpan:
        """Return the same for a single value."""
        self._ciphers.look_at_clock()
        return self.open(path)

    def open(self, path: Path) -> OpenSpan:
        """Return what opens the leaf at a path, for a run of values."""
        opened = self._opens.get(path)
        if opened is None:
            if len(self._opens) >= _MAX_OTHERS:
                self._opens.clear()
            opened = self._opens[path] = self._ciphers.opening_once(self.at(path), self._label)
        return opened


def _other_at(column: ProtectedColumn, path: Path) -> ProtectedColumn:
    return replace(column, document=None, slots=(), type=_JSONB, path=spell_path(path))


def sealing(ciphers: Ciphers, column: ProtectedColumn) -> Made:
    """Return what seals documents of a column, and the index keys of all of its fields, in their order.

    The function takes jsonb's text and returns jsonb's binary form, whose text is ASCII: it is the same in every encoding. Of a
    column with a ``place`` it takes what is put there, in its type's canonical form, and returns that as JSON.
    Raises ValueRefused (22P02) for a document that is not as the policy says, with the path.
    """
    document = column.document
    assert document is not None
    fields = [(field, *ciphers.made(field), field_values(field.type)) for field in document.fields]
    wants = tuple(want for _, _, own, _ in fields for want in own)
    spans = list(pairwise(accumulate((len(own) for _, _, own, _ in fields), initial=0)))
    tree, others = listed(document.paths, document.clear).at(column.place), _Others(ciphers, column)
    read = parse if column.type.family == "jsonb" else partial(_json_of, column.type.family)
    tally = ciphers.counts.stored(column.label)
    any_value = field_values(_JSONB)

    def store(text: bytes, record: Record, macs: Macs, keys: RecordKeys | None = None, /) -> bytes:
        def change(number: int, value: Value) -> Value:
            field, seal, _, values = fields[number]
            begin, end = spans[number]
            opened = partial(_opened_now, ciphers, field) if keys is None else partial(ciphers.opening_by, field, keys)
            return leaf_of(seal(_plaintext(field, opened, values, value), record, macs[begin:end]))

        def change_other(path: Path, value: Value) -> Value:
            if looks_sealed(value):
                other = others.at(path)
                opened = partial(others.open_now, path) if keys is None else partial(ciphers.opening_by, other, keys)
                plaintext = _plaintext(other, opened, any_value, value)
            else:
                plaintext = any_value.sealed(value)
            return leaf_of(others.seal(path)(plaintext, record))

        walk = Walk(change, change_other if document.others_sealed else None, refused_document)
        if len(text) > LONG_JSON:
            record.nonces = record.nonces or many_nonces()
        plain = sealed = read(text)
        try:
            sealed = walk.through(plain, tree, column.place)
            spelled = canonical_ascii(sealed, VERSION)
        finally:
            if len(text) > LONG_JSON:
                take_apart(plain, sealed)
        tally[0] += 1
        return spelled

    return store, wants


def spelled_in(text: bytes) -> set[tuple[int, bytes]]:
    """Return the data keys and salts of stored leaves that a document spells, in canonical form. For any thread.

    A leaf is a whole string, so it has no escapes, and a quote before and behind it; but for a text that is put at a place.
    """
    found: set[tuple[int, bytes]] = set()
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


def _json_of(family: str, canonical_form: bytes) -> Value:
    """Return what ``to_jsonb`` makes of a text, a number or a truth value."""
    if family in ("text", "varchar"):
        return check_text(canonical_form).decode()
    if family == "bool":
        return canonical_form == b"t"
    # NaN and the infinities, which JSON does not have, become strings.
    return canonical_form if canonical_form[-1:].isdigit() else canonical_form.decode()


def _opened_now(ciphers: Ciphers, field: ProtectedColumn) -> OpenSpan:
    ciphers.look_at_clock()
    return ciphers.open_span(field)


def _plaintext(field: ProtectedColumn, opening: Callable[[], OpenSpan], values: FieldValues, value: Value) -> bytes:
    """Return what is sealed of a field's value; refuses one of another kind, and the spelling of a stored one."""
    if looks_sealed(value):
        try:
            envelope = envelope_of(value)
            opening()(envelope, 0, len(envelope))
        except SealError:
            pass
        else:
            raise ValueRefused(
                f"the value for {field.label} is the spelling of a stored one",
                hint="Load a dump past the proxy the way it was made.",
            )
    try:
        return values.sealed(value)
    except ValueRefused as refused:
        refused.message = f"{field.path}: {refused.message}"
        refused.hint = refused.hint or AS_LISTED
        raise


def opening(ciphers: Ciphers, column: ProtectedColumn) -> OpenSpan:
    """Return (data, begin, end of the server's text) -> the text with all leaves opened, of a document or a part of one.

    Of a part that is shown as text, a leaf that is a string is that string. Raises SealError (XX001) for a leaf that is not sealed,
    or does not open, and KeyNeeded.
    """
    part = column.part
    of = part.of if part is not None else column
    path = part.path if part is not None else ()
    document = of.document
    assert document is not None
    walk = _opening_walk(document, ciphers.open_span, _Others(ciphers, of).open)
    node, as_text = listed(document.paths, document.clear).at(path), part is not None and part.text
    labels = tuple(field.label for field in document.fields)

    def opened(data: bytes, begin: int, end: int) -> bytes:
        if end - begin > LONG_JSON:
            return opened_apart(data, begin, end)
        return _shown(walk.through(_stored(data[begin:end], as_text=as_text), node, path), as_text=as_text)

    def opened_apart(data: bytes, begin: int, end: int) -> bytes:
        """Let another thread read the document, and then open it by the keys that its leaves ask for: a keyring is not for two."""
        stored, asked = ciphers.long_work.do(lambda: leaves_of(_stored(copied(data, begin, end), as_text=as_text)))
        keys = ciphers.record_keys(column, asked)
        by_path: dict[Path, OpenSpan] = {}

        def open_other(at: Path) -> OpenSpan:
            if at not in by_path:
                by_path[at] = ciphers.opening_by(_other_at(of, at), keys)
            return by_path[at]

        apart = _opening_walk(document, lambda field: ciphers.opening_by(field, keys), open_other)

        def all_opened() -> bytes:
            value = stored
            try:
                value = apart.through(stored, node, path)
                return _shown(value, as_text=as_text)
            finally:
                take_apart(stored, value)

        return ciphers.long_work.do(all_opened)

    def leaves_of(stored: Value) -> tuple[Value, Records]:
        records: dict[tuple[int, bytes], Counter[str]] = {}

        def note(label: str, leaf: Value) -> Value:
            key_id, _, _, _, salt, _, _ = envelope_parts(envelope_of(leaf), field=True)
            records.setdefault((key_id, salt), Counter())[label] += 1
            return leaf

        others = (lambda _path, leaf: note(of.label, leaf)) if document.others_sealed else None
        try:
            Walk(lambda number, leaf: note(labels[number], leaf), others, stored_otherwise).through(stored, node, path)
        except SealError:
            take_apart(stored)
            raise
        return stored, records

    return opened


Records = Mapping[tuple[int, bytes], Mapping[str, int]]
"""How many leaves of which labels are under which data key and salt."""


def _stored(text: bytes, *, as_text: bool) -> Value:
    """Return what the server shows of a document; ``as_text``: as ``->>`` gives it, where a leaf is not quoted."""
    return decoded(text) if as_text and text.startswith(PREFIX.encode()) else _parsed(text)


def _shown(value: Value, *, as_text: bool) -> bytes:
    return encoded(value) if as_text and isinstance(value, str) else canonical(value)


_NO_LEAF = b"\x01"
"""What is no tag: for what no field of its type can be."""


def searching_json(ciphers: Ciphers, part: Part, slot: Slot) -> Callable[[bytes], bytes]:
    """Return canonical jsonb -> what the server compares a field with that is taken as JSON: a tag, or what stands for one.

    A field of type integer is ``34`` where ``34.0`` is searched, as jsonb has it.
    """
    document = part.of.document
    assert document is not None
    field = dict(zip(document.paths, document.fields, strict=True))[part.path]
    values, search = field_values(field.type), ciphers.search(field, slot, field.type)
    whole = field.type.family in _WHOLE

    def searched(value: bytes) -> bytes:
        parsed = parse(value)
        if parsed is None:
            return OF_NULL
        try:
            return search(values.sealed(_without_decimals(parsed) if whole and isinstance(parsed, bytes) else parsed))
        except ValueRefused:
            return _NO_LEAF

    return searched


def _without_decimals(number: bytes) -> bytes:
    """Return a number as jsonb prints it without decimals that are zero: ``34.00`` → ``34``."""
    before, point, decimals = number.partition(b".")
    return before if point and not decimals.strip(b"0") else number


def _opening_walk(
    document: DocumentFields, open_field: Callable[[ProtectedColumn], OpenSpan], open_other: Callable[[Path], OpenSpan]
) -> Walk:
    """Return the walk that opens leaves, by what opens those of a field, and other ones at a path."""
    fields = [(open_field(field), field_values(field.type)) for field in document.fields]
    any_value = field_values(_JSONB)

    def opened(open_span: OpenSpan, values: FieldValues, value: Value) -> Value:
        envelope = envelope_of(value)
        return values.opened(open_span(envelope, 0, len(envelope)))

    def change(number: int, value: Value) -> Value:
        return opened(*fields[number], value)

    def change_other(path: Path, value: Value) -> Value:
        return opened(open_other(path), any_value, value)

    return Walk(change, change_other if document.others_sealed else None, stored_otherwise)


def _parsed(text: bytes) -> Value:
    try:
        return parse(text)
    except ValueRefused:
        raise SealError("what the server shows of a document is not JSON") from None


def of_binary(field: bytes) -> bytes:
    """Return jsonb's text from its binary form; XX000 for another version, as PostgreSQL."""
    if field[:1] != VERSION:
        raise UnsupportedVersion("unsupported jsonb version number")
    return field[1:]
