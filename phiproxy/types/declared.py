"""The type that a column has for the application: its name, oid and typmod, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace

from phiproxy.frozen import dataclass
from phiproxy.wire.oids import BUILTIN_TYPES, INTERVAL_OID, TEXT_ARRAY_OID, TEXT_OID, VARCHAR_OID

_TEXTS = frozenset({TEXT_OID, VARCHAR_OID})


@dataclass(frozen=True, slots=True)
class DomainCheck:
    """A CHECK of a domain: ``condition`` is how it is written down, ``holds`` answers it for a value, as SQL does (NULL: None)."""

    name: str
    condition: bytes
    holds: Callable[[str | None], bool | None] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """The type the application sees. ``typmod`` as in pg_attribute: n + 4 for varchar(n), else -1; ``size`` is pg_type's typlen.

    ``element`` is that of an array, ``labels`` are an enum's, ``base`` is what a domain is over, with its ``checks`` and whether it
    takes no NULL; ``array_oid`` is the type of arrays of this one. ``schema`` is that of a type of the database's own; its oid is 0
    until it was found in the catalogue.
    """

    name: str
    oid: int
    typmod: int = -1
    size: int = field(default=-1, compare=False)
    array_oid: int = field(default=0, compare=False)
    element: DeclaredType | None = None
    labels: tuple[str, ...] = ()
    base: DeclaredType | None = None
    schema: str = ""
    checks: tuple[DomainCheck, ...] = ()
    not_null: bool = False

    def __hash__(self) -> int:
        return hash((self.oid, self.typmod, self.name))

    @classmethod
    def builtin(cls, name: str) -> DeclaredType:
        """Return a type by the name that pg_type gives it, without a length."""
        row = BUILTIN_TYPES[name]
        return cls(name, row.oid, size=row.size, array_oid=row.array_oid)

    @property
    def known(self) -> bool:
        """Tell whether it is the server's own, or was found in the catalogue."""
        return (self.element or self).oid != 0

    @property
    def underlying(self) -> DeclaredType:
        """What a domain is over in the end: its values are read, shown and compared as that. Of any other the type itself."""
        return self if self.base is None else self.base.underlying

    @property
    def ignores_case(self) -> bool:
        """Tell whether values are equal that differ in upper and lower case only: of citext, and of arrays of it."""
        return (self.element or self).underlying.family == "citext"

    @property
    def sent_as(self) -> int:
        """The OID of a built-in type whose binary form has texts in the client's encoding where this one's has."""
        scalar = (self.element or self.underlying).underlying
        if self.element is not None:
            return scalar.array_oid if not scalar.schema else TEXT_ARRAY_OID
        return scalar.oid if not scalar.schema else TEXT_OID

    @property
    def indexed_as(self) -> str:
        """The name by which functions of an index take it."""
        return self.underlying.name

    @property
    def family(self) -> str:
        """The name in pg_type without schema and length, or ``array``, ``enum``, ``domain``: what decides how values are read."""
        if self.element is not None:
            return "array"
        if self.labels:
            return "enum"
        if self.base is not None:
            return "domain"
        if self.oid == INTERVAL_OID:
            return "interval"  # "interval day to second(3)"
        name = self.name.partition("(")[0].rpartition(".")[2]
        return "bpchar" if name == "char" else name

    @property
    def is_text(self) -> bool:
        """Tell whether values are texts, stored and compared as they are."""
        return self.oid in _TEXTS

    @property
    def max_length(self) -> int | None:
        """Characters of varchar(n), or None."""
        return self.typmod - 4 if self.typmod >= 4 and self.oid == VARCHAR_OID else None

    @property
    def unlimited(self) -> DeclaredType:
        """The same type without its typmod: what a parameter is read as (manual 10.4)."""
        if self.typmod == -1:
            return self
        element = None if self.element is None else self.element.unlimited
        return replace(self, name=self.family if element is None else element.name + "[]", typmod=-1, element=element)
