"""Rewrites are carried out in the order of their steps, each upon what those before have made."""

from __future__ import annotations

from phiproxy.sql.result import Edit, Occurrence
from phiproxy.sql.rewrite.apply_edits import verify
from phiproxy.sql.rewrite.common_changes import ByRule, DropCast, Respell, TagColumn
from phiproxy.sql.rewrite.draft import Draft, Insert, TextEdit
from phiproxy.sql.rewrite.order_of_rewrites import Rewrite, Rewrites, Step, carry_out, outside
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import Node, Scan, parse
from phiproxy.sql.values.uses import PLAIN
from tests.clinic_model import ACTIVE

TEXT = b"SELECT ssn::text FROM p"


def draft() -> Draft:
    (statement,) = parse(TEXT)
    return Draft(Scan(TEXT), statement.room, EditedTree({statement.kind: statement.body}))


def spliced(edits: list[Edit]) -> bytes:
    text = TEXT
    for edit in reversed(edits):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def test_text_and_tree_say_the_same_whatever_the_order_of_the_rules() -> None:
    for backwards in (False, True):
        work = draft()
        cast = work.tree.root["SelectStmt"]["targetList"][0]["ResTarget"]["val"]
        column = cast["TypeCast"]["arg"]
        noted: list[Rewrite] = [DropCast(cast), TagColumn(column, ACTIVE[0]), Respell(column, (("p", "ssn"),))]
        rewrites = Rewrites()
        for rewrite in reversed(noted) if backwards else noted:
            rewrites.add(rewrite)
        edits, occurrences = carry_out(rewrites, work)
        assert not occurrences
        assert spliced(edits) == b'SELECT pg_catalog.substring("p"."ssn", 13, 16) FROM p'
        verify(spliced(edits), [work.tree])
        assert parse(TEXT)[0].body == work.tree.root["SelectStmt"], "the client's tree is what it was"


def test_of_one_kind_a_node_has_one() -> None:
    rewrites = Rewrites()
    assert not rewrites
    node: Node = {"ColumnRef": {"fields": []}}
    first, second = Respell(node, (("a", "c"),)), Respell(node, (("b", "c"),))
    rewrites.add(first, node)
    rewrites.add(second, node)
    assert rewrites.of(Respell, node) is first
    assert list(rewrites) == [first]
    assert rewrites.any_of((TagColumn, Respell), node)
    assert rewrites.drop(Respell, node) is first
    assert rewrites.drop(Respell, node) is None
    assert not rewrites


def test_inserts_go_before_an_edit_of_nothing_and_the_last_edit_of_a_span_counts() -> None:
    def does(*changes: TextEdit, step: Step = Step.EXPRESSIONS) -> ByRule:
        return ByRule(lambda _draft: changes, step)

    rewrites = Rewrites()
    rewrites.add(does(Insert(7, b"wrapped("), step=Step.QUERIES))
    rewrites.add(does(Edit(7, 7, b"p."), Edit(20, 22, b"x"), step=Step.NAMES))
    rewrites.add(does(Edit(20, 22, b"y")))
    rewrites.add(does(Occurrence(3, 4, PLAIN, order=1), Occurrence(3, 4, PLAIN, order=2), step=Step.VALUES))
    edits, occurrences = carry_out(rewrites, draft())
    assert edits == [Edit(7, 7, b"wrapped(p."), Edit(20, 22, b"y")]
    assert [o.order for o in occurrences] == [1]


def test_comments_give_way() -> None:
    blanks = [Edit(2, 4, b"  "), Edit(11, 14, b"   "), Edit(30, 33, b"   ")]
    assert list(outside(blanks, [Edit(1, 8, b"x")], [Occurrence(30, 40, PLAIN)])) == [Edit(11, 14, b"   ")]
