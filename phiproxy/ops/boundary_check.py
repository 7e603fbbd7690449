"""What ``check`` says of tables that are named like protected ones, and of columns that were let go."""

from collections.abc import Iterator
from typing import Literal

from phiproxy.policy.boundary import clear_entry, released_guards, strangers
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.inheritance import with_descendants
from phiproxy.policy.model import Policy
from phiproxy.policy.plaintext_guards import guard_name
from phiproxy.policy.protection import Protection


def boundary_texts(policy: Policy, protection: Protection, catalog: Catalog) -> Iterator[tuple[Literal["note", "warning"], str]]:
    """Yield (level, text) for each table that only the policy can say is in clear, and each guard that outlived its column."""
    for relation, column in strangers(with_descendants(protection, catalog), catalog):
        entry = clear_entry(relation.schema, relation.name)
        yield (
            "warning",
            f"{relation.qualified} is not protected, and has the name of a protected table and of its column {column}: every"
            f" statement that reaches it is refused; rename or drop it, or say that it is in clear: {entry}",
        )
    for schema, name in sorted(protection.boundary.clear):
        yield "note", f"{schema}.{name} is in clear, as the policy says: what is sent to it is stored as it is"
    for sealed in released_guards(policy, catalog):
        yield (
            "warning",
            f"{sealed.label} is released, and its guard is still there: nothing but what is sealed can be stored in it, and it is"
            f" shown as it is stored; once it holds clear values, or none, drop the constraint {guard_name(sealed.column)}",
        )
