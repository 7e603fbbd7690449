"""What an index or constraint reads in clear of a document with sealed fields: it is the server's own, and stays as written."""

from collections.abc import Collection
from functools import partial
from typing import Any

from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.document_paths import in_clear, spelled_path
from phiproxy.sql.expressions.index_expressions import own_name
from phiproxy.sql.statements.ddl.unique_keys import Columns
from phiproxy.sql.text.parse import Node, messages, only, strings


def sealed_references(a: Analysis, tree: Any, columns: Columns) -> list[Node]:
    """Return the references below a tree to protected columns or whole rows, without those for what is in clear of a document.

    CREATE INDEX ON records ((fields ->> 'ward'))
    → CREATE INDEX ON public.records ((fields ->> 'ward'))

    CREATE INDEX ON records ((fields -> 'name'))
    → refused 0A000
    """
    every = messages(tree)
    skipped = _in_clear(a, every, columns) if any(c.document is not None for c in columns.values()) else frozenset()
    references = []
    for message in every:
        fields = strings(message.get("fields")) if isinstance(message.get("fields"), list) else []
        if fields and columns and (fields[-1] in columns or fields[-1] == "*") and id(message) not in skipped:
            references.append(message)
    return references


def _in_clear(a: Analysis, every: Collection[Node], columns: Columns) -> frozenset[int]:
    """Return the references, by their identity, over which a path stands that gives nothing sealed."""
    skipped = set()
    for message in every:
        is_node = len(message) == 1 and isinstance(next(iter(message.values())), dict)
        spelled = spelled_path(message, partial(own_name, a)) if is_node else None
        if spelled is None:
            continue
        reference = only(spelled.base)[1]
        column = columns.get(strings(reference["fields"])[-1])
        if column is not None and column.masked is None and in_clear(column, spelled):
            skipped.add(id(reference))
    return frozenset(skipped)
