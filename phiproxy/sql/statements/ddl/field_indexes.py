"""Indexes over fields of a document: an index on a field, or an indexed expression of it, is one on its tags, as of a column."""

from functools import partial

from phiproxy.documents.field_paths import ELEMENTS
from phiproxy.errors import ConfigError
from phiproxy.index.registered_form import normal
from phiproxy.index.spelling import Column, Expression, write
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.document_paths import spelled_path
from phiproxy.sql.expressions.index_expressions import own_name
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.index_spelling import read_tree

# Two values of these are equal where their texts are.
_AS_TEXT = frozenset({"text", "date", "uuid", "int2", "int4", "int8"})
_HINT = (
    "Index a field that the policy lists, as text or cast to its type: `((doc->>'ssn'))`, or what is in clear of the document."
    " `phiproxy ddl` prints an index for each of the policy's `indexes`."
)


def field_index(a: Analysis, document: ProtectedColumn, expression: Node, reference: Node) -> tuple[ProtectedColumn, str]:
    """Return the field that an index's expression is over, and the expression in phiproxy's own spelling.

    CREATE INDEX ON records ((fields->>'extra'))
    → refused 0A000

    CREATE INDEX ON records ((fields->'age'))
    → refused 0A000
    """
    fields: list[ProtectedColumn] = []

    def leaf(inner: Node) -> Expression | None:
        field = _field(a, document, inner)
        if field is None:
            return None
        fields.append(field)
        return Column()

    spelling = None
    try:
        tree = read_tree(expression, leaf, partial(own_name, a))
        if tree is not None and len(fields) == 1:
            spelling = write(normal(tree, fields[0].type.indexed_as))
    except ConfigError:
        spelling = None  # no blind index can be on that
    if spelling is None:
        why = f"an index over what is sealed of {document.label}, a document with sealed fields, is of one of its fields"
        raise a.refuse(why, reference, hint=_HINT)
    return fields[0], spelling


def _field(a: Analysis, document: ProtectedColumn, node: Node) -> ProtectedColumn | None:
    """Return the field that a node is the text of, or the text cast to its type."""
    kind, body = only(node)
    cast = None
    if kind == "TypeCast":
        if body["typeName"].keys() & {"arrayBounds", "typmods"}:
            return None
        node, cast = body["arg"], strings(body["typeName"]["names"])[-1]
    spelled = spelled_path(node, partial(own_name, a))
    if spelled is None or not spelled.text or strings(only(spelled.base)[1]["fields"])[-1] != document.name:
        return None
    assert document.document is not None
    path = tuple(step.name for step in spelled.steps if step.kind != "position")
    listed = dict(zip(document.document.paths, document.document.fields, strict=True))
    field = listed.get(path) if len(path) == len(spelled.steps) else None
    if field is None or ELEMENTS in path:
        return None
    family = field.type.family
    return field if (family in _AS_TEXT if cast is None else family == cast) else None
