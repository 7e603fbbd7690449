"""COPY: which columns, how spelled, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.sql.result import ProtectedCopy
from phiproxy.wire.copy_rows import CopyFormat
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import PLANNER, VIEW, ask, refusal

ALL = '("id", "ssn", "full_name", "mrn", "notes", "city", "active")'


def planned(text: str, planner: Planner = PLANNER) -> StatementPlan:
    return planner.statement(text.encode(), (), VIEW)


def copy(text: str) -> ProtectedCopy:
    copied = planned(text).copy
    assert copied is not None
    return copied


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("COPY patients FROM STDIN", f'COPY "public".patients {ALL} FROM STDIN'),
        ("COPY public.patients (ssn, id) TO STDOUT", "COPY public.patients (ssn, id) TO STDOUT"),
        ("COPY BINARY patients TO STDOUT", f'COPY BINARY "public".patients {ALL} TO STDOUT'),
        ("COPY patients (ssn) FROM STDIN WHERE id > 3", 'COPY "public".patients (ssn) FROM STDIN WHERE id > 3'),
        ("COPY (SELECT ssn FROM patients) TO STDOUT", 'COPY (SELECT ssn FROM "public".patients) TO STDOUT'),
        ("COPY (SELECT id FROM archive.patients) TO STDOUT", "="),
        ("COPY archive.patients FROM STDIN", "="),
        ("COPY log (msg) FROM '/tmp/x'", "="),
    ],
)
def test_copy_lists_the_columns_whose_data_it_holds(text: str, server: str) -> None:
    assert ask(text) == server


def test_generated_and_hidden_columns_are_left_out() -> None:
    (table,) = [r for r in CATALOG.relations if r.qualified == "public.patients"]
    hidden = dataclasses.replace(table.columns[0], name="phi_tag_ssn_0", generated=True)
    generated = dataclasses.replace(table.columns[0], name="initials", generated=True)
    relations = tuple(r for r in CATALOG.relations if r is not table)
    wider = dataclasses.replace(table, columns=(*table.columns, hidden, generated))
    planner = Planner(PROTECTION, dataclasses.replace(CATALOG, relations=(*relations, wider)), PLANNER.ciphers)
    assert planned("COPY public.patients TO STDOUT", planner).sql == f"COPY public.patients {ALL} TO STDOUT".encode()


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ("", CopyFormat()),
        ("WITH DELIMITER '|' NULL ''", CopyFormat(delimiter=b"|", null=b"")),
        ("CSV HEADER", CopyFormat("csv", b",", b"", header="yes")),
        ("(FORMAT csv, HEADER match, QUOTE '''', ESCAPE '\\')", CopyFormat("csv", b",", b"", b"'", b"\\", header="match")),
        ("(FORMAT csv, QUOTE '~')", CopyFormat("csv", b",", b"", b"~", b"~")),
        ("(FORMAT csv, HEADER off, DEFAULT 'D')", CopyFormat("csv", b",", b"", default=b"D")),
        ("(FORMAT csv, FORCE_NULL (ssn), FORCE_NOT_NULL *)",
         CopyFormat("csv", b",", b"", force_null=frozenset({0}), force_not_null=frozenset({0, 1}))),
        ("(FORMAT binary, FREEZE)", CopyFormat("binary")),
        ("(ENCODING 'utf-8', LOG_VERBOSITY verbose, REJECT_LIMIT 3)", CopyFormat(encoding="UTF8")),
        ("(ENCODING 'Windows-1252')", CopyFormat(encoding="WIN1252")),
    ],
)  # fmt: skip
def test_options_say_how_the_data_is_spelled(options: str, form: CopyFormat) -> None:
    copied = copy(f"COPY patients (ssn, id) FROM STDIN {options}")
    assert copied.form == form
    assert copied.columns == ("ssn", "id")
    assert [r is not None for r in copied.reveals] == [True, False]
    assert not copied.skips_errors


def test_rows_that_do_not_fit_are_skipped_where_told() -> None:
    assert copy("COPY patients (mrn) FROM STDIN (ON_ERROR ignore)").skips_errors


def test_what_is_not_protected_is_not_read() -> None:
    assert planned("COPY patients (id, city) TO STDOUT").copy is None


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("COPY patients FROM '/tmp/patients'", "0A000"),
        ("COPY patients TO PROGRAM 'cat'", "0A000"),
        ("COPY (SELECT ssn FROM patients) TO '/tmp/x'", "0A000"),
        ("COPY patients FROM STDIN WHERE ssn = 'x'", "0A000"),
        ("COPY patients FROM STDIN WHERE patients IS NULL", "0A000"),
        ("COPY patients FROM STDIN WHERE read_ssn(id) = 'x'", "0A000"),
        ("COPY patients FROM STDIN (FORMAT 'parquet')", "0A000"),
        ("COPY patients FROM STDIN (ENCODING 'MULE_INTERNAL')", "0A000"),
        ("COPY patients FROM STDIN (SOMETHING new)", "0A000"),
        ("COPY patients FROM STDIN (ON_ERROR set_null)", "0A000"),
        ("COPY patients FROM STDIN (HEADER 7)", "0A000"),
        ("COPY patients (sn) FROM STDIN", "42703"),
        ("COPY pacients (ssn) FROM STDIN", "42P01"),
        ("COPY phiproxy.root_key TO STDOUT", "42501"),
        ("COPY patient_names TO STDOUT", "42809"),
        ("COPY (SELECT upper(ssn) FROM patients) TO STDOUT", "0A000"),
        ("COPY (SELECT ssn FROM patients) TO STDOUT (FORMAT csv, FORCE_QUOTE (ssn))", "0A000"),
        ("COPY (SELECT id FROM patients WHERE ssn = $1) TO STDOUT", "0A000"),
    ],
)
def test_copy_past_the_proxy_is_refused(text: str, sqlstate: str) -> None:
    assert ask(text) == sqlstate


def test_a_refusal_says_where_and_what_would_work() -> None:
    error = refusal("COPY patients FROM '/tmp/patients'")
    assert error.position == 6
    assert "STDIN" in (error.hint or "")
