"""CHECK constraints over protected columns: each part that AND joins is left to the server, or sealed for the proxy.

The server checks parts that name no protected column, or ask only whether one is NULL. A part over one protected column that is in
the closed table of ``check_conditions`` is sealed into the constraint. Any other part is refused.
"""

from phiproxy.policy.check_evaluation import compiled, written
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import MAX_SLOTS, condition_of
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.check_conditions import VALUES, read, refusal
from phiproxy.sql.statements.ddl.clear_parts import sealed_references
from phiproxy.sql.statements.ddl.physical_form import Definition, Span
from phiproxy.sql.statements.ddl.unique_keys import Columns
from phiproxy.sql.text.parse import Node, location, messages, only, parse, strings
from phiproxy.sql.text.token_spans import OPEN, Spans

_SEALED = "\\xf5500101"


def seal_check(definition: Definition, constraint: Node, columns: Columns) -> list[ProtectedColumn]:
    """Bring a CHECK constraint into physical form, and return the columns whose conditions are sealed.

    ALTER TABLE patients ADD CHECK (ssn <> '') NOT VALID
    → ALTER TABLE public.patients ADD CHECK ((position(tag(sealed('{"condition": ["<>", ["value"], ["constant", ""]],
      "version": 1}')) IN pg_catalog.substring(ssn, 13, 4080)) = 0)) NOT VALID

    ALTER TABLE patients ADD CHECK (ssn <> city) NOT VALID
    → refused 0A000

    ALTER TABLE records ADD CHECK (fields ->> 'ward' <> '') NOT VALID
    → ALTER TABLE public.records ADD CHECK (fields ->> 'ward' <> '') NOT VALID
    """
    parts = _parts(constraint["raw_expr"])
    spans = _part_spans(definition, constraint)
    sealed = []
    for i, part in enumerate(parts):
        named = _named(definition.a, part, columns)
        # As pg_dump writes it, a part is in physical form already: it holds a sealed condition.
        texts = [str(m["sval"].get("sval", "")) for m in messages(part) if isinstance(m.get("sval"), dict)]
        if not named or any(text.startswith(_SEALED) for text in texts):
            continue
        column = _only_column(definition.a, constraint, part, named, columns)
        sealed.append(column)
        if len(spans) != len(parts):
            raise refusal(definition.a, constraint, part, "the parts of this constraint could not be located in its text")
        _seal(definition, part, column, constraint, spans[i])
    if sealed and constraint.get("is_no_inherit"):
        raise definition.a.refuse("a constraint over a protected column is inherited", constraint, hint="Leave out NO INHERIT.")
    return sealed


def _parts(node: Node) -> list[Node]:
    kind, body = only(node)
    if kind == "BoolExpr" and body["boolop"] == "AND_EXPR":
        return [part for argument in body["args"] for part in _parts(argument)]
    return [node]


def _named(a: Analysis, part: Node, columns: Columns) -> set[str]:
    """Return the protected columns whose values the server would have to see; ``*`` stands for all."""
    asked = {id(m["NullTest"]["arg"]["ColumnRef"]) for m in messages(part) if "ColumnRef" in m.get("NullTest", {}).get("arg", {})}
    return {strings(m["fields"])[-1] for m in sealed_references(a, part, columns) if id(m) not in asked}


def _only_column(a: Analysis, constraint: Node, part: Node, named: set[str], columns: Columns) -> ProtectedColumn:
    everything = {strings(m["fields"])[-1] for m in messages(part) if "fields" in m}
    if len(everything) != 1 or "*" in named:
        raise refusal(a, constraint, part, "a part of this constraint joins a protected column with others")
    column = columns[named.pop()]
    if column.document is not None:
        hint = "Let the constraint read what is in clear of it; what its fields must be is said by the types of the policy."
        raise a.refuse(f"a constraint over what is sealed of {column.label}, a document with sealed fields", part, hint=hint)
    if column.type.underlying.family not in VALUES:
        raise refusal(a, constraint, part, f"a constraint over {column.label}, which is {column.type.name}, is not in this version")
    if column.tenant:
        raise refusal(a, constraint, part, f"a constraint over {column.label} would be sealed for one tenant only")
    if any(slot.number == MAX_SLOTS - 1 for slot in column.slots):
        raise refusal(a, constraint, part, f"{column.label} has {MAX_SLOTS} indexes, and no place is left to mark what fails")
    return column


def _seal(definition: Definition, part: Node, column: ProtectedColumn, constraint: Node, span: Span) -> None:
    a = definition.a
    tree, kind = read(a, constraint, part, column)
    if kind != "bool":
        raise refusal(a, constraint, part, f"this constraint over {column.label} is no condition")
    missing = f"{quote_ident(column.name)} IS NOT NULL AND " if compiled(tree)(None) is False else ""
    lead, trail = condition_of(column.name, missing)
    definition.define(span, written(tree), column, (lead, trail))
    texts = (m["sval"].get("sval", "") for m in messages(part) if isinstance(m.get("sval"), dict))
    definition.sealed += [text.encode() for text in texts]
    (statement,) = parse(rf"SELECT {lead}'\x00'::bytea{trail}".encode())
    part.clear()
    part.update(statement.body["targetList"][0]["ResTarget"]["val"])


def check_span(definition: Definition, constraint: Node) -> Span:
    """Return the span of a CHECK constraint, from its name to the closing parenthesis."""
    first, _, close = _check(Spans(definition.tokens), constraint)
    return definition.tokens[first].start, definition.tokens[close].end


def _check(spans: Spans, constraint: Node) -> tuple[int, int, int]:
    first = spans.at(location(constraint))
    opening = spans.next(first, "CHECK") + 1
    return first, opening, spans.partner(opening)


def _part_spans(definition: Definition, constraint: Node) -> list[Span]:
    spans = Spans(definition.tokens)
    _, opening, close = _check(spans, constraint)
    parts = _split(spans, opening + 1, close - 1)
    if len(_parts(constraint["raw_expr"])) == 1:
        parts = [(opening + 1, close - 1)]
    return [(spans.tokens[i].start, spans.tokens[j].end) for i, j in parts]


def _split(spans: Spans, i: int, j: int) -> list[tuple[int, int]]:
    """Return the token ranges that AND joins, within parentheses too, but not below OR."""
    while spans.name(i) == OPEN and spans.partner(i) == j:
        i, j = i + 1, j - 1
    parts, start, k, betweens, cases = [], i, i, 0, 0
    while k <= j:
        name = spans.name(k)
        if name == "OR" and not cases:
            return [(i, j)]
        cases += (name == "CASE") - (name == "END_P")
        betweens += name == "BETWEEN"
        if name == "AND" and not cases:
            if not betweens:
                parts.append((start, k - 1))
                start = k + 1
            betweens -= bool(betweens)
        k = spans.partner(k) + 1 if name in (OPEN, "ASCII_91") else k + 1
    parts.append((start, j))
    return parts if len(parts) == 1 else [tokens for part in parts for tokens in _split(spans, *part)]
