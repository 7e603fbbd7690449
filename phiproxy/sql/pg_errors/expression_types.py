"""The types of expressions, and what PostgreSQL rejects in them (parse_expr.c)."""

from collections.abc import Sequence
from dataclasses import replace

from phiproxy.errors import DatatypeMismatch, InvalidColumnReference, StatementRefused, UndefinedObject, WrongObjectType
from phiproxy.policy.catalog import Relation
from phiproxy.policy.signatures import BOOL, RECORD, TEXT, UNKNOWN, Type
from phiproxy.sql.pg_errors.names_and_signatures import Level, Outputs, Verdict, first, known_column, unreachable
from phiproxy.sql.table_names import meant_relation
from phiproxy.sql.text.parse import Node, children, location, only, strings
from phiproxy.sql.values.accepted_types import CannotCoerce
from phiproxy.sql.values.operands import Parameter, constant_type
from phiproxy.wire.oids import BUILTIN_TYPES

_CAST = "Cast them to one type."


def type_of(v: Verdict, node: Node, level: Level) -> Type:
    """Return the type of an expression, None where it is not known; raises PostgreSQL's error."""
    kind, body = only(node)
    rule = v.rules.expressions.get(kind)
    if rule is not None:
        own_type = v.types[id(body)] = rule(v, node, body, level)
        return own_type
    if kind in v.rules.queries:
        query(v, node, level)
        return None
    for child in children(body):
        type_of(v, child, level)
    return None


def query(v: Verdict, node: Node, outer: Level | None) -> Outputs:
    """Return the outputs of a subquery; literals without a type are text there."""
    kind, body = only(node)
    outputs = v.rules.queries[kind](v, body, outer)
    if outputs is None:
        return None
    return [replace(o, type=TEXT if o.type == UNKNOWN else o.type) for o in outputs]


_BARRED = {"WHERE": "WHERE", "FILTER": "FILTER", "JOIN/ON": "JOIN conditions"}


def condition(v: Verdict, node: Node, level: Level, what: str) -> None:
    """Check an expression that must be boolean; ``what`` is PostgreSQL's name of the clause."""
    barred = _BARRED.get(what, level.barred)
    own = type_of(v, node, Level(level.sources, level.merged, level.own_star, level.outer, barred))
    if not v.signatures.takes(BOOL, own, "a"):
        why = f"argument of {what} must be type boolean, not type {v.shown(own)}"
        raise v.error(DatatypeMismatch, why, first(node), "Compare it with something.")


def common(v: Verdict, what: str, nodes: Sequence[Node], types: Sequence[Type]) -> Type:
    """Return the common type of expressions; DatatypeMismatch, in PostgreSQL's words, where they have none."""
    shared, odd = v.signatures.common(types)
    if odd is None:
        other = next((i for i, one in enumerate(types) if not v.signatures.takes(shared, one)), None)
        if other is None:
            return shared
        why = f"{what} could not convert type {v.shown(types[other])} to {v.shown(shared)}"
        raise v.error(CannotCoerce, why, first(nodes[other]), _CAST)
    why = f"{what} types {v.shown(shared)} and {v.shown(types[odd])} cannot be matched"
    raise v.error(DatatypeMismatch, why, first(nodes[odd]), _CAST)


def column_ref(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """A column has the type that the client sees. In FROM nothing may refer to the target of the write, not even by LATERAL.

    SELECT id + ssn FROM patients
    → refused 42883

    UPDATE patients SET notes = upper(notes) FROM LATERAL (SELECT patients.id) x
    → refused 42P10
    """
    check_reached(v, body, level)
    column = known_column(level, strings(body["fields"]))
    return column.type if column is not None else None


def check_reached(v: Verdict, body: Node, level: Level) -> None:
    """Check that a reference is none to the target of the write in whose FROM it stands."""
    target = unreachable(level, strings(body["fields"]))
    if target is not None:
        why = f'invalid reference to FROM-clause entry for table "{target.alias}"'
        hint = f'There is an entry for table "{target.alias}", but it cannot be referenced from this part of the query.'
        raise v.error(InvalidColumnReference, why, location(body), hint)


def constant(_v: Verdict, _node: Node, body: Node, _level: Level) -> Type:
    """A constant has the type of its spelling; a string literal has none.

    SELECT id FROM patients WHERE ssn = 5
    → refused 42883
    """
    if body.get("isnull") or "sval" in body:
        return UNKNOWN
    if "bsval" in body:
        return BUILTIN_TYPES["bit"].oid
    declared = constant_type(body)
    return None if declared is None else declared.oid


def parameter(v: Verdict, _node: Node, body: Node, _level: Level) -> Type:
    """A parameter has its declared type, or that of its first cast. One that stands at one place only is like a literal.

    SELECT ssn FROM patients WHERE ssn = $1::int
    → refused 42883

    UPDATE stays SET bed = upper($1)
    → refused 42804
    """
    if isinstance(body, Parameter):
        return body.oid
    number = body.get("number", 0)
    return UNKNOWN if number in v.once else v.parameters.setdefault(number, None)


def named_type(v: Verdict, body: Node) -> Type:
    """Return the type that a TypeName means; UndefinedObject where it does not exist."""
    names = strings(body.get("names"))
    if not names or body.get("setof") or body.get("pct_type"):
        return None
    name = names[-1]
    relations = v.a.context.catalog.named(name)
    # The arrays of row types are not told of.
    if not v.signatures.is_type(name) and not relations and names[0] != "pg_temp" and not name.startswith("_"):
        raise v.error(UndefinedObject, f'type "{".".join(names)}" does not exist', location(body), "See the types of the database.")
    scalar = None if relations else v.signatures.named(name)
    return v.signatures.array_of(scalar) if "arrayBounds" in body else scalar


def row_named(v: Verdict, body: Node) -> Relation | None:
    """Return the table or view whose rows have the type that a TypeName means, perhaps in arrays; None of any other. PathNeeded."""
    names = strings(body.get("names"))
    if not 1 <= len(names) <= 2 or body.get("setof") or body.get("pct_type") or v.signatures.is_type(names[-1]):
        return None
    schema = {"schemaname": names[0]} if len(names) == 2 else {}
    try:
        relation = meant_relation(v.a, {"relname": names[-1], "location": location(body), **schema})
    except StatementRefused:
        return None
    return relation if relation.row_type and not relation.schema.startswith("pg_temp") else None


def type_cast(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject a cast that does not exist.

    SELECT ssn::nothing FROM patients
    → refused 42704
    """
    target = named_type(v, body["typeName"])
    if "A_ArrayExpr" in body["arg"]:  # its elements are cast, each by itself
        for child in children(body["arg"]):
            type_of(v, child, level)
        return target
    if "ParamRef" in body["arg"]:
        v.parameters.setdefault(only(body["arg"])[1].get("number", 0), target)  # parse_param.c, variable_coerce_param_hook
    source = type_of(v, body["arg"], level)
    if not v.signatures.takes(target, source, "e"):
        why = f"cannot cast type {v.shown(source)} to {v.shown(target)}"
        raise v.error(CannotCoerce, why, location(body), "There is no such cast.")
    return target


def collate(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject a collation that does not exist, and COLLATE of what is no text.

    SELECT ssn COLLATE nothing FROM patients
    → refused 42704

    SELECT born COLLATE "C" FROM people
    → refused 42804
    """
    argument = type_of(v, body["arg"], level)
    name = strings(body["collname"])[-1]
    if not v.signatures.is_collation(name):
        why = f'collation "{name}" for encoding "UTF8" does not exist'
        raise v.error(UndefinedObject, why, location(body), "See the collations of the database.")
    row = v.signatures.row(v.signatures.base(argument))
    if row is not None and row.category in "BDINT":
        why = f"collations are not supported by type {v.shown(argument)}"
        raise v.error(DatatypeMismatch, why, location(body), "Only texts have collations.")
    return argument


def bool_expression(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject an argument of AND, OR and NOT that is not boolean.

    SELECT id FROM patients WHERE ssn AND active
    → refused 42804
    """
    for argument in body["args"]:
        condition(v, argument, level, body["boolop"].removesuffix("_EXPR"))
    return BOOL


def boolean_test(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject IS [NOT] TRUE, FALSE or UNKNOWN of what is not boolean.

    SELECT id FROM patients WHERE ssn IS TRUE
    → refused 42804
    """
    condition(v, body["arg"], level, body["booltesttype"].replace("_", " "))
    return BOOL


def null_test(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """IS [NOT] NULL takes any type.

    SELECT id FROM patients WHERE nothing(ssn) IS NULL
    → refused 42883
    """
    type_of(v, body["arg"], level)
    return BOOL


def choice(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject COALESCE, GREATEST and LEAST of arguments without a common type.

    SELECT COALESCE(ssn, 1) FROM patients
    → refused 42804
    """
    name = body["op"].removeprefix("IS_") if "op" in body else "COALESCE"
    return common(v, name, body["args"], [type_of(v, argument, level) for argument in body["args"]])


def array(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject ARRAY[…] of elements without a common type.

    SELECT ARRAY[ssn, 1] FROM patients
    → refused 42804
    """
    elements = body.get("elements", [])
    types = [type_of(v, element, level) for element in elements]
    if not elements:
        return None
    element_type = common(v, "ARRAY", elements, types)
    # Of arrays it is one of more dimensions.
    return element_type if v.signatures.element_of(element_type) is not None else v.signatures.array_of(element_type)


def row_expression(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Check the entries of a row.

    SELECT ROW(nothing(ssn)) FROM patients
    → refused 42883
    """
    for entry in body.get("args", ()):
        type_of(v, entry, level)
    return RECORD


def indirection(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject a subscript of what is no array, and a field of what is no row.

    SELECT (ssn)[1] FROM patients
    → refused 42804

    SELECT (born).year FROM people
    → refused 42809
    """
    argument = type_of(v, body["arg"], level)
    row, then = v.signatures.row(v.signatures.base(argument)), body["indirection"][0]
    for index in children(body["indirection"]):
        type_of(v, index, level)
    if row is not None and row.element and row.category == "A" and row.name not in _SUBSCRIPTED:
        steps = [only(index)[1] for index in body["indirection"] if "A_Indices" in index]
        if len(steps) < len(body["indirection"]):
            return None  # a field of an element
        return row.oid if any(step.get("is_slice") for step in steps) else row.element
    if row is None or row.category == "A" or row.name in ("jsonb", "hstore"):
        return None
    offset = first(body["arg"])
    if "A_Indices" in then and row.name not in _SUBSCRIPTED:
        why = f"cannot subscript type {v.shown(argument)} because it does not support subscripting"
        raise v.error(DatatypeMismatch, why, offset, "Only arrays have subscripts.")
    if "String" in then:
        why = f"column notation .{strings([then])[0]} applied to type {v.shown(argument)}, which is not a composite type"
        raise v.error(WrongObjectType, why, offset, "Only rows have fields.")
    return None


_SUBSCRIPTED = frozenset({"box", "int2vector", "line", "lseg", "name", "oidvector", "point"})


_VALUE_FUNCTIONS = {
    "CURRENT_DATE": "date", "CURRENT_TIME": "timetz", "CURRENT_TIMESTAMP": "timestamptz", "LOCALTIME": "time",
    "LOCALTIMESTAMP": "timestamp",
}  # fmt: skip


def value_function(_v: Verdict, _node: Node, body: Node, _level: Level) -> Type:
    """CURRENT_DATE, CURRENT_USER and the like have fixed types.

    SELECT id FROM patients WHERE ssn = CURRENT_DATE
    → refused 42883
    """
    return BUILTIN_TYPES[_VALUE_FUNCTIONS.get(body["op"].removeprefix("SVFOP_").removesuffix("_N"), "name")].oid
