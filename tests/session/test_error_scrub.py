"""Nothing stored and nothing rewritten is read in an error or a notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.session.error_scrub import holds_ciphertext, scrub
from tests.session.screenplay import SSN, envelope, hexed, tag

STORED = hexed(envelope(SSN, b"078-05-1120"))
TAG = hexed(tag(SSN, b"078-05-1120"))


def of(code: str, value: bytes, **others: str) -> bytes | None:
    """Return one field after scrubbing, None when it is gone; ``others`` are the message's further fields by their letter."""
    fields = [(ord(letter), text.encode()) for letter, text in others.items()]
    return dict(scrub([(ord("S"), b"ERROR"), *fields, (ord(code), value), (ord("z"), b"end")])).get(ord(code))


@pytest.mark.parametrize("code", list("MDHWq"))
def test_ciphertext_is_read_in_no_text_field(code: str) -> None:
    assert of(code, b"near " + STORED + b" and " + TAG) == b"near (protected) and (protected)"


@pytest.mark.parametrize("code", list("MDHWq"))
def test_a_sealed_leaf_of_a_document_is_read_in_no_text_field(code: str) -> None:
    leaf = b"phi1:f5500101028f3f1133000602010150e009c081e46404286454df9c5705:vIIyQAvrGcZHJ-r111XUE_PQFaCB6Y0HIR1rxPM"
    assert of(code, b'invalid input syntax for type integer: "' + leaf + b'"') == (
        b'invalid input syntax for type integer: "(protected)"'
    )
    assert of(code, b"near " + leaf[:40]) == b"near (protected)"
    assert holds_ciphertext(b"M" + leaf)
    assert of(code, b"phi1: is a text") == b"phi1: is a text"


def test_a_value_cut_short_by_the_server_is_ciphertext_too() -> None:
    assert of("W", b"COPY patients, line 7, column ssn: " + STORED[:64] + b"...") == (
        b"COPY patients, line 7, column ssn: (protected)..."
    )


def test_upper_case_and_doubled_backslashes_are_seen() -> None:
    assert of("M", STORED.upper().replace(b"\\X", b"\\x")) == b"(protected)"
    assert of("q", b"E'\\" + STORED + b"'") == b"E'(protected)'"


def escaped(value: bytes) -> bytes:
    """Return bytea's text form under ``bytea_output = escape``."""
    return b"".join(b"\\\\" if c == 0x5C else bytes((c,)) if 32 <= c < 127 else b"\\%03o" % c for c in value)


@pytest.mark.parametrize("code", list("MDHWq"))
def test_nothing_is_read_behind_an_envelope_in_escape_form(code: str) -> None:
    """Nothing tells where it ends: a bracket or a quotation mark may be part of it."""
    stored = escaped(b'\xf5\x50\x01 )" (secret tail)')
    assert of(code, b"near " + stored + b" and more") == b"near (protected)"
    assert of(code, b"E'" + stored.replace(b"\\", b"\\\\") + b"'") == b"E'(protected)"
    assert holds_ciphertext(b"M" + stored)


@pytest.mark.parametrize("state", ["23502", "23514", "44000"])
@pytest.mark.parametrize(
    "text",
    [
        "Failing row contains (%s).",
        "Fehlgeschlagene Zeile enthält (%s).",
        "La ligne en échec contient (%s).",
        "失敗した行は(%s)を含みます",
    ],
)
@pytest.mark.parametrize("form", [hexed, escaped])
def test_a_row_is_left_out_in_any_language(state: str, text: str, form: Callable[[bytes], bytes]) -> None:
    detail = text.encode().replace(b"%s", b"7, " + form(envelope(SSN, b"078-05-1120")) + b", Turku")
    assert of("D", detail, C=state) is None


def test_a_row_without_ciphertext_is_left_out_where_the_server_made_its_description() -> None:
    detail = "Fehlgeschlagene Zeile enthält (7, null, Turku).".encode()
    assert of("D", detail, C="23502", R="ReportNotNullViolationError") is None
    assert of("D", detail, C="23502", R="exec_stmt_raise") == detail
    assert of("D", detail, C="P0001", R="ExecConstraints") == detail
    assert of("M", detail, C="23502", R="ExecConstraints") == detail


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Schlüssel »(ssn)=(%s)« existiert bereits.", "Schlüssel »(ssn)« existiert bereits."),
        (
            "Schlüssel (ssn)=(%s) ist nicht in Tabelle »visits« vorhanden.",
            "Schlüssel (ssn) ist nicht in Tabelle »visits« vorhanden.",
        ),
        ("La clé « (ssn)=(%s) » existe déjà.", "La clé « (ssn) » existe déjà."),
        ("キー (ssn)=(%s) はすでに存在します。", "キー (ssn) はすでに存在します。"),
    ],
)
@pytest.mark.parametrize("form", [hexed, escaped])
def test_a_key_keeps_its_columns_in_any_language(text: str, shown: str, form: Callable[[bytes], bytes]) -> None:
    assert of("D", text.encode().replace(b"%s", form(envelope(SSN, b"078-05-1120"))), C="23505") == shown.encode()


def test_the_line_of_a_copy_keeps_table_line_and_column() -> None:
    assert of("W", "COPY patients, Zeile 3, Spalte ssn: »".encode() + STORED + "«".encode()) == (
        "COPY patients, Zeile 3, Spalte ssn: »(protected)«".encode()
    )
    assert of("W", b'COPY patients, line 3, column ssn: "' + escaped(envelope(SSN, b"x")) + b'"') == (
        b'COPY patients, line 3, column ssn: "(protected)'
    )


def test_the_failing_row_is_left_out_whole() -> None:
    assert of("D", b"Failing row contains (1, " + STORED + b", Turku).") is None


@pytest.mark.parametrize("column", [b"ssn", b'"SSN"', b"patients.ssn"])
def test_a_tag_expression_is_its_column(column: bytes) -> None:
    for name in (b"substring", b'"substring"', b"pg_catalog.substring", b'pg_catalog."substring"'):
        assert of("M", b"index on " + name + b"(" + column + b", 13, 16)") == b"index on " + column


def test_a_key_keeps_the_clients_columns_without_values() -> None:
    detail = b'Key (NULLIF("substring"(born, 45, 16), \'\\x' + b"00" * 16 + b"'::bytea))=(" + TAG + b") already exists."
    assert scrub([(ord("D"), detail)]) == [(ord("D"), b"Key (born) already exists.")]
    detail = b'Key (org, "substring"(ssn, 13, 16))=(7, ' + TAG + b") already exists."
    assert of("D", detail) == b"Key (org, ssn) already exists."
    assert of("D", b"Key (ssn)=(" + STORED + b") is not present.") == b"Key (ssn) is not present."


def test_a_key_of_something_else_keeps_its_values() -> None:
    assert of("D", b"Key (id)=(7) already exists.") == b"Key (id)=(7) already exists."


@pytest.mark.parametrize("code", list("VCPpFLstcdn"))
def test_fields_that_hold_no_text_pass(code: str) -> None:
    assert of(code, b"patients_ssn_idx") == b"patients_ssn_idx"


@pytest.mark.parametrize("text", [STORED, STORED.upper().replace(b"\\X", b"\\x"), b'"substring"(ssn, 13, 16)'])
def test_ciphertext_is_seen_in_a_whole_message(text: bytes) -> None:
    assert holds_ciphertext(b"SERROR\0M" + text + b"\0")


@pytest.mark.parametrize("text", [b"\\x00112233445566778899aabbccddeeff", b"substring(a, 1, 2)", b""])
def test_other_bytes_are_not_ciphertext(text: bytes) -> None:
    assert not holds_ciphertext(b"SERROR\0M" + text + b"\0")


@given(st.lists(st.tuples(st.sampled_from(b"SVCMDHPpqWstcdnFLR"), st.text(alphabet="abc (=),\\x\u00e4").map(str.encode))))
def test_order_is_kept_and_text_without_ciphertext_is_not_touched(fields: list[tuple[int, bytes]]) -> None:
    assert scrub(fields) == fields


def test_a_hidden_column_is_called_as_its_client_knows_it() -> None:
    tag = b"\\x01" + b"ab" * 15
    fields = [(ord("C"), b"23503"), (ord("D"), b"Key (phi_tag_mrn_0)=(" + tag + b') is not present in table "patients".')]
    assert scrub(fields)[1] == (ord("D"), b'Key (mrn) is not present in table "patients".')
    assert holds_ciphertext(b"Key (a, phi_tag_mrn_0)=(1, x)")
