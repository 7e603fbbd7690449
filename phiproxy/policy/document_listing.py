"""What of a document with `others: sealed` is in clear: the guard keeps it, so that a policy that says otherwise is noticed.

A value that was stored in clear is not opened, and a sealed one in a place that the policy calls clear would be shown as it is.
"""

from collections.abc import Iterator, Mapping

from phiproxy.documents.field_paths import spell_path
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import ColumnState
from phiproxy.policy.model import PolicyColumn
from phiproxy.policy.protection import ColumnName


def listing_complaints(columns: list[PolicyColumn], states: Mapping[ColumnName, ColumnState], catalog: Catalog) -> list[str]:
    """Say which sealed documents were sealed under another `others` or `clear` than the policy has, and what is to be done."""
    return [line for column in columns if column.fields for line in _complaints(column, states, catalog)]


def _complaints(column: PolicyColumn, states: Mapping[ColumnName, ColumnState], catalog: Catalog) -> Iterator[str]:
    relation = catalog.by_name.get((column.schema, column.table))
    guarded = relation is not None and column.name in dict(relation.guards)
    if relation is None or not guarded or states.get(column.registered_name) not in ("sealed", "leaving"):
        return
    now = tuple(sorted(map(spell_path, column.clear))) if column.others_sealed else None
    then = dict(relation.guarded_clear).get(column.name)
    if now == then:
        return
    if now is None or then is None:
        was, is_ = ("clear", "sealed") if then is None else ("sealed", "clear")
        what = f"its documents were stored with `others: {was}`, the policy says `others: {is_}`"
    else:
        what = "`clear` is not what its documents were stored with: " + "; ".join(_differing(then, now))
    yield (
        f"{column.at}: {column.label}: {what}. Its documents must be rewritten: put the policy back as it was, run"
        f" `phiproxy decrypt {column.label}`, and under the new one `phiproxy encrypt {column.label}`. Without rows: `phiproxy ddl`"
    )


def _differing(then: tuple[str, ...], now: tuple[str, ...]) -> Iterator[str]:
    if plain := ", ".join(path for path in then if path not in now):
        yield f"{plain} is in clear in them"
    if sealed := ", ".join(path for path in now if path not in then):
        yield f"{sealed} is sealed in them"
