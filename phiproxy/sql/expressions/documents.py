"""What is taken out of documents: by operators, calls and subscripts, where a blind index has it, or fields of it are sealed."""

from functools import partial

from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.document_paths import document_part, object_at
from phiproxy.sql.expressions.expression import clear
from phiproxy.sql.expressions.index_expressions import derived, own_name
from phiproxy.sql.expressions.leaves import term
from phiproxy.sql.expressions.term_values import as_value
from phiproxy.sql.resolve.protected_values import CLEAR, Value
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.text.parse import Node, children, strings


def taken_out(a: Analysis, node: Node, scope: Scope) -> Value | None:
    """Return what is taken out of a protected document, or an indexed expression of a column; None for any other expression.

    SELECT id FROM charts WHERE doc #>> '{name,family}' = $1
    → SELECT id FROM charts WHERE NULLIF(tag1(doc), zeros) = tag1($1)

    SELECT fields ->> 'ssn' FROM records
    → SELECT pg_catalog.jsonb_extract_path_text(fields, VARIADIC ARRAY['ssn'::text]) AS "?column?" FROM "public".records

    SELECT fields -> 'ward' FROM records
    → SELECT fields -> 'ward' FROM "public".records

    SELECT jsonb_each(fields) FROM records
    → refused 0A000
    """
    part = document_part(a, node, scope, partial(own_name, a))
    if part is not None and part.value is None:
        return CLEAR
    if part is not None and a.physical:
        return part.value
    return as_value(a, term(a, node, scope)) if derived(a, node, scope) is not None else None


_KEYS = frozenset({"?", "?|", "?&"})


def keys_asked(a: Analysis, body: Node, scope: Scope) -> Value | None:
    """Return the answer to which keys an object has, of a document whose keys are in clear; None for any other expression.

    SELECT id FROM records WHERE fields ? 'ssn'
    → SELECT id FROM "public".records WHERE fields ? 'ssn'

    SELECT id FROM records WHERE fields -> 'extra' ? 'x'
    → refused 0A000
    """
    if body["kind"] != "AEXPR_OP" or "lexpr" not in body or (names := strings(body["name"]))[-1] not in _KEYS:
        return None
    own = partial(own_name, a)
    if not own(names) or not object_at(a, body["lexpr"], scope, own):
        return None
    clear(a, body["rexpr"], scope)
    return CLEAR


def subscripts(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    """Subscripts, and fields of a composite value: of a protected document what an index has, of nothing else protected.

    SELECT id FROM charts WHERE doc['age'] = $1
    → SELECT id FROM charts WHERE NULLIF(tag2(doc), zeros) = tag2($1)

    SELECT doc[ward] FROM charts
    → refused 0A000

    SELECT fields['ward'] FROM records
    → SELECT fields['ward'] FROM "public".records
    """
    value = taken_out(a, node, scope)
    if value is not None:
        return value
    for child in children(body):
        clear(a, child, scope)
    return CLEAR
