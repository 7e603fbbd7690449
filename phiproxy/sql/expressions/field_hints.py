"""What would answer a comparison of a part of a document with sealed fields, where no index does: never an index that cannot be."""

from phiproxy.documents.field_paths import ELEMENTS
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import ProtectedColumn

_AS_JSON = frozenset({"jsonb", "bool"})


def index_name(column: ProtectedColumn) -> str:
    """Return what the policy's indexes call a column: of a field of a document `value`."""
    return "value" if column.path or column.part is not None else quote_ident(column.name)


def instead_of_index(column: ProtectedColumn) -> str | None:
    """Return what to do where the policy cannot list an index that would answer equality; None where it can.

    SELECT id FROM records WHERE fields ->> 'extra' = 'x'
    → refused 0A000
    """
    part = column.part
    if part is None or part.of.document is None:
        return None
    listed = dict(zip(part.of.document.paths, part.of.document.fields, strict=True))
    field = listed.get(part.path)
    if ELEMENTS in part.path:
        return "No index finds what stands in an array: keep what you search for in a field of its own."
    if field is None:
        return "Indexes are of single fields that the policy lists: compare one of them."
    if part.text and field.type.family in _AS_JSON:
        return "Its texts have no index: compare it as JSON (`->`), by an index on `value`."
    if part.text and field.type.family == "numeric":
        return "Its texts have no index: cast it (`::numeric`) or compare it as JSON (`->`), by an index on `value`."
    return None
