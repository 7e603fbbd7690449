"""What the registry says about identities, names and slots: the numbers that the policy file does not hold.

Read by ``phiproxy.keys.registry``; joined with the policy by ``phiproxy.policy.bind``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from phiproxy.index.collations import Collation
from phiproxy.policy.protection import Slot


@dataclass(frozen=True, slots=True)
class RegisteredIdentity:
    """One row of ``identity``: its number in every envelope, its name in every AAD, its scope for keys, its type."""

    number: int
    identity: str
    scope: str
    type_name: str
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """One registry's identities by number and its column names: (schema, table, column) -> number.

    ``distrusted`` are the names of columns whose registration does not verify (docs/registry.md): their values are not touched.
    ``counter`` is the registry's own when this was read.
    """

    deployment: str
    epoch: int
    identities: Mapping[int, RegisteredIdentity]
    columns: Mapping[tuple[str, str, str], int]
    collation: Collation | None = None
    distrusted: frozenset[tuple[str, str, str]] = frozenset()
    counter: int = field(default=0, compare=False)

    @property
    def table_names(self) -> frozenset[str]:
        """The names of tables that the registry has columns of, in a policy or not."""
        return frozenset(table for _, table, _ in self.columns)


@dataclass(frozen=True, slots=True)
class WantedIdentity:
    """One identity as the policy file asks for it: what ``keys init`` registers.

    ``expressions`` are in phiproxy's own spelling (``@``); ``columns`` are (schema, table, column), at least one;
    ``scope`` is ``d:domain`` or ``t:schema.table`` (crypto.md section 3). ``indexed_as`` is the type that its expressions are over:
    of a domain what that is over.
    """

    identity: str
    scope: str
    type_name: str
    expressions: Sequence[str]
    columns: Sequence[tuple[str, str, str]]
    indexed_as: str = field(default="", compare=False)
