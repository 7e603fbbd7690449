"""``doc @> value`` as comparisons of tags: a document holds an object where it holds each scalar of it at the same path.

Exactly so, since in objects ``@>`` compares members by name, and scalars by type and value. Not so in arrays, whose elements may
stand in any order, for ``{}``, which every object holds, and for a scalar at the top, which an array may hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from phiproxy.documents.path_operators import Path
from phiproxy.errors import ValueRefused
from phiproxy.index.document_paths import spelled_path
from phiproxy.policy.identifiers import shown_expression
from phiproxy.sql.values.index_spelling import add_index, await_index
from phiproxy.sql.values.patterns import NotAnswered
from phiproxy.types.json_types import Value, parse, spell

Keys = tuple[str, ...]
_ASKED = b"\x01"


@dataclass(frozen=True, slots=True)
class PathIndex:
    """A blind index over a path of keys, from the document that is compared; ``as_text``: over what is there as text."""

    keys: Keys
    as_text: bool


@dataclass(frozen=True, slots=True)
class Contained:
    """One index that answers a part of a containment: the one with the number ``own`` of all that may.

    ``asked``: it tells only whether the value has something at its path, by what is not empty then.

    ``over`` is the compared document in phiproxy's spelling, ``column`` the name of the column in it, ``owner`` the column with its
    table. ``waiting`` are the expressions of indexes that answer nothing yet.
    """

    own: int
    indexes: tuple[PathIndex, ...]
    over: str
    column: str
    owner: str
    waiting: frozenset[str] = frozenset()
    asked: bool = False

    def subjects(self, value: bytes) -> Mapping[int, bytes]:
        """Return the values whose tags must be equal, by the numbers of their indexes; NotAnswered where that is not all.

        ``value`` is the canonical ``jsonb`` that a document must hold.
        """
        document = parse(value)
        if not isinstance(document, dict) or not document:
            hint = "An index can answer an object with scalars in it: select the rows by another column."
            raise NotAnswered(f"no blind index answers what {self.owner} holds", hint=hint)
        return dict(self._subject(keys, leaf) for keys, leaf in _leaves(document, ()))

    def weaker(self, value: bytes) -> bytes | None:
        """Return an object with those scalars that indexes answer: what holds ``value`` holds it too. None where there are none."""
        document = parse(value)
        kept: dict[str, Value] = {}
        for keys, leaf in _leaves(document, ()) if isinstance(document, dict) else ():
            with suppress(NotAnswered):
                self._subject(keys, leaf)
                inner = kept
                for key in keys[:-1]:
                    deeper = inner.setdefault(key, {})
                    assert isinstance(deeper, dict)
                    inner = deeper
                inner[keys[-1]] = leaf
        return spell(kept) if kept else None

    def tag(self, value: bytes, search: Callable[[bytes], bytes]) -> bytes:
        """Return what the server compares with: a tag, or nothing where the value has nothing at this index's path."""
        subject = self.subjects(value).get(self.own)
        return b"" if subject is None else _ASKED if self.asked else search(subject)

    def _subject(self, keys: Keys, leaf: Value) -> tuple[int, bytes]:
        if not isinstance(leaf, list | dict):
            for number, index in enumerate(self.indexes):
                if index == PathIndex(keys, as_text=False):
                    return number, spell(leaf)
            for number, index in enumerate(self.indexes):
                if index == PathIndex(keys, as_text=True) and isinstance(leaf, str) and not _is_of_another_type(leaf):
                    return number, leaf.encode()
        raise NotAnswered(f"no blind index answers a part of what {self.owner} holds", hint=self._missing(keys, leaf))

    def _missing(self, keys: Keys, leaf: Value) -> str:
        if isinstance(leaf, list | dict):
            return "An index answers scalars in objects, not arrays or objects without members."
        form = spelled_path(self.over, Path.of_texts(keys))
        shown = shown_expression(form, self.column)
        return await_index(shown) if form in self.waiting else add_index(f"`{shown}`", self.owner)


def _leaves(document: Mapping[str, Value], keys: Keys) -> Iterator[tuple[Keys, Value]]:
    """Yield what is at the ends of an object's paths: scalars, arrays and empty objects."""
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*keys, key))
        else:
            yield (*keys, key), value


def _is_of_another_type(text: str) -> bool:
    """Tell whether a string is also the text of a number, truth value, array or object, which is another value."""
    try:
        value = parse(text.encode())
        return not isinstance(value, str) and value is not None and spell(value) == text.encode()
    except ValueRefused:
        return False
