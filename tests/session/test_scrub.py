"""Nothing stored and nothing rewritten is read in an error or a notice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.session.scrub import holds_ciphertext, scrub
from tests.session.screenplay import SSN, envelope, hexed, tag

STORED = hexed(envelope(SSN, b"078-05-1120"))
TAG = hexed(tag(SSN, b"078-05-1120"))


def of(code: str, value: bytes) -> bytes | None:
    """Return one field after scrubbing, None when it is gone."""
    return dict(scrub([(ord("S"), b"ERROR"), (ord(code), value), (ord("R"), b"end")])).get(ord(code))


@pytest.mark.parametrize("code", list("MDHWq"))
def test_ciphertext_is_read_in_no_text_field(code: str) -> None:
    assert of(code, b"near " + STORED + b" and " + TAG) == b"near (protected) and (protected)"


def test_a_value_cut_short_by_the_server_is_ciphertext_too() -> None:
    assert of("W", b"COPY patients, line 7, column ssn: " + STORED[:64] + b"...") == (
        b"COPY patients, line 7, column ssn: (protected)..."
    )


def test_upper_case_and_doubled_backslashes_are_seen() -> None:
    assert of("M", STORED.upper().replace(b"\\X", b"\\x")) == b"(protected)"
    assert of("q", b"E'\\" + STORED + b"'") == b"E'(protected)'"


def test_the_failing_row_is_left_out_whole() -> None:
    assert of("D", b"Failing row contains (1, " + STORED + b", Turku).") is None


@pytest.mark.parametrize("column", [b"ssn", b'"SSN"', b"patients.ssn"])
def test_a_tag_expression_is_its_column(column: bytes) -> None:
    for name in (b"substring", b'"substring"', b"pg_catalog.substring", b'pg_catalog."substring"'):
        assert of("M", b"index on " + name + b"(" + column + b", 13, 16)") == b"index on " + column


def test_a_key_keeps_the_clients_columns_without_values() -> None:
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
