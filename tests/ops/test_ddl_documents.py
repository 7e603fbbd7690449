"""What is said of a table before the guard of a document can be added, and which indexes are missing."""

import pytest

from phiproxy.ops.ddl_documents import document_complaint, missing_indexes
from phiproxy.ops.physical_tables import PhysicalColumn, PhysicalIndex, PhysicalTable
from phiproxy.policy.bind import assemble
from phiproxy.policy.physical_columns import tag
from tests.policy.build import make_layout, make_policy

POLICY = make_policy(
    {
        "public.charts": {
            "doc": {"type": "jsonb", "others": "clear", "fields": {"$.ssn": {"type": "text", "indexes": ["value", "lower(value)"]}}}
        }
    }
)
(WANTED,) = POLICY.columns()
COLUMN = assemble(POLICY, make_layout(POLICY), "phiproxy").by_name["public", "charts"].columns["doc"]


def table(*, rows: bool = False, indexes: tuple[PhysicalIndex, ...] = ()) -> PhysicalTable:
    return PhysicalTable("public", "charts", rows, {}, indexes, ())


def column(type_name: str = "jsonb", default: str | None = None) -> PhysicalColumn:
    return PhysicalColumn("doc", type_name, "x", default, (), nondeterministic=False, not_null=False)


@pytest.mark.parametrize(
    ("own", "current", "guarded", "said"),
    [
        (table(), column(), False, None),
        (table(rows=True), column(), True, None),
        (
            table(),
            column("json"),
            False,
            "is json, and fields are sealed in a jsonb: ALTER TABLE public.charts ALTER COLUMN doc TYPE",
        ),
        (table(rows=True), column(), False, "public.charts has rows, whose fields are in plaintext"),
        (table(), column(default="'{}'::jsonb"), False, "a DEFAULT of public.charts.doc is not in this version"),
    ],
)
def test_complaints(own: PhysicalTable, current: PhysicalColumn, *, guarded: bool, said: str | None) -> None:
    complaint = document_complaint(own, WANTED, current, guarded=guarded)
    assert complaint == said if said is None else said in (complaint or "")


def test_missing_indexes() -> None:
    assert COLUMN.document is not None
    (field,) = COLUMN.document.fields
    there = PhysicalIndex("i", (tag(field, field.slots[0]),), frozenset({"doc"}), False, False, False, True, False)
    assert [slot.number for _, slot in missing_indexes(table(), WANTED, COLUMN)] == [0, 1]
    assert [slot.number for _, slot in missing_indexes(table(indexes=(there,)), WANTED, COLUMN)] == [1]
