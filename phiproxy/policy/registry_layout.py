"""What the registry says about identities, names and slots: the numbers that the policy file does not hold.

Read by ``phiproxy.keys.registry``; joined with the policy by ``phiproxy.policy.bind``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from phiproxy.documents.field_paths import Path, parse_path
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


def field_path(name: tuple[str, str, str]) -> Path:
    """Return the path of a field of a document by its registered name; empty for a column."""
    column = name[2].removeprefix(column_of(name)[2])
    return parse_path(column) if column else ()


def column_of(name: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return the table's column that a registered name is of: of a field of a document, ``doc$.ssn``, the document."""
    schema, table, column = name
    before, dollar, path = column.partition("$")
    return (schema, table, before) if dollar and path[:1] in (".", "[") else name


@dataclass(frozen=True, slots=True)
class Layout:
    """One registry's identities by number and its column names: (schema, table, column) -> number.

    ``distrusted`` are the names of columns whose registration does not verify (docs/registry.md): their values are not touched.
    ``counter`` is the registry's own when this was read. ``clear`` are the names of columns that may be in clear yet: what else the
    policy lists is protected, whatever the catalogue says.
    """

    deployment: str
    epoch: int
    identities: Mapping[int, RegisteredIdentity]
    columns: Mapping[tuple[str, str, str], int]
    collation: Collation | None = None
    distrusted: frozenset[tuple[str, str, str]] = frozenset()
    counter: int = field(default=0, compare=False)
    clear: frozenset[tuple[str, str, str]] = frozenset()

    def sealed_under(self, scope: str) -> list[tuple[str, str, str]]:
        """Return the names of columns whose values are under data keys of a scope, and the fields of those that are documents."""
        own = {name for name, number in self.columns.items() if self.identities[number].scope == scope}
        return sorted(name for name in self.columns if name in own or column_of(name) in own)

    @property
    def table_names(self) -> frozenset[str]:
        """The names of tables that the registry has columns of, in a policy or not."""
        return frozenset(table for _, table, _ in self.columns)


@dataclass(frozen=True, slots=True)
class WantedIdentity:
    """One identity as the policy file asks for it: what ``keys init`` registers.

    ``expressions`` are in phiproxy's own spelling (``@``); ``columns`` are (schema, table, column), at least one;
    ``scope`` is ``d:domain`` or ``t:schema.table`` (spec/stored-format 3.1). ``indexed_as`` is the type that its expressions are
    over: of a domain what that is over.
    """

    identity: str
    scope: str
    type_name: str
    expressions: Sequence[str]
    columns: Sequence[tuple[str, str, str]]
    indexed_as: str = field(default="", compare=False)
