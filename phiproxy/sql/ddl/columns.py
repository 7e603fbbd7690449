"""One protected column's definition: bytea with its guard, its constant default sealed, and what else it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field

from phiproxy.errors import StatementRefused, UndefinedObject
from phiproxy.index.collations import needs_characters
from phiproxy.policy.guards import guard, guard_name
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.policy.types import named_type
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.conditions import check_span, seal_check
from phiproxy.sql.ddl.definition import Definition, Span
from phiproxy.sql.parse import Node, only, parse, strings
from phiproxy.sql.sinks import Named, SinkNode, as_sink

# Of a column's definition these change nothing in what is stored.
_IDLE = frozenset({"CONSTR_NULL", "CONSTR_ATTR_NOT_DEFERRABLE", "CONSTR_ATTR_IMMEDIATE", "CONSTR_ATTR_ENFORCED"})
# These say of the constraint before them when it is checked; DEFERRED implies DEFERRABLE.
_DEFERS = {"CONSTR_ATTR_DEFERRABLE": ("deferrable",), "CONSTR_ATTR_DEFERRED": ("deferrable", "initdeferred")}
_WHY = {
    "CONSTR_GENERATED": "a generated column cannot be protected",
    "CONSTR_IDENTITY": "an identity column cannot be protected",
}
INLINE_STORAGE = 160000
# By these, values are equal only where their bytes are, as by the default one.
_BYTEWISE = frozenset({"C", "POSIX", "ucs_basic"})


@dataclass(slots=True)
class Wanted:
    """What a column's definition asks for besides its type."""

    not_null: bool = False
    default: SinkNode | None = None
    keys: list[Node] = field(default_factory=list)
    references: list[Node] = field(default_factory=list)
    checks: list[Node] = field(default_factory=list)


def declared_type(type_name: Node) -> DeclaredType | None:
    """Return the type that a TypeName body declares, or None for one that is no protected type."""
    if isinstance(type_name, Named):
        return type_name.declared
    names = strings(type_name.get("names"))
    arguments = [str(only(m)[1].get("ival", {}).get("ival", 0)) for m in type_name.get("typmods", ())]
    shown = names[-1] + (f"({', '.join(arguments)})" if arguments else "")
    if len(names) == 2 and names[0] != "pg_catalog":
        shown = ".".join(names)
    try:
        found = named_type(shown + ("[]" if "arrayBounds" in type_name else ""))
    except ValueError:
        return None
    return found if found.known else None


def check_type(a: Analysis, column: ProtectedColumn, type_name: Node) -> None:
    """Refuse a type that is not the policy's, or does not exist."""
    if not column.type.known:
        raise a.refuse(
            f'type "{column.type.name}" does not exist',
            type_name,
            hint="Create it first, in a statement of its own.",
            error=UndefinedObject,
        )
    if declared_type(type_name) != column.type:
        raise a.refuse(
            f"{column.label} is protected as {column.type.name}, and this declares another type",
            type_name,
            hint=f"Declare it as {column.type.name}, or change its type in the policy before it holds values.",
        )


def check_collation(a: Analysis, column: ProtectedColumn, definition: Node) -> None:
    """Refuse a COLLATE that may make other values equal, or map case in another way, than the database's default."""
    clause = definition.get("collClause")
    if clause is None:
        return
    name = strings(clause["collname"])[-1]
    case = any(needs_characters(slot.expression, column.type.indexed_as) for slot in column.slots if slot.state != "dropped")
    if name != "default" and (name not in _BYTEWISE or case):
        raise a.refuse(
            f"{column.label} is protected: its tags are equal by the database's default collation",
            clause,
            hint="Leave COLLATE out." if case else 'Leave COLLATE out, or name "C": others may make different values equal.',
        )


def is_bytea(type_name: Node) -> bool:
    """Tell whether a TypeName body is bytea: the physical form."""
    return strings(type_name.get("names"))[-1:] == ["bytea"] and "arrayBounds" not in type_name


def wanted(a: Analysis, column: ProtectedColumn, body: Node) -> Wanted:
    """Return what a ColumnDef body asks for; StatementRefused for what a protected column cannot have."""
    check_type(a, column, body["typeName"])
    check_collation(a, column, body)
    found = Wanted(not_null=column.type.not_null)
    last: list[Node] = []
    for node in body.get("constraints", ()):
        constraint = only(node)[1]
        kind = constraint["contype"]
        if kind == "CONSTR_NOTNULL":
            found.not_null = True
        elif kind == "CONSTR_DEFAULT":
            found.default = constant(a, column, constraint["raw_expr"])
        elif kind in ("CONSTR_UNIQUE", "CONSTR_PRIMARY"):
            found.not_null |= kind == "CONSTR_PRIMARY"
            found.keys.append(constraint)
            last = found.keys
        elif kind == "CONSTR_FOREIGN":
            found.references.append(constraint)
            last = found.references
        elif kind in _DEFERS and last:
            last[-1] = {**last[-1], **dict.fromkeys(_DEFERS[kind], True)}
        elif kind == "CONSTR_CHECK":
            found.checks.append(constraint)
        elif kind not in _IDLE:
            raise a.refuse(
                f"{column.label} is protected: {_WHY.get(kind, 'this constraint over it is not in this version')}",
                constraint,
                hint="Leave it to the application, or take the column out of the policy.",
            )
    return found


def constant(a: Analysis, column: ProtectedColumn, node: Node) -> SinkNode | None:
    """Return the constant of a DEFAULT, None for NULL; StatementRefused for what the server would compute."""
    sink = as_sink(node)
    if sink is None or sink.kind == "param":
        raise a.refuse(
            f"the server would compute a default for {column.label}, which is protected",
            only(node)[1] if "location" in only(node)[1] else {},
            hint="Give a text literal, or let the application give the value.",
        )
    if column.tenant and sink.kind != "null":
        text = f"a default for {column.label} would be sealed for one tenant only"
        raise a.refuse(text, only(node)[1], hint="Let the application give the value.")
    return None if sink.kind == "null" else sink


def write(definition: Definition, span: Span, column: ProtectedColumn, body: Node, found: Wanted) -> Node:
    """Replace a column's definition by its physical form, and return that form's ColumnDef node."""
    a = definition.a
    inline = a.context.catalog.server_version >= INLINE_STORAGE
    head = f"{quote_ident(column.name)} bytea" + (" STORAGE EXTERNAL" if inline else "")
    tail = f" CONSTRAINT {quote_ident(guard_name(column.name))} {guard(column)}"
    if found.not_null:
        tail = " NOT NULL" + tail
    kept = []
    if found.default is not None:
        kept.append(default_span(definition, found.default, span))
        definition.seal(kept[0], found.default, column)
    for constraint in found.checks:
        seal_check(definition, constraint, {column.name: column})
        kept.append(check_span(definition, constraint))
    kept.sort()
    start, whole, text = span[0], "", head
    for place in kept:
        text += " DEFAULT " if found.default is not None and place[0] == found.default.offset else " "
        definition.replace((start, place[0]), text)
        whole += text + definition.marked(place)
        start, text = place[1], ""
    definition.replace((start, span[1]), text + tail)
    return column_tree(whole + text + tail)


def default_span(definition: Definition, sink: SinkNode, around: Span) -> Span:
    """Return the span of a literal's token inside of a definition; what follows it (UESCAPE, casts) is replaced with the rest."""
    token = next((t for t in definition.tokens if t.start == sink.offset), None)
    if token is None or not around[0] < token.start < around[1]:
        raise StatementRefused("the default could not be located in the statement", hint="Write it as one literal, without a cast.")
    end = token
    while end.name == "ASCII_45":  # the sign of a number
        end = definition.tokens[definition.tokens.index(end) + 1]
    return token.start, end.end


def column_tree(text: str) -> Node:
    """Return the ColumnDef node of a definition's text."""
    return parse(f"CREATE TABLE t ({text})".encode())[0].body["tableElts"][0]  # type: ignore[no-any-return]


def storage_command(column: ProtectedColumn) -> str:
    """Return the subcommand of ALTER TABLE that keeps the server from compressing what cannot be compressed."""
    return f"ALTER COLUMN {quote_ident(column.name)} SET STORAGE EXTERNAL"
