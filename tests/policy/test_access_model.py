"""``access:`` of a policy: what it may say, and what it comes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from phiproxy.access.rules import Masked
from phiproxy.access.shows import DENY, NULL, read_show
from phiproxy.errors import ConfigError
from phiproxy.policy.model import Policy
from phiproxy.sql.policy_files import load_policy
from phiproxy.types.declared import DeclaredType

POLICY = """\
database: d
deployment: x
tables:
  public.patients:
    renamed_to: public.people
    columns:
      ssn: {type: text}
      "Odd.Name": {type: date}
  public.visits: {columns: {note: {type: text}}}
"""
DOCUMENT = """\
  public.notes: {renamed_to: public.papers, columns: {doc: {type: jsonb, fields: {"$.who": {type: date}}, others: clear}}}
"""
OWN = (("public", "patients", "ssn"), ("public", "people", "ssn"))
ODD = (("public", "patients", "Odd.Name"), ("public", "people", "Odd.Name"))
NOTE = ("public", "visits", "note")


def policy(directory: Path, access: str, more: str = "") -> Policy:
    path = directory / "policy.yaml"
    path.write_text(POLICY.replace('"Odd.Name":', "'\"Odd.Name\"':") + f"{more}access:\n{access}")
    return load_policy(path)


def test_rules_are_for_all_names_of_their_columns(tmp_path: Path) -> None:
    read = policy(
        tmp_path,
        """\
  default: mask
  rules:
    - {roles: [a, "b%"], columns: [public.patients.ssn], show: last(4)}
    - {roles: [a], tables: [public.people], show: deny}
    - {roles: [c], tables: ["*"], columns: ['public.patients."Odd.Name"'], show: year}
  break_glass: {roles: [a], minutes: 5}
""",
    ).access_rules()
    assert read is not None
    assert (read.default, read.columns) == (NULL, frozenset((*OWN, *ODD, NOTE)))
    assert [(r.roles, r.columns, r.inside, r.show) for r in read.rules] == [
        (("a", "b%"), frozenset(OWN), frozenset(), read_show("last(4)")),
        (("a",), frozenset(), frozenset((*OWN, *ODD)), DENY),
        (("c",), frozenset(ODD), frozenset((*OWN, *ODD, NOTE)), read_show("year")),
    ]
    assert sorted(map(sorted, read.domains)) == [sorted(ODD), sorted(OWN)]  # each under both of its names
    assert read.break_glass is not None
    assert read.break_glass.seconds == 300


@pytest.mark.parametrize(
    ("access", "complaint"),
    [
        ("  rules: [{roles: [a], columns: [public.patients.ssn], show: hash}]", "11:62: 'hash' is none of open"),
        ("  rules: [{roles: [a], columns: [patients.ssn], show: open}]", "must be written schema.table.column"),
        ("  rules: [{roles: [a], tables: [patients], show: open}]", "must be written schema.table"),
        ("  rules: [{roles: [a], show: open}]", "a rule needs `tables`, `columns` or `fields`"),
        ("  rules: [{roles: [], tables: ['*'], show: open}]", "at least 1 item"),
        ("  rules: [{roles: [a], tables: [public.nothing], show: open}]", "no column of public.nothing is protected"),
        ("  rules: [{roles: [a], columns: [public.visits.id], show: open}]", "public.visits.id is not protected"),
        ("  rules: [{roles: [a], tables: ['*'], show: null}]", "valid string"),
        ("  default: some", "must be 'open', 'mask' or 'deny'"),
        ("  break_glass: {roles: [a], reason: optional}", "must be 'required'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, access: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        policy(tmp_path, access + "\n")
    assert complaint in wrong.value.message


def test_masks_that_do_not_fit_are_said_with_their_rule(tmp_path: Path) -> None:
    read = policy(tmp_path, "  rules:\n    - {roles: [a], tables: ['*'], show: last(4)}\n")
    types = {name: DeclaredType.builtin("date") for name in ODD} | {NOTE: DeclaredType.builtin("text")}
    complaints = list(read.access_complaints(types))
    assert [line.partition(":12:")[2] for line in complaints] == [
        "35: public.patients.Odd.Name: last(4) masks bpchar, citext, text, varchar, and this is date",
        "35: public.people.Odd.Name: last(4) masks bpchar, citext, text, varchar, and this is date",
    ]


def test_rules_of_fields(tmp_path: Path) -> None:
    """A field is masked as a column of the field's type is; of a denied one its document cannot be shown whole."""
    rule = "  rules: [{roles: [a], fields: {public.notes.doc: ['$.\"who\"']}, show: year}]\n"
    read = policy(tmp_path, rule, DOCUMENT).access_rules()
    who = (("public", "notes", "doc$.who"), ("public", "papers", "doc$.who"))
    assert read is not None
    assert read.fields == frozenset(who)
    assert dict(read.decide(["a"])) == dict.fromkeys(who, Masked(read_show("year")))
    assert list(policy(tmp_path, rule, DOCUMENT).access_complaints({})) == []
    (one, _) = policy(tmp_path, rule.replace("year", "email"), DOCUMENT).access_complaints({})
    assert "public.notes.doc$.who: email masks" in one


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ("{public.visits.note: [$.x]}", "public.visits.note$.x is no field that the policy lists"),
        ("{public.notes.doc: [$.who, $.nobody]}", "public.notes.doc$.nobody is no field"),
        ("{public.notes.doc: [who]}", "'who' is not a path"),
        ("{public.notes.doc: []}", "at least 1 item"),
        ("{notes.doc: [$.who]}", "must be written schema.table.column"),
    ],
)
def test_what_is_no_field(tmp_path: Path, fields: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        policy(tmp_path, f"  rules: [{{roles: [a], fields: {fields}, show: open}}]\n", DOCUMENT)
    assert complaint in wrong.value.message
