"""The definition of a protected column in physical form: bytea with its guard, and its default sealed."""

from dataclasses import dataclass, field

from phiproxy.errors import StatementRefused, UndefinedObject
from phiproxy.index.collations import needs_characters
from phiproxy.policy.column_types import named_type
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.plaintext_guards import guard, guard_name
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.check_constraints import check_span, seal_check
from phiproxy.sql.statements.ddl.computed_defaults import computed_default, expression_span, seal_computed
from phiproxy.sql.statements.ddl.physical_form import Definition, Span
from phiproxy.sql.text.parse import Node, only, parse, strings
from phiproxy.sql.values.operands import Named, Operand, as_operand

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
    """What a column's definition asks for beside its type."""

    not_null: bool = False
    default: Operand | None = None
    computed: Node | None = None
    keys: list[Node] = field(default_factory=list)
    references: list[Node] = field(default_factory=list)
    checks: list[Node] = field(default_factory=list)


def declared_type(type_name: Node) -> DeclaredType | None:
    """Return the type that a TypeName declares, or None for one that cannot be protected."""
    if isinstance(type_name, Named):
        return type_name.declared
    names = strings(type_name.get("names"))
    arguments = [str(only(m)[1].get("ival", {}).get("ival", 0)) for m in type_name.get("typmods", ())]
    shown = names[-1] + (f"({', '.join(arguments)})" if arguments else "")
    if len(names) == 2 and names[0] != "pg_catalog":
        shown = ".".join(names)
    try:
        declared = named_type(shown + ("[]" if "arrayBounds" in type_name else ""))
    except ValueError:
        return None
    return declared if declared.known else None


def check_type(a: Analysis, column: ProtectedColumn, type_name: Node) -> None:
    """Refuse a type that is not the policy's, or does not exist.

    CREATE TABLE visits (mrn text, diagnosis text)
    → refused 0A000
    """
    if not column.type.known:
        why = f'type "{column.type.name}" does not exist'
        raise a.refuse(why, type_name, hint="Create it first, in a statement of its own.", error=UndefinedObject)
    if declared_type(type_name) != column.type:
        raise a.refuse(
            f"{column.label} is protected as {column.type.name}, and this declares another type",
            type_name,
            hint=f"Declare it as {column.type.name}, or change its type in the policy before it holds values.",
        )


def check_collation(a: Analysis, column: ProtectedColumn, definition: Node) -> None:
    """Refuse a COLLATE under which other values are equal, or case differs from the database's default.

    CREATE TABLE visits (mrn varchar(12) COLLATE "de-x-icu", diagnosis text)
    → refused 0A000
    """
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
    """Return what a column's definition asks for; StatementRefused for what a protected column cannot have."""
    check_type(a, column, body["typeName"])
    check_collation(a, column, body)
    result = Wanted(not_null=column.type.not_null)
    last: list[Node] = []
    for node in body.get("constraints", ()):
        constraint = only(node)[1]
        kind = constraint["contype"]
        if kind == "CONSTR_NOTNULL":
            result.not_null = True
        elif kind == "CONSTR_DEFAULT":
            result.default = constant(a, column, constraint["raw_expr"])
            result.computed = constraint if result.default is None and as_operand(constraint["raw_expr"]) is None else None
        elif kind in ("CONSTR_UNIQUE", "CONSTR_PRIMARY"):
            result.not_null |= kind == "CONSTR_PRIMARY"
            result.keys.append(constraint)
            last = result.keys
        elif kind == "CONSTR_FOREIGN":
            result.references.append(constraint)
            last = result.references
        elif kind in _DEFERS and last:
            last[-1] = {**last[-1], **dict.fromkeys(_DEFERS[kind], True)}
        elif kind == "CONSTR_CHECK":
            result.checks.append(constraint)
        elif kind not in _IDLE:
            why = f"{column.label} is protected: {_WHY.get(kind, 'this constraint over it is not in this version')}"
            raise a.refuse(why, constraint, hint="Leave it to the application, or take the column out of the policy.")
    return result


def constant(a: Analysis, column: ProtectedColumn, node: Node) -> Operand | None:
    """Return the constant of a DEFAULT, None for NULL and for an expression; StatementRefused for what it cannot be.

    CREATE TABLE visits (mrn varchar(12) DEFAULT $1, diagnosis text)
    → refused 0A000
    """
    operand = as_operand(node)
    if operand is None:
        return None
    if operand.kind == "param":
        raise a.refuse(
            f"a default for {column.label} is no parameter of a statement",
            only(node)[1],
            hint="Give a literal or an expression, or let the application give the value.",
        )
    if column.document is not None and operand.kind != "null":
        text = f"a default for {column.label}, a document with sealed fields, is not in this version"
        raise a.refuse(text, only(node)[1], hint="Let the application give the value.")
    if column.tenant and operand.kind != "null":
        text = f"a default for {column.label} would be sealed for one tenant only"
        raise a.refuse(text, only(node)[1], hint="Let the application give the value.")
    return None if operand.kind == "null" else operand


def write(definition: Definition, span: Span, column: ProtectedColumn, body: Node, asked: Wanted) -> Node:
    """Replace a column's definition by its physical form, and return that as a ColumnDef node.

    CREATE TABLE visits (mrn varchar(12), diagnosis text NOT NULL DEFAULT 'none')
    → CREATE TABLE public.visits (mrn bytea <guard mrn>, diagnosis bytea DEFAULT envelope('none') NOT NULL <guard
      diagnosis>); …
    """
    a = definition.a
    inline = a.context.catalog.server_version >= INLINE_STORAGE
    head = f"{quote_ident(column.name)} {column.form}" + (" STORAGE EXTERNAL" if inline and column.document is None else "")
    tail = f" CONSTRAINT {quote_ident(guard_name(column.name))} {guard(column)}"
    if asked.not_null:
        tail = " NOT NULL" + tail
    constraints = []
    if asked.default is not None:
        constraints.append(default_span(definition, asked.default, span))
        definition.seal(constraints[0], asked.default, column)
    if asked.computed is not None:
        end = constraint_end(body, asked.computed, span[1])
        constraints.append(expression_span(definition.tokens, asked.computed["location"], end))
        seal_computed(definition, column, computed_default(definition, column, asked.computed["raw_expr"], constraints[0]))
    defaults = set(constraints)
    for constraint in asked.checks:
        seal_check(definition, constraint, {column.name: column})
        constraints.append(check_span(definition, constraint))
    constraints.sort()
    start, whole, text = span[0], "", head
    for own_span in constraints:
        text += " DEFAULT " if own_span in defaults else " "
        definition.replace((start, own_span[0]), text)
        whole += text + definition.marked(own_span)
        start, text = own_span[1], ""
    definition.replace((start, span[1]), text + tail)
    return column_tree(whole + text + tail)


def constraint_end(body: Node, constraint: Node, end: int) -> int:
    """Return where a constraint in a column's definition, which ends at ``end``, must have ended: where the next begins."""
    others = [only(node)[1] for node in body.get("constraints", ())] + [body.get("collClause", {})]
    starts = (int(other.get("location", -1)) for other in others)
    return min([end, *(at for at in starts if at > constraint["location"])])


def default_span(definition: Definition, operand: Operand, around: Span) -> Span:
    """Return the span of a default's literal in a definition; UESCAPE and casts behind it are replaced with the definition."""
    token = next((t for t in definition.tokens if t.start == operand.offset), None)
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
    """Return the subcommand of ALTER TABLE that stores a column uncompressed: envelopes cannot be compressed, documents can."""
    storage = "EXTERNAL" if column.document is None else "EXTENDED"
    return f"ALTER COLUMN {quote_ident(column.name)} SET STORAGE {storage}"
