"""``doc @> value`` over a document with sealed fields: the server holds what is in clear, and sealed scalars are compared by tags.

Exactly so in objects, whose members ``@>`` compares by name, and scalars by type and value. What is sealed in arrays, or inside of
a field that is an array or object, has no tag for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from phiproxy.documents.field_paths import ELEMENTS, Path, spell_path
from phiproxy.documents.field_values import field_values
from phiproxy.documents.walk import Listed, listed
from phiproxy.errors import ValueRefused
from phiproxy.policy.protection import DocumentFields, ProtectedColumn
from phiproxy.sql.values.index_spelling import add_index
from phiproxy.sql.values.patterns import NotAnswered
from phiproxy.types.json_types import Value, canonical_ascii, parse, spell

REST: Final = -1
_ASKED = b"\x01"
_VERSION = b"\x01"
_OTHERWISE = "Fields that are text, numbers, truth values, dates or uuids, and stand in objects, are found by an index on `value`."


@dataclass(frozen=True, slots=True)
class ContainedFields:
    """One part of a containment: the field with the number ``own``, or (``REST``) what of the value is in clear.

    ``answered`` are the numbers of fields of which an index answers equality. ``asked``: it tells only whether the value has
    something at the field's path, by what is not empty then. ``owner`` is the column with its table.
    """

    own: int
    document: DocumentFields
    answered: frozenset[int]
    owner: str
    asked: bool = False

    def subjects(self, value: bytes) -> tuple[Mapping[int, bytes], Value]:
        """Return what fields must be, by their numbers, and what the server must hold; NotAnswered where that is not all.

        ``value`` is the canonical ``jsonb`` that a document must hold.
        """
        walk = _Walk(self)
        clear = walk.through(parse(value), self._root, ())
        return walk.subjects, clear

    def weaker(self, value: bytes) -> bytes | None:
        """Return an object with what can be answered: what holds ``value`` holds it too. None where there is none."""
        walk = _Walk(self, lenient=True)
        document = parse(value)
        if not isinstance(document, dict):
            return None
        walk.through(document, self._root, ())
        kept = walk.kept
        return spell(kept) if kept else None

    def in_clear(self, value: bytes) -> bytes:
        """Return what the server must hold, in jsonb's binary form; NotAnswered."""
        return _VERSION + canonical_ascii(self.subjects(value)[1])

    def tag(self, value: bytes, search: Callable[[bytes], bytes]) -> bytes:
        """Return what the server compares with: a tag, or nothing where the value has nothing at this field's path."""
        subject = self.subjects(value)[0].get(self.own)
        return b"" if subject is None else _ASKED if self.asked else search(subject)

    @property
    def _root(self) -> Listed:
        return listed(self.document.paths, self.document.clear)


class _Gone:
    """Stands for what is sealed, and so is not the server's to look for."""


_GONE = _Gone()


class _Walk:
    """A walk through a value, which takes what is sealed out of it; ``lenient``: and leaves out what nothing answers."""

    def __init__(self, contained: ContainedFields, *, lenient: bool = False) -> None:
        self._contained = contained
        self._lenient = lenient
        self.subjects: dict[int, bytes] = {}
        self.kept: dict[str, Value] = {}

    def through(self, value: Value, node: Listed | None, path: Path) -> Value:
        """Return what the server must hold; NotAnswered."""
        if not path and not isinstance(value, dict):
            raise NotAnswered(f"no blind index answers what {self._contained.owner} holds", hint="An index answers objects.")
        clear = self._value(value, node, path)
        assert not isinstance(clear, _Gone)
        return clear

    def _value(self, value: Value, node: Listed | None, path: Path) -> Value | _Gone:
        others = self._contained.document.others_sealed
        inside = node is not None and node.fields
        if node is not None and node.number is not None and value is not None:
            return self._field(node.number, value, path)
        if isinstance(value, dict) and (inside or others) and not (node is not None and node.clear):
            return self._object(value, node, path)
        in_clear = value is None or (node is not None and (node.clear or (not isinstance(value, list) and inside)))
        if in_clear or (not others and not inside):
            self._keep(path, value)
            return value
        return self._unanswered(path)

    def _object(self, value: Mapping[str, Value], node: Listed | None, path: Path) -> Value:
        below = node.below if node is not None else {}
        if not value:
            self._keep(path, {})
        members = {key: self._value(item, below.get(key), (*path, key)) for key, item in value.items()}
        return {key: item for key, item in members.items() if not isinstance(item, _Gone)}

    def _field(self, number: int, value: Value, path: Path) -> _Gone:
        field = self._contained.document.fields[number]
        if number not in self._contained.answered or isinstance(value, list | dict):
            return self._unanswered(path, field)
        try:
            self.subjects[number] = field_values(field.type).sealed(value)
        except ValueRefused:  # no document holds that there
            return self._unanswered(path, field)
        self._keep(path, value)
        return _GONE

    def _unanswered(self, path: Path, field: ProtectedColumn | None = None) -> _Gone:
        if self._lenient:
            return _GONE
        may_be = field is not None and ELEMENTS not in path and not self._contained.answered & {self._number(field)}
        hint = add_index("`value`", field.label) if field is not None and may_be else _OTHERWISE
        raise NotAnswered(f"no blind index answers {spell_path(path)} of what {self._contained.owner} holds", hint=hint)

    def _number(self, field: ProtectedColumn) -> int:
        return self._contained.document.fields.index(field)

    def _keep(self, path: Path, value: Value) -> None:
        inner = self.kept
        for key in path[:-1]:
            deeper = inner.setdefault(str(key), {})
            assert isinstance(deeper, dict)
            inner = deeper
        if path:
            inner[str(path[-1])] = value
