"""Whom the rows of a statement are about, for the audit log: found out without a change of the statement, or not at all.

A table's subject column says whom a row is about. Its values are known where it is among the result's columns, where a condition
or the rows of an INSERT say what they are, and where a join says that they are those of another relation. Elsewhere the record
says that they are not known: a column that the client did not ask for is not added, since its role may not be allowed to see it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from phiproxy.sql.context import Analysis
from phiproxy.sql.queries.mixed_rows import mixes_rows
from phiproxy.sql.resolve.protected_values import About, about_whom
from phiproxy.sql.result import Given, Subject
from phiproxy.sql.text.parse import Node, location, only, strings
from phiproxy.sql.text.shape import Shape, literal_value, shape_of
from phiproxy.sql.values.operands import cast_type
from phiproxy.sql.values.uses import Renew, Search, Store

_DML = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_FAMILIES = {"integer": ("int2", "int4", "int8"), "uuid": ("uuid",), "text": ("text", "varchar")}
Values = tuple[Given, ...]


@dataclass(slots=True)
class _Known:
    """What is known of the relations of a statement by now; ``by_alias`` are those of its own FROM, ``same`` what joins say."""

    outputs: Mapping[About, int]
    given: dict[About, Values] = field(default_factory=dict)
    by_alias: dict[str, tuple[About, ...]] = field(default_factory=dict)
    same: list[tuple[About, About]] = field(default_factory=list)

    def equal(self, one: About, other: About) -> None:
        """Note that the rows of both relations are about the same subjects."""
        self.implies(one, other)
        self.implies(other, one)

    def implies(self, one: About, other: About) -> None:
        """Note that the rows of ``other`` are about subjects of ``one``, if there are any."""
        self.same.append((one, other))


def subjects_of(a: Analysis) -> tuple[Subject, ...]:
    """Return how it is known whom the rows of a statement are about, one entry for each relation that has a subject.

    ``SELECT p.id, v.note FROM patients p JOIN visits v ON v.patient_id = p.id WHERE p.id = $1``: of patients by the result's first
    column, and of visits by the same. The statement stays as it is:

    SELECT id, ssn FROM public.patients
    → unchanged
    """
    if a.read_about is not None:
        return a.read_about
    if not a.context.protection.has_subjects:
        return ()
    found = [*_of_relations(a)] if a.about else []
    named = {subject.label for subject in found}
    return (*found, *(Subject(label) for label in sorted(_touched(a) - named)))


def _touched(a: Analysis) -> set[str]:
    """Return the subject columns of all tables of which something is opened, stored or searched."""
    answer, by_name = a.answer, a.context.protection.by_name
    reveals = [*(answer.outputs or ()), *(answer.cursor or ()), *(answer.copy.reveals if answer.copy is not None else ())]
    columns = [reveal.column for reveal in reveals if reveal is not None]
    columns += [o.use.column for o in answer.occurrences if isinstance(o.use, Store | Search | Renew)]
    tables = (by_name.get((column.schema, column.table)) for column in columns)
    return {f"{t.schema}.{t.name}.{t.subject}" for t in tables if t is not None and t.subject is not None}


def _of_relations(a: Analysis) -> Iterator[Subject]:
    kind, body = a.statement.kind, a.statement.body
    known = _Known(_shown(a))
    if kind in ("DeclareCursorStmt", "CopyStmt") and "query" in body:
        kind, body = only(body["query"])
    if kind in _DML:
        _look_at(a, kind, body, known)
        known.given = {about: given for about, given in known.given.items() if given}
    for about in a.about:
        if about.kind is None:
            yield Subject(about.label)
        elif about in known.outputs:
            yield Subject(about.label, about.kind, known.outputs[about])
        else:
            yield _implied(about, known)


def _implied(about: About, known: _Known) -> Subject:
    """Return what is known of a relation by a condition on it, or by its join with one of which something is known."""
    assert about.kind is not None
    seen, waiting = {about}, [about]
    while waiting:
        one = waiting.pop(0)
        if one.kind == about.kind and one in known.outputs:
            return Subject(about.label, about.kind, known.outputs[one])
        if one.kind == about.kind and one in known.given:
            return Subject(about.label, about.kind, given=known.given[one])
        waiting += [other for other, implied in known.same if implied is one and other not in seen]
        seen.update(waiting)
    return Subject(about.label, about.kind)


def _shown(a: Analysis) -> dict[About, int]:
    """Return the result columns that say whom each row is about.

    Those of the data of COPY too, and of the rows that a cursor will give. None where a row may show what is of another one.
    """
    copy = a.answer.copy
    if copy is not None and copy.table:
        # Rows that the server leaves out count as those that a condition names: somebody has given them.
        return {about: copy.columns.index(about.name) for about in a.about if about.name in copy.columns}
    if copy is None and a.statement.kind == "CopyStmt":
        return {}  # nobody reads its data here
    shown = a.answer.outputs is not None or a.answer.cursor is not None or copy is not None
    if a.query is None or not shown or mixes_rows(a):
        return {}
    outputs = [about_whom(value) for _, value in a.query.outputs]
    return {about: position for position, own in reversed([*enumerate(outputs)]) for about in own}


def _look_at(a: Analysis, kind: str, body: Node, known: _Known) -> None:
    values = _Values(shape_of(a.text))
    bodies = _bodies(a)
    targets = bodies.get(id(body.get("relation")), ())
    if kind == "InsertStmt":
        for target in targets:
            known.given[target] = _inserted(body, target, values)
        return
    if kind == "MergeStmt":
        return
    if body.get("op", "SETOP_NONE") != "SETOP_NONE":
        for operand in (body["larg"], body["rarg"]):
            known.by_alias = {}
            _look_at(a, kind, operand, known)
        return
    conditions: list[Node] = []
    if targets:
        _name(known, targets)
    for item in (*body.get("fromClause", ()), *body.get("usingClause", ())):
        _from(item, bodies, known, conditions)
    conditions += _conjuncts(body.get("whereClause"))
    for condition in conditions:
        _condition(condition, known, values)
    for target in targets if kind == "UpdateStmt" else ():
        _assigned(body, target, known, values)


def _bodies(a: Analysis) -> Mapping[int, tuple[About, ...]]:
    """Return the relations by the ids of their RangeVars: one of a table, perhaps several of a view."""
    bodies: dict[int, tuple[About, ...]] = {}
    for about in a.about:
        bodies[id(about.body)] = (*bodies.get(id(about.body), ()), about)
    return bodies


def _name(known: _Known, own: tuple[About, ...]) -> None:
    body = own[0].body
    alias = body.get("alias", {})
    if "colnames" not in alias:
        known.by_alias[alias.get("aliasname") or body["relname"]] = own


def _from(item: Node, bodies: Mapping[int, tuple[About, ...]], known: _Known, conditions: list[Node]) -> list[About]:
    """Take note of an item of FROM, and return its relations that have a subject."""
    kind, body = only(item)
    if kind == "RangeVar" and id(body) in bodies:
        _name(known, bodies[id(body)])
        return [*bodies[id(body)]]
    if kind != "JoinExpr":
        return []
    left, right = (_from(body[side], bodies, known, conditions) for side in ("larg", "rarg"))
    how = body.get("jointype", "JOIN_INNER")
    if how == "JOIN_INNER":
        conditions += _conjuncts(body.get("quals"))
    using = set(strings(body.get("usingClause")))
    for one in left:
        for other in right:
            joined = {one.name, other.name} <= using or any(_joins(c, one, other, known) for c in _conjuncts(body.get("quals")))
            if joined and how in ("JOIN_INNER", "JOIN_LEFT"):
                known.implies(one, other)
            if joined and how in ("JOIN_INNER", "JOIN_RIGHT"):
                known.implies(other, one)
    return [*left, *right]


def _joins(condition: Node, one: About, other: About, known: _Known) -> bool:
    sides = _equation(condition)
    if sides is None:
        return False
    left, right = (_referred(side, known) for side in sides)
    return (one in left and other in right) or (other in left and one in right)


def _conjuncts(node: Node | None) -> list[Node]:
    if node is None:
        return []
    kind, body = only(node)
    if kind == "BoolExpr" and body["boolop"] == "AND_EXPR":
        return [part for arg in body["args"] for part in _conjuncts(arg)]
    return [node]


def _equation(node: Node) -> tuple[Node, Node] | None:
    kind, body = only(node)
    plain = kind == "A_Expr" and body["kind"] == "AEXPR_OP" and strings(body["name"])[-1] == "=" and "lexpr" in body
    return (body["lexpr"], body["rexpr"]) if plain else None


def _referred(node: Node, known: _Known) -> tuple[About, ...]:
    """Return the relation whose subject column a node is: by its alias, or, of a bare name, where only one relation has it.

    Of a view's column there may be several.
    """
    kind, body = only(node)
    if kind != "ColumnRef":
        return ()
    *qualifier, name = strings(body["fields"])
    if len(qualifier) > 1:
        return ()
    relations = [known.by_alias.get(qualifier[0], ())] if qualifier else [*known.by_alias.values()]
    of_name = [named for own in relations if (named := tuple([about for about in own if about.name == name]))]
    return of_name[0] if len(of_name) == 1 else ()


def _condition(node: Node, known: _Known, values: "_Values") -> None:
    """Take note of ``subject = value``, ``subject IN (values)`` and of two subjects that are equal."""
    kind, body = only(node)
    if kind == "A_Expr" and body["kind"] == "AEXPR_IN" and strings(body["name"]) == ["="]:
        items = body["rexpr"]["List"]["items"] if "List" in body["rexpr"] else []
        for about in _referred(body["lexpr"], known):
            known.given.setdefault(about, values.of(items, about))
        return
    sides = _equation(node)
    if sides is None:
        return
    left, right = (_referred(side, known) for side in sides)
    for one in left:
        for other in right:
            known.equal(one, other)
    if left and right:
        return
    value = sides[1] if left else sides[0]
    for about in left or right:
        given = values.of([value], about)
        if given:
            known.given[about] = given


def _assigned(body: Node, target: About, known: _Known, values: "_Values") -> None:
    """An UPDATE that gives its rows another subject is about both."""
    for item in body.get("targetList", ()):
        assigned = only(item)[1]
        if assigned.get("name") == target.name:
            now = values.of([assigned["val"]], target)
            known.given[target] = (*known.given.get(target, ()), *now) if now and known.given.get(target) else ()
            known.outputs = {about: at for about, at in known.outputs.items() if about is not target}


def _inserted(body: Node, target: About, values: "_Values") -> Values:
    """Return the subjects of an INSERT's rows, which are given; none where one is not, or where a conflict may update any row."""
    conflict = body.get("onConflictClause", {})
    if conflict.get("action") == "ONCONFLICT_UPDATE":
        named = [only(element)[1].get("name") for element in conflict.get("infer", {}).get("indexElems", ())]
        if named != [target.name]:
            return ()
    names = tuple(only(column)[1]["name"] for column in body["cols"]) if "cols" in body else target.columns
    rows = [only(row)[1]["items"] for row in only(body.get("selectStmt", {"": {}}))[1].get("valuesLists", ())]
    if target.name not in names or not rows:
        return ()
    at = names.index(target.name)
    return values.of([row[at] for row in rows], target) if all(len(row) > at for row in rows) else ()


class _Values:
    """Where the values of a text are found again, whatever they are."""

    def __init__(self, shape: Shape | None) -> None:
        self._constants = {start: number for number, start in enumerate(shape.starts)} if shape is not None else {}
        self._spelled = shape.constants if shape is not None else ()

    def of(self, nodes: list[Node], about: About) -> Values:
        """Return these values; nothing where one of them is an expression."""
        given = [self._one(node, about) for node in nodes]
        return tuple(one for one in given if one is not None) if None not in given else ()

    def _one(self, node: Node, about: About) -> Given | None:
        kind, body = only(node)
        if kind == "TypeCast":
            declared = cast_type(body)
            plain = declared is not None and declared.typmod == -1 and declared.family in _FAMILIES[about.kind or "text"]
            return self._one(body["arg"], about) if plain else None
        if kind == "ParamRef":
            return Given(body.get("number", 0), start=location(body))
        if kind != "A_Const" or body.get("isnull"):
            return None
        literal = _literal(body)
        number = self._constants.get(location(body), -1)
        if number < 0:
            return Given(literal=literal) if not self._constants and literal is not None else None
        return Given(constant=number, start=location(body)) if literal_value(self._spelled[number]) == literal else None


def _literal(constant: Node) -> bytes | None:
    if "sval" in constant:
        return str(constant["sval"].get("sval", "")).encode()
    return b"%d" % constant["ival"].get("ival", 0) if "ival" in constant else None
