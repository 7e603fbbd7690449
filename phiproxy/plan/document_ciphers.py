"""Documents with sealed fields: the closures that seal the leaves of one, and that open those of one or of a part of it.

All leaves of a document are sealed under the record of its row: one salt for each document and data key, of the table's scope.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from typing import TypeVar

from phiproxy.access.masks import mask
from phiproxy.access.rules import Masked
from phiproxy.crypto.envelope import envelope_parts
from phiproxy.crypto.seal import Note, OpenSpan, Record, RecordKeys, many_nonces
from phiproxy.documents.field_paths import Path, spell_path
from phiproxy.documents.field_values import FieldValues, field_values
from phiproxy.documents.sealed_leaves import PREFIX, envelope_of, leaf_of, looks_sealed
from phiproxy.documents.walk import AS_LISTED, Walk, listed, refused_document, stored_otherwise
from phiproxy.errors import SealError, ValueRefused
from phiproxy.long_values import LONG_JSON, copied, decoded, encoded, take_apart
from phiproxy.plan.field_ciphers import FieldCiphers, Macs, Made
from phiproxy.policy.physical_documents import OF_NULL
from phiproxy.policy.protection import DocumentFields, Part, ProtectedColumn, Slot
from phiproxy.types.declared import DeclaredType
from phiproxy.types.json_types import Value, canonical, canonical_ascii, parse
from phiproxy.types.value_errors import UnsupportedVersion
from phiproxy.wire.bytea_and_text import check_text
from phiproxy.wire.fields import FieldFunctionOrNull

T = TypeVar("T")

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

    def __init__(self, ciphers: FieldCiphers, column: ProtectedColumn) -> None:
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


def sealing(ciphers: FieldCiphers, column: ProtectedColumn) -> Made:
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


def _json_of(family: str, canonical_form: bytes) -> Value:
    """Return what ``to_jsonb`` makes of a text, a number or a truth value."""
    if family in ("text", "varchar"):
        return check_text(canonical_form).decode()
    if family == "bool":
        return canonical_form == b"t"
    # NaN and the infinities, which JSON does not have, become strings.
    return canonical_form if canonical_form[-1:].isdigit() else canonical_form.decode()


def _opened_now(ciphers: FieldCiphers, field: ProtectedColumn) -> OpenSpan:
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


def opening(ciphers: FieldCiphers, column: ProtectedColumn) -> OpenSpan:
    """Return (data, begin, end of the server's text) -> the text with all leaves opened, of a document or a part of one.

    Of a part that is shown as text, a leaf that is a string is that string. Fields of which the session sees masks are these.
    Raises SealError (XX001) for a leaf that is not sealed, or does not open, and KeyNeeded.
    """
    as_text = column.part is not None and column.part.text
    return _opening(ciphers, column, lambda value: _shown(value, as_text=as_text))


def showing(ciphers: FieldCiphers, column: ProtectedColumn) -> FieldFunctionOrNull:
    """Return the same of a part that is shown as text, and in which masks are: None, which is NULL, for one that is JSON's null."""
    return _opening(ciphers, column, lambda value: None if value is None else _shown(value, as_text=True))


def _opening(ciphers: FieldCiphers, column: ProtectedColumn, spell: Callable[[Value], T]) -> Callable[[bytes, int, int], T]:
    part = column.part
    of = part.of if part is not None else column
    path = part.path if part is not None else ()
    assert of.document is not None
    document = _as_seen(of.document, of.masked)
    unopened = [ciphers.unopened(field) if _is_hidden(field) else None for field in document.fields]
    walk = _opening_walk(ciphers, document, ciphers.open_span, _Others(ciphers, of).open, unopened)
    node, as_text = listed(document.paths, document.clear).at(path), part is not None and part.text

    def leaves_of(text: bytes) -> tuple[Value, Records, Mapping[int, int]]:
        stored = _stored(text, as_text=as_text)
        try:
            return stored, *_leaves(of.label, document, partial(Walk.through, value=stored, node=node, path=path))
        except SealError:
            take_apart(stored)
            raise

    def opened(data: bytes, begin: int, end: int) -> T:
        if end - begin > LONG_JSON:
            return opened_apart(data, begin, end)
        return spell(walk.through(_stored(data[begin:end], as_text=as_text), node, path))

    def opened_apart(data: bytes, begin: int, end: int) -> T:
        """Let another thread read the document, and then open it by the keys that its leaves ask for: a keyring is not for two."""
        stored, asked, hidden = ciphers.long_work.do(lambda: leaves_of(copied(data, begin, end)))
        keys = ciphers.record_keys(column, asked)
        for number, times in hidden.items():
            _tell(unopened[number], times)
        by_path: dict[Path, OpenSpan] = {}

        def open_other(at: Path) -> OpenSpan:
            if at not in by_path:
                by_path[at] = ciphers.opening_by(_other_at(of, at), keys)
            return by_path[at]

        apart = _opening_walk(ciphers, document, lambda field: ciphers.opening_by(field, keys), open_other)

        def all_opened() -> T:
            value = stored
            try:
                value = apart.through(stored, node, path)
                return spell(value)
            finally:
                take_apart(stored, value)

        return ciphers.long_work.do(all_opened)

    return opened


def _as_seen(document: DocumentFields, masked: Masked | None) -> DocumentFields:
    """Return a document whose fields know what the session sees of them."""
    masks = dict(masked.fields) if masked is not None else {}
    return replace(document, fields=tuple(replace(field, masked=masks.get(field.path)) for field in document.fields))


Records = Mapping[tuple[int, bytes], Mapping[tuple[str, bool], int]]
"""How many leaves of which labels, masked or not, are under which data key and salt."""


def _leaves(label: str, document: DocumentFields, through: Callable[[Walk], object]) -> tuple[Records, Mapping[int, int]]:
    """Return by what the leaves of a stored document are to be opened, and how many of which fields are not; for any thread."""
    records: dict[tuple[int, bytes], Counter[tuple[str, bool]]] = {}
    hidden = Counter[int]()

    def note(own: str, leaf: Value, *, masked: bool = False) -> Value:
        key_id, _, _, _, salt, _, _ = envelope_parts(envelope_of(leaf), field=True)
        records.setdefault((key_id, salt), Counter())[own, masked] += 1
        return leaf

    def note_field(number: int, leaf: Value) -> Value:
        field = document.fields[number]
        if not _is_hidden(field):
            return note(field.label, leaf, masked=field.masked is not None)
        hidden[number] += 1
        return leaf

    others = (lambda _path, leaf: note(label, leaf)) if document.others_sealed else None
    through(Walk(note_field, others, stored_otherwise))
    return records, hidden


def _stored(text: bytes, *, as_text: bool) -> Value:
    """Return what the server shows of a document; ``as_text``: as ``->>`` gives it, where a leaf is not quoted."""
    return decoded(text) if as_text and text.startswith(PREFIX.encode()) else _parsed(text)


def _shown(value: Value, *, as_text: bool) -> bytes:
    return encoded(value) if as_text and isinstance(value, str) else canonical(value)


_NO_LEAF = b"\x01"
"""What is no tag: for what no field of its type can be."""


def searching_json(ciphers: FieldCiphers, part: Part, slot: Slot) -> Callable[[bytes], bytes]:
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
    ciphers: FieldCiphers,
    document: DocumentFields,
    open_field: Callable[[ProtectedColumn], OpenSpan],
    open_other: Callable[[Path], OpenSpan],
    unopened: Sequence[Note | None] | None = None,
) -> Walk:
    """Return the walk that opens leaves, or makes masks of them, by what opens those of a field, and other ones at a path.

    ``unopened`` is told, for each field, that a mask is shown for which nothing was opened; None: it is for any thread.
    """
    notes = unopened if unopened is not None else [None] * len(document.fields)
    fields = [
        _shows(ciphers, field, open_field, note, apart=unopened is None)
        for field, note in zip(document.fields, notes, strict=True)
    ]
    any_value = field_values(_JSONB)

    def change(number: int, value: Value) -> Value:
        return fields[number](value)

    def change_other(path: Path, value: Value) -> Value:
        return _opened(open_other(path), any_value, value)

    return Walk(change, change_other if document.others_sealed else None, stored_otherwise)


def _opened(open_span: OpenSpan, values: FieldValues, value: Value) -> Value:
    envelope = envelope_of(value)
    return values.opened(open_span(envelope, 0, len(envelope)))


def _tell(note: Note | None, times: int) -> None:
    if note is not None:
        for _ in range(times):
            note()


def _is_hidden(field: ProtectedColumn) -> bool:
    """Tell whether a mask is shown of a field for which nothing is opened."""
    return field.masked is not None and not field.masked.show.needs_value


def _shows(
    ciphers: FieldCiphers,
    field: ProtectedColumn,
    open_field: Callable[[ProtectedColumn], OpenSpan],
    note: Note | None,
    *,
    apart: bool,
) -> Callable[[Value], Value]:
    """Return what makes of a sealed leaf what is shown of it: its value, or its mask, for which it is opened if that needs it."""
    values = field_values(field.type)
    if field.masked is None:
        return partial(_opened, open_field(field), values)
    show = field.masked.show
    hide = mask(show, field.type, ciphers.digest(field, apart=apart) if show.kind == "pseudonym" else None)

    def masked(plaintext: bytes) -> Value:
        shown = hide(plaintext)
        return None if shown is None else values.opened(shown)

    if _is_hidden(field):

        def unopened(_leaf: Value) -> Value:
            if note is not None:
                note()
            return masked(b"")  # anew each time: what is shown of a long document is taken apart behind it

        return unopened
    return partial(_opened, open_field(field), FieldValues(values.sealed, masked))


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
