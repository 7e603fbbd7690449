"""The rewrites that more than one rule asks for; what becomes of one clause is said where its rule is (``ByRule``)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from typing import ClassVar

from phiproxy.frozen import dataclass
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import tag_of
from phiproxy.policy.protection import Form, Slot
from phiproxy.sql.resolve.scope import Spelled
from phiproxy.sql.result import Edit, Occurrence
from phiproxy.sql.rewrite.draft import Draft, Insert, TextEdit
from phiproxy.sql.rewrite.order_of_rewrites import Step
from phiproxy.sql.rewrite.references_and_markers import (
    column_list,
    expression_tree,
    is_reference,
    marked_node,
    represented,
    select_tree,
    sent_type_name,
    spelled_node,
    spelled_text,
    subquery_of,
    tag_call,
)
from phiproxy.sql.text.parse import Node, location, only
from phiproxy.sql.text.token_spans import COMMA, OPEN
from phiproxy.sql.values.operands import Operand
from phiproxy.sql.values.uses import Renew, Use, is_upper

# -- names and casts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Qualify:
    """A relation is the one that was analysed, whatever the search path is when the statement runs.

    SELECT id FROM patients
    → SELECT id FROM "public".patients
    """

    relation: Node
    schema: str
    step: ClassVar[Step] = Step.NAMES

    def apply(self, draft: Draft) -> Iterator[Edit]:
        """Write the schema before the relation's name."""
        offset = location(self.relation)
        draft.tree.edit(self.relation)["schemaname"] = self.schema
        yield Edit(offset, offset, f"{quote_ident(self.schema, always=True)}.".encode())


@dataclass(frozen=True, slots=True)
class DropCast:
    """A cast, or COLLATE, around what the server has as an envelope or a tag goes.

    SELECT id FROM patients WHERE ssn = CAST('123-45-6789' AS text)
    → SELECT id FROM patients WHERE tag(ssn) = (tag('123-45-6789') )
    """

    cast: Node
    step: ClassVar[Step] = Step.CASTS

    def apply(self, draft: Draft) -> Iterator[Edit]:
        """Leave the argument."""
        draft.tree.replace(self.cast, only(self.cast)[1]["arg"])
        return (Edit(start, end, b"") for start, end in draft.spans.cast(self.cast))


@dataclass(frozen=True, slots=True)
class CastToTags:
    """An array whose elements become tags is cast to an array of tags.

    SELECT id FROM patients WHERE ssn = ANY (ARRAY['123-45-6789']::text[])
    → SELECT id FROM patients WHERE tag(ssn) = ANY (ARRAY[tag('123-45-6789')]::bytea[])
    """

    cast: Node
    form: Form = "bytea"
    step: ClassVar[Step] = Step.CASTS

    def apply(self, draft: Draft) -> Iterator[Edit]:
        """Name another type."""
        draft.tree.edit(self.cast["TypeCast"])["typeName"] = sent_type_name(self.form, array=True)
        yield Edit(*draft.spans.type_name(self.cast), f"{self.form}[]".encode())


# -- columns -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Respell:
    """A reference names a column as the server finds it in a join of another form.

    SELECT mrn FROM patients p JOIN visits v USING (mrn)
    → SELECT "p"."mrn" FROM patients p JOIN visits v ON tag("p"."mrn") = tag("v"."mrn")
    """

    node: Node
    spelled: Spelled
    step: ClassVar[Step] = Step.REFERENCES

    def apply(self, draft: Draft) -> Iterator[Edit]:
        """Spell the reference anew; one that this package made stands nowhere in the text."""
        body = only(self.node)[1]
        if "location" in body:
            draft.tree.replace(self.node, spelled_node(self.spelled))
            yield Edit(*draft.reference(self.node), spelled_text(self.spelled).encode())


@dataclass(frozen=True, slots=True)
class TagColumn:
    """A column that is compared becomes its tag; ``stored`` is the generated column that has it.

    SELECT a.id FROM patients a, patients b WHERE a.ssn = b.ssn
    → SELECT a.id FROM patients a, patients b WHERE tag(a.ssn) = tag(b.ssn)
    """

    node: Node
    slot: Slot
    stored: str | None = None
    step: ClassVar[Step] = Step.TAGS

    def apply(self, draft: Draft) -> Iterator[Edit]:
        """Let the server see the tag of a column."""
        if "ColumnRef" not in self.node:
            return
        start, end = draft.reference(self.node)
        column = draft.tree.now(self.node)
        if self.stored is not None and column is self.node:
            body = draft.tree.edit(column["ColumnRef"])
            body["fields"] = [*body["fields"][:-1], {"String": {"sval": self.stored}}]
            yield Edit(draft.spans.last_part(end), end, quote_ident(self.stored, always=True).encode())
            return
        yield Edit(start, end, tag_of(draft.spelled(self.node), self.slot).encode())
        draft.tree.replace(self.node, tag_call(dict(column), self.slot))


@dataclass(frozen=True, slots=True)
class Represent:
    """A column by whose tag the query is grouped is any one of its group.

    SELECT ssn FROM patients GROUP BY ssn
    → SELECT (pg_catalog.array_agg(ssn))[1] AS "ssn" FROM patients GROUP BY tag(ssn)

    The query is grouped by its tag ``slot`` (``sets``: by GROUPING SETS and the like). ``tag`` is the slot by which it is compared
    inside of a subquery, where PostgreSQL does not know it for what is grouped by. ``version`` is the server's.
    """

    node: Node
    slot: Slot
    sets: bool
    version: int
    tag: Slot | None = None
    step: ClassVar[Step] = Step.GROUPS

    def apply(self, draft: Draft) -> Iterator[Edit]:
        """Put the aggregate around a column that nothing else has become of."""
        if not is_reference(draft.tree.now(self.node)):
            return
        named = draft.spelled(self.node)
        column = draft.tree.copy(self.node)
        draft.tree.replace(self.node, expression_tree(self._shaped("phi_x"), {"phi_x": column}))
        yield Edit(*draft.reference(self.node), self._shaped(named).encode())

    def _shaped(self, named: str) -> str:
        value = represented(self.version, named, self.slot, sets=self.sets)
        return value if self.tag is None else tag_of(value, self.tag)


# -- expressions and queries ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ByRule:
    """What a rule of the analysis does to its own expression or clause; it says how where it says why.

    ``form`` is what becomes of an expression, to tell two that want different things of one node apart.
    """

    carry_out: Callable[[Draft], Iterable[TextEdit]]
    step: Step = Step.EXPRESSIONS
    form: str = ""

    def apply(self, draft: Draft) -> Iterable[TextEdit]:
        """Do it."""
        return self.carry_out(draft)


@dataclass(frozen=True, slots=True)
class NullifToCase:
    """NULLIF shows envelopes and compares tags, so it becomes CASE.

    SELECT NULLIF(ssn, '123-45-6789') AS ssn FROM patients
    → SELECT CASE WHEN tag(ssn) = tag('123-45-6789') THEN NULL ELSE ssn END AS ssn FROM patients
    """

    node: Node
    column: Node
    step: ClassVar[Step] = Step.NULLIF

    def apply(self, draft: Draft) -> Iterator[Edit]:
        """Write CASE; the operands, which are tags by now, stay where they are."""
        spans, body = draft.spans, only(self.node)[1]
        tokens, first = spans.tokens, spans.at(location(body))
        comma = spans.next(spans.item_end(tokens[first + 2].start), COMMA)
        close = spans.partner(first + 1)
        yield Edit(tokens[first].start, tokens[first + 1].end, b"CASE WHEN ")
        yield Edit(tokens[comma].start, tokens[comma].end, b" =")
        yield Edit(tokens[close].start, tokens[close].end, f" THEN NULL ELSE {draft.named(self.column)} END".encode())
        case = expression_tree("CASE WHEN phi_l = phi_r THEN NULL ELSE phi_x END", {"phi_x": self.column})
        condition = case["CaseExpr"]["args"][0]["CaseWhen"]["expr"]["A_Expr"]
        condition["lexpr"], condition["rexpr"] = body["lexpr"], body["rexpr"]
        draft.tree.replace(self.node, case)


@dataclass(slots=True)
class TagSubquery:
    """A subquery whose outputs are compared gives their tags.

    SELECT id FROM patients WHERE ssn IN (SELECT ssn FROM patients)
    → SELECT id FROM patients WHERE tag(ssn) IN (SELECT tag(phi.c1) FROM (SELECT ssn FROM patients) AS phi (c1))

    ``slots`` are those of the tags, by the positions of the subquery's outputs, of which there are ``width``.
    """

    node: Node
    width: int
    slots: dict[int, Slot] = field(default_factory=dict)
    step: ClassVar[Step] = Step.SUBQUERIES

    def apply(self, draft: Draft) -> Iterator[Insert]:
        """Put a query around the subquery."""
        spans, body = draft.spans, only(self.node)[1]
        opening = spans.next(spans.at(location(body)), OPEN)
        closing = spans.partner(opening)
        columns = [f"phi.c{i + 1}" for i in range(self.width)]
        shown = ", ".join(tag_of(c, self.slots[i]) if i in self.slots else c for i, c in enumerate(columns))
        head, tail = f"SELECT {shown} FROM (", f") AS phi ({column_list(self.width)})"
        yield Insert(spans.tokens[opening].end, head.encode())
        yield Insert(spans.tokens[closing].start, tail.encode(), closing=True)
        template = select_tree(f"{head}SELECT{tail}")
        body = draft.tree.edit(body)
        subquery_of(template)["subquery"] = body["subselect"]
        body["subselect"] = {"SelectStmt": template}


# -- values --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DecidedUse:
    """A parameter or constant of the text, with what it is used for; ``type_oid`` and ``group``: see Occurrence.

    INSERT INTO patients (id, ssn) VALUES (1, '123-45-6789')
    → INSERT INTO patients (id, ssn) VALUES (1, envelope('123-45-6789'))
    """

    operand: Operand
    use: Use
    type_oid: int = 0
    group: int = 0
    step: ClassVar[Step] = Step.VALUES

    def apply(self, draft: Draft) -> Iterator[Occurrence]:
        """Put a marker into the tree, so that the rewrite can be proved without values; the upper bound of a range is in none."""
        yield self._occurrence(draft)
        if not is_upper(self.use):
            draft.tree.replace(self.operand.node, marked_node(self.use, null=self.operand.kind == "null"))

    def _occurrence(self, draft: Draft) -> Occurrence:
        operand, order = self.operand, draft.number()
        if operand.inserted is not None:
            place = operand.inserted
            _, end = draft.spans.expression(place.after)
            lead, formula = place.lead(draft.named(place.column)), operand.formula if operand.kind == "formula" else None
            return Occurrence(
                end, end, self.use, operand.number, operand.said, self.type_oid, order,
                self.group, lead=lead, trail=place.trail, formula=formula,
            )  # fmt: skip
        if operand.formula is not None:
            start, end = draft.spans.expression(operand.node)
            formula, computed = (operand.formula, None) if operand.kind == "formula" else (None, operand.formula)
            return Occurrence(
                start, end, self.use, 0, operand.said, self.type_oid, order, self.group, formula=formula,
                trail=operand.closing, computed=computed,
            )  # fmt: skip
        end = draft.value_end(operand.offset, constant=operand.kind == "constant")
        return Occurrence(
            operand.offset, end, self.use, operand.number, operand.said, self.type_oid, order, self.group, bool(operand.type_oid),
            trail=operand.closing,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class AddValue:
    """A value that the client leaves out of an INSERT, and for which the server has the envelope of its catalogue only.

    It goes to the end of the list ``items`` of the tree, as a ``wrapper`` if that says so. ``place`` tells which span it takes in
    the text, between ``lead`` and ``trail``.
    """

    use: Renew
    items: list[Node]
    place: Callable[[Draft], tuple[int, int]]
    lead: bytes
    trail: bytes = b""
    wrapper: str | None = None
    step: ClassVar[Step] = Step.MORE_VALUES

    def apply(self, draft: Draft) -> Iterator[Occurrence]:
        """Add it."""
        node = marked_node(self.use, null=False)
        draft.tree.edit(self.items).append(node if self.wrapper is None else {self.wrapper: {"val": node}})
        start, end = self.place(draft)
        yield Occurrence(start, end, self.use, literal=b"", order=draft.number(), lead=self.lead, trail=self.trail)


@dataclass(frozen=True, slots=True)
class BlankComments:
    """What a comment says is nobody's value, as far as anybody knows, so it is blanked.

    SELECT ssn /* of a patient */ FROM patients
    → SELECT ssn FROM patients
    """

    blanks: Sequence[Edit]
    step: ClassVar[Step] = Step.COMMENTS

    def apply(self, _draft: Draft) -> Sequence[Edit]:
        """Comments stand in no tree."""
        return self.blanks
