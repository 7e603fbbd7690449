"""What a policy may say of the fields of a document, and what is wrong with it, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phiproxy.errors import ConfigError
from phiproxy.policy.load import load_policy
from phiproxy.policy.registry_layout import WantedIdentity, column_of, field_path
from phiproxy.sql.values.index_spelling import spell
from tests.policy.build import make_policy

FIELDS: dict[str, Any] = {
    "$.ssn": {"type": "text", "indexes": ["value", "right(value, 4)"], "distinct": 1000000},
    "$.mrn": {"domain": "mrn"},
    "$.history[*].note": {"type": "text", "pad": 64, "id": "notes"},
}
DOMAINS = {"mrn": {"type": "text", "indexes": ["value"], "distinct": 1000000}}


def policy(**column: Any) -> Any:
    return make_policy({"public.charts": {"doc": {"type": "jsonb", **column}}}, domains=DOMAINS)


def test_each_field_is_an_identity_of_its_own() -> None:
    (document,) = policy(fields=FIELDS, others="clear").columns()
    assert [field.label for field in document.with_fields()] == [
        "public.charts.doc",
        "public.charts.doc$.ssn",
        "public.charts.doc$.mrn",
        "public.charts.doc$.history[*].note",
    ]
    assert policy(fields=FIELDS, others="clear").wanted_identities() == [
        WantedIdentity("c:public.charts.doc", "t:public.charts", "jsonb", (), (("public", "charts", "doc"),)),
        WantedIdentity(
            "c:public.charts.doc$.ssn", "t:public.charts", "text", ("@", "right(@,4)"), (("public", "charts", "doc$.ssn"),)
        ),
        WantedIdentity("d:mrn", "d:mrn", "text", ("@",), (("public", "charts", "doc$.mrn"),)),
        WantedIdentity("c:notes", "t:public.charts", "text", (), (("public", "charts", "doc$.history[*].note"),)),
    ]


def test_the_column_of_a_registered_name() -> None:
    assert column_of(("public", "charts", "doc$.history[*].note")) == ("public", "charts", "doc")
    assert field_path(("public", "charts", "doc$.history[*].note")) == ("history", None, "note")
    for name in ("doc", "doc$", "pa$s"):
        assert column_of(("public", "charts", name)) == ("public", "charts", name)
        assert field_path(("public", "charts", name)) == ()


def complaints(tmp_path: Path, column: str) -> list[str]:
    """Return what is said of a policy with this column, at line 8 of the file, without the file's name."""
    text = f"database: d\ndeployment: d\ndomains:\n  mrn: {{type: varchar(12)}}\ntables:\n  public.charts:\n    columns:\n{column}"
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_policy(path, spell)
    return [line.removeprefix(f"{path}:") for line in refused.value.message.split("\n")]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (
            '      doc: {type: jsonb, fields: {"$.a": {type: text}}}',
            "8:12: `fields` needs `others: clear` or `others: sealed`: what becomes of all that is not listed",
        ),
        ('      doc: {type: text, fields: {"$.a": {type: text}}, others: clear}', "8:12: `fields` is of a column of type jsonb"),
        (
            '      doc: {type: jsonb, fields: {"$.a": {type: text}}, others: clear, clear: ["$.b"]}',
            "8:12: `clear` lists what stays in clear with `others: sealed`; with `others: clear` that is all but the fields",
        ),
        (
            '      doc: {type: jsonb, fields: {"$.a": {type: text}}, others: clear, pad: 64}',
            "8:12: a column with `fields` has no pad of its own: they are of each field",
        ),
        ("      doc: {type: jsonb, others: clear}", "8:12: `others` and `clear` are of a column with `fields`"),
        (
            '      doc: {type: jsonb, fields: {"$.a": {type: varchar(5)}}, others: clear}',
            "8:49: 'varchar(5)' is no type of a field: JSON holds text, boolean, smallint, integer, bigint, numeric, date, uuid,"
            " jsonb",
        ),
        (
            '      doc: {type: jsonb, fields: {"$.a": {}}, others: clear}',
            "8:42: a field needs a type or a domain",
        ),
        (
            '      doc: {type: jsonb, fields: {"$.a": {domain: x}}, others: clear}',
            "8:43: there is no domain 'x' (domains: mrn)",
        ),
        (
            '      doc: {type: jsonb, fields: {"$.a": {domain: mrn}}, others: clear}',
            "8:43: domain mrn is of a type that no field of a document has",
        ),
        (
            '      doc: {type: jsonb, fields: {"$.a": {type: jsonb}, "$.a.b": {type: text}}, others: clear}',
            "8:57: $.a.b is inside of $.a",
        ),
        (
            '      doc: {type: jsonb, fields: {"$.a.b": {type: text}}, others: sealed, clear: ["$.a"]}',
            "8:83: $.a and one that is inside of it cannot both be listed: $.a.b",
        ),
        (
            '      doc: {type: jsonb, fields: {"$.a.b": {type: text}, "$.a[*]": {type: text}}, others: clear}',
            "8:58: $.a[*] takes $.a for an object or an array, and not the same as $.a.b",
        ),
        (
            '      doc: {type: jsonb, fields: {"$.a[*]": {type: text, indexes: [value]}}, others: clear}',
            "8:58: what stands in an array has no index in this version",
        ),
        (
            '      doc: {type: jsonb, fields: {"$.a": {type: text, indexes: [other]}}, others: clear}',
            "8:65: 'other' is no index expression: it must be made of 'value' by functions that are known",
        ),
        (
            '      doc: {type: jsonb, fields: {"$.a": {type: text, id: x}, "$.b": {type: text, id: x}}, others: clear}',
            "8:83: this id is already that of public.charts.doc $.a",
        ),
        (
            '      doc: {type: jsonb, fields: {"a": {type: text}}, others: clear}',
            "8:35: 'a' is not a path: it begins with $, as in $.name.family",
        ),
    ],
)
def test_complaints(tmp_path: Path, column: str, said: str) -> None:
    assert complaints(tmp_path, column) == [said]
