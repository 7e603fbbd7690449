"""What a rewrite reads of the text: references as they are spelled, comments as blanks, the tokens of its statement."""

from __future__ import annotations

from contextlib import suppress

import pytest

from phiproxy.errors import SyntaxRefused
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft, Insert, merged
from phiproxy.sql.rewrite.references_and_markers import spelled_node
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import Scan, location, messages, parse

TEXT = b"SELECT 1; SELECT p . /* 7 */ ssn FROM p"


def test_references_are_spelled_as_the_client_does_without_what_a_comment_says() -> None:
    statement = parse(TEXT)[1]
    draft = Draft(Scan(TEXT), statement.room, EditedTree({statement.kind: statement.body}), [Edit(21, 28, b" " * 7)])
    column = statement.body["targetList"][0]["ResTarget"]["val"]
    assert draft.named(column) == draft.spelled(column) == "p .         ssn"
    assert draft.spans.tokens[0].start == 8, "not those of the other statement"
    draft.tree.replace(column, spelled_node((("q", "ssn"),)))
    assert draft.spelled(column) == '"q"."ssn"'
    assert draft.named(spelled_node((("q", "ssn"),))) == '"q"."ssn"'


REFERENCES = (
    "ssn", "p.ssn", "a.p.ssn", '"ssn"', '"p"."ssn"', "p . ssn", "p./* x */ssn", "p -- x\n. ssn", "(p).ssn", "(ssn)", 'p."ssn"',
    "näme", "nam.näme", "ssn::text", "ssn||'x'", "ssn/2", "ssn-1", "ssn[1]", 'U&"ssn"', "u",
)  # fmt: skip
BEHIND_REFERENCES = ("", " ", " AS x", ",1", " , 1", "=1", "<>1", "/* y */", " -- y", "\n;", " FROM p")
VALUES = ("$1", "$12", "'x'", "''", "'x''y'", "'ä'", r"'\x'", r"E'\x'", "N'x'", "U&'!0061'", "$$x$$", "B'1'")
BEHIND_VALUES = ("", " ", " AS x", ",1", "::text", ")", "\n'y'", " -- c\n'y'", " -- c\n'y'\n'z'", " UESCAPE '!'", ";")


@pytest.mark.parametrize("behind", BEHIND_REFERENCES)
def test_references_end_where_their_tokens_do(behind: str) -> None:
    for text in (f"SELECT {reference}{behind}".encode() for reference in REFERENCES):
        statement = parse(text)[0]
        draft = Draft(Scan(text), statement.room, EditedTree({statement.kind: statement.body}))
        nodes = [m for m in messages(statement.body) if "ColumnRef" in m]
        assert nodes
        assert [draft.reference(n) for n in nodes] == [draft.spans.column_ref(location(n["ColumnRef"])) for n in nodes], text


@pytest.mark.parametrize("value", VALUES)
def test_values_end_where_their_tokens_do(value: str) -> None:
    ends = set()
    for behind in BEHIND_VALUES:
        opening = "(" if behind == ")" else ""
        text = f"SELECT {opening}{value}{behind}".encode()
        with suppress(SyntaxRefused):
            parse(text)
            draft, start = Draft(Scan(text), (0, len(text)), EditedTree({})), 7 + len(opening)
            assert draft.value_end(start, constant=False) == draft.spans.value_end(start, constant=False), text
            ends.add(draft.value_end(start, constant=False) - start)
    assert ends


def test_plain_texts_are_not_scanned() -> None:
    text = b"SELECT ssn, p.id FROM p WHERE ssn = $1 AND id = 'x'"
    scan = Scan(text)
    draft = Draft(scan, (0, len(text)), EditedTree({}))
    assert draft.reference({"ColumnRef": {"location": 12}}) == (12, 16)
    assert draft.value_end(36, constant=False) == 38
    assert "tokens" not in vars(scan)


def test_occurrences_are_numbered() -> None:
    draft = Draft(Scan(b""), (0, 0), EditedTree({}))
    assert [draft.number(), draft.number()] == [0, 1]


def test_inner_inserts_are_inside() -> None:
    inserts = [Insert(3, b"i("), Insert(9, b")i", closing=True), Insert(3, b"o("), Insert(9, b")o", closing=True), Insert(9, b"n(")]
    assert merged(inserts) == {3: b"o(i(", 9: b")i)on("}
