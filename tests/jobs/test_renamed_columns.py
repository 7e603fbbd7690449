"""Names of columns are replaced where they name columns."""

from __future__ import annotations

import pytest

from phiproxy.jobs.renamed_columns import renamed_columns


@pytest.mark.parametrize(
    ("text", "renamed"),
    [
        ("gin (doc)", 'gin ("New")'),
        ("gin (doc jsonb_path_ops) WHERE ((doc ->> 'doc'::text) = 'doc'::doc)",
         "gin (\"New\" jsonb_path_ops) WHERE ((\"New\" ->> 'doc'::text) = 'doc'::doc)"),
        ("btree (doc(doc), ((t.doc).doc))", 'btree (doc("New"), ((t.doc).doc))'),
        (r"btree ((doc ->> E'a\\'' doc'::text))", r"""btree (("New" ->> E'a\\'' doc'::text))"""),
        ('btree ("Doc", "ä", doc)', 'btree ("Doc", "x""y", "New")'),
    ],
)  # fmt: skip
def test_renamed_columns(text: str, renamed: str) -> None:
    assert renamed_columns(text, {"doc": "New", "ä": 'x"y'}) == renamed
