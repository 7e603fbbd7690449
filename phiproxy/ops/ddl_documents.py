"""What a document with sealed fields needs of its table, beside what it has: it stays jsonb, with a guard and indexes of tags."""

from collections.abc import Iterator

from phiproxy.documents.field_paths import spell_path
from phiproxy.ops.physical_tables import PhysicalColumn, PhysicalTable, is_tag_index
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.model import PolicyColumn
from phiproxy.policy.protection import ProtectedColumn, Slot, answering_slots


def document_complaint(table: PhysicalTable, wanted: PolicyColumn, current: PhysicalColumn, *, guarded: bool) -> str | None:
    """Say what has to be decided by a human before the guard can be added, or None."""
    name = f"{quote_ident(table.schema)}.{quote_ident(table.name)}"
    column = quote_ident(wanted.name)
    if current.type_name != "jsonb":
        return (
            f"{wanted.label} is {current.type_name}, and fields are sealed in a jsonb:"
            f" ALTER TABLE {name} ALTER COLUMN {column} TYPE jsonb USING {column}::jsonb first"
        )
    if not guarded and table.has_rows:
        return f"{name} has rows, whose fields are in plaintext: `phiproxy encrypt {wanted.label}` seals them"
    if current.default is not None:
        return f"a DEFAULT of {wanted.label} is not in this version: ALTER TABLE {name} ALTER COLUMN {column} DROP DEFAULT first"
    return None


def missing_indexes(table: PhysicalTable, wanted: PolicyColumn, column: ProtectedColumn) -> Iterator[tuple[ProtectedColumn, Slot]]:
    """Yield each field and slot that the policy indexes and the table has no index for."""
    assert column.document is not None
    described = {spell_path(field.path): field.expressions for field in wanted.fields}
    for field in column.document.fields:
        for slot in answering_slots(field.slots, described[field.path]).values():
            if not any(is_tag_index(index, field, slot) for index in table.indexes):
                yield field, slot
