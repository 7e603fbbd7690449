"""Definitions of indexes: over hidden columns, under other names, and back over plain values."""

from __future__ import annotations

import pytest

from phiproxy.jobs.converted_indexes import ConvertedIndex, StoredIndex, beside_name, build_beside, from_above, over_shadows
from phiproxy.jobs.converted_indexes import _plain as plain
from phiproxy.jobs.relations import Part
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.types.declared import DeclaredType

SLOTS = (Slot(0, "@", 1, "active"), Slot(1, "right(@,4)", 1, "active", total=False))
SSN = ProtectedColumn("public", "t", "ssn", "c:ssn", 7, "t:public.t", DeclaredType.builtin("text"), None, SLOTS, "d")
PART = Part(("public", "t"), 1, "o", 5, (), hidden=False)
NULL = "'\\x" + "00" * 16 + "'::bytea"


@pytest.mark.parametrize(
    ("definition", "becomes"),
    [
        ('CREATE UNIQUE INDEX k ON public.t USING btree ("substring"(ssn, 13, 16))', "btree ((ssn))"),
        (
            f'CREATE INDEX k ON public.t USING btree (city, NULLIF("substring"(ssn, 29, 16), {NULL})) WHERE (id > 5)',
            "btree (city, (right(ssn,4))) WHERE (id > 5)",
        ),
        ('CREATE INDEX k ON public.ssn USING btree (("substring"(ssn, 13, 16)), city)', "btree (((ssn)), city)"),
        ("CREATE INDEX k ON public.t USING btree (ssn)", None),
        ('CREATE INDEX k ON public.t USING btree ("substring"(ssn, 45, 16))', None),
    ],
)
def test_tags_become_what_they_are_of(definition: str, becomes: str | None) -> None:
    made = plain(definition, [SSN], shadow=False)
    assert made == (None if becomes is None else definition.partition(" USING ")[0] + " USING " + becomes)
    if becomes is not None:
        assert "phi_new_ssn" in (plain(definition, [SSN], shadow=True) or "")


def test_what_is_built_beside() -> None:
    definition = "CREATE UNIQUE INDEX k ON public.t USING btree ((pg_catalog.substring(ssn, 13, 16)), city)"
    old = StoredIndex("k", "", frozenset(), True, "u", False, None, None, False, False, True)
    index = ConvertedIndex("k", definition, over_shadows(definition, [SSN]), old)
    assert build_beside(PART, index) == (
        f"CREATE UNIQUE INDEX CONCURRENTLY {beside_name(PART, index)} ON public.t USING btree"
        " ((pg_catalog.substring(phi_new_ssn, 13, 16)), city)"
    )
    assert index.unique
    assert beside_name(PART, ConvertedIndex("new", "", "")) == "new"


def test_partitioned_tables_come_before_their_partitions() -> None:
    low, middle, top = (Part(("public", name), n, "o", 0, (), hidden=False) for n, name in enumerate("abc"))
    assert from_above([low, middle, top], {low.name: middle, middle.name: top}) == [top, middle, low]
