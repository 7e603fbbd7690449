"""The type that a column has for the application: its name, oid and typmod, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

_TEXTS = frozenset({"text", "varchar"})
_VARCHAR_OID = 1043
_INTERVAL_OID = 1186


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """The type the application sees. ``typmod`` as in pg_attribute: n + 4 for varchar(n), else -1; ``size`` is pg_type's typlen.

    ``element`` is that of an array, ``labels`` are an enum's, ``base`` is what a domain is over; ``array_oid`` is the type of
    arrays of this one.
    """

    name: str
    oid: int
    typmod: int = -1
    size: int = field(default=-1, compare=False)
    array_oid: int = field(default=0, compare=False)
    element: DeclaredType | None = None
    labels: tuple[str, ...] = ()
    base: DeclaredType | None = None

    @property
    def family(self) -> str:
        """The name in pg_type without schema and length, or ``array``, ``enum``, ``domain``: what decides how values are read."""
        if self.element is not None:
            return "array"
        if self.labels:
            return "enum"
        if self.base is not None:
            return "domain"
        if self.oid == _INTERVAL_OID:
            return "interval"  # "interval day to second(3)"
        name = self.name.partition("(")[0].rpartition(".")[2]
        return "bpchar" if name == "char" else name

    @property
    def is_text(self) -> bool:
        """Tell whether values are texts, stored and compared as they are."""
        return self.family in _TEXTS

    @property
    def max_length(self) -> int | None:
        """Characters of varchar(n), or None."""
        return self.typmod - 4 if self.typmod >= 4 and self.oid == _VARCHAR_OID else None

    @property
    def unlimited(self) -> DeclaredType:
        """The same type without its typmod: what a parameter is read as (manual 10.4)."""
        return self if self.typmod == -1 else replace(self, typmod=-1)
