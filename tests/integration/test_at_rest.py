"""What the database holds: envelopes whose header says what spec/stored-format 2.1 says, never twice the same, with equal tags."""

from __future__ import annotations

import psycopg
import pytest

from tests.harness.clinic import PROTECTED, Clinic


def tag(envelope: bytes | None, slot: int = 0) -> bytes:
    assert envelope is not None
    return envelope[12 + 16 * slot : 28 + 16 * slot]


def salt_and_rest(envelope: bytes) -> tuple[bytes, bytes, bytes]:
    slots = envelope[11]
    at = 12 + 16 * slots
    return envelope[at : at + 16], envelope[at + 16 : at + 28], envelope[at + 28 :]


def test_every_protected_value_is_an_envelope(clinic: Clinic) -> None:
    clinic.seed(4)
    assert clinic.assert_sealed() == 4 * sum(map(len, PROTECTED.values()))
    lengths = {"ssn": 56 + 16 + 11, "mrn": 56 + 16 + 12, "address": 56 + 20, "notes": 56 + 64}
    for column, length in lengths.items():
        assert {len(v) for v in clinic.raw("patients", column) if v} == {length}
    flags = {column: {v[4] for v in clinic.raw("patients", column) if v} for column in ("ssn", "notes")}
    assert flags == {"ssn": {0}, "notes": {1}}


def test_equal_plaintexts_differ_at_rest_and_have_equal_tags(clinic: Clinic) -> None:
    ssn, note = clinic.plant("ssn"), clinic.plant()
    with psycopg.connect(clinic.proxy_dsn) as conn:
        for _ in range(3):
            conn.execute("INSERT INTO patients (ssn, notes) VALUES (%s, %s)", (ssn, note))
        conn.execute("INSERT INTO patients (ssn, notes) VALUES (%s, %s), (%s, %s)", (ssn, note, ssn, note))
        conn.execute("INSERT INTO patients (ssn) VALUES (%s)", (clinic.plant("ssn"),))
    *same, other = (v for v in clinic.raw("patients", "ssn") if v)
    assert len(set(same)) == 5
    assert len({tag(v) for v in same}) == 1
    assert tag(other) != tag(same[0])
    for part in range(3):
        assert len({salt_and_rest(v)[part] for v in same}) == 5
    assert len({v for v in clinic.raw("patients", "notes") if v}) == 5


def test_one_domain_has_one_tag_and_one_identity(clinic: Clinic) -> None:
    (patient,) = clinic.seed(1)
    of_patient, of_visit = clinic.raw("patients", "mrn")[0], clinic.raw("visits", "mrn")[0]
    assert of_patient is not None
    assert of_visit is not None
    assert tag(of_patient) == tag(of_visit)
    assert of_patient[9:11] == of_visit[9:11]
    with psycopg.connect(clinic.proxy_dsn) as conn:
        conn.execute("INSERT INTO patients (ssn, full_name) VALUES (%s, %s)", (patient.mrn, patient.mrn))
    numbers = [clinic.raw("patients", column)[-1] for column in ("ssn", "full_name")]
    # the same text under other identities: nothing tells that it is the same
    assert len({tag(v) for v in (of_patient, *numbers)}) == 3
    assert len({v[9:11] for v in (of_patient, *numbers) if v}) == 3


def test_null_stays_null_and_the_empty_string_is_sealed(clinic: Clinic) -> None:
    with psycopg.connect(clinic.proxy_dsn) as conn:
        conn.execute("INSERT INTO patients (ssn, address, notes) VALUES (NULL, '', '')")
    assert clinic.raw("patients", "ssn") == [None]
    (address,), (notes,) = clinic.raw("patients", "address"), clinic.raw("patients", "notes")
    assert address is not None
    assert len(address) == 56
    assert notes is not None
    assert len(notes) == 56 + 64


def test_an_update_gives_new_salts_and_leaves_the_others_alone(clinic: Clinic) -> None:
    (patient,) = clinic.seed(1)
    before = {c: clinic.raw("patients", c)[0] for c in ("ssn", "notes")}
    with psycopg.connect(clinic.proxy_dsn) as conn:
        conn.execute("UPDATE patients SET ssn = %s WHERE ssn = %s", (patient.ssn, patient.ssn))
    after = {c: clinic.raw("patients", c)[0] for c in ("ssn", "notes")}
    assert after["notes"] == before["notes"]
    assert after["ssn"] != before["ssn"]
    assert tag(after["ssn"]) == tag(before["ssn"])


@pytest.mark.parametrize("value", [b"in clear", "in clear", b"", bytes.fromhex("f55001"), bytes(200)])
def test_who_bypasses_the_proxy_cannot_store_plaintext(clinic: Clinic, value: bytes | str) -> None:
    with (
        psycopg.connect(clinic.site.sealed_dsn, autocommit=True) as conn,
        pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.DatatypeMismatch)),
    ):
        conn.execute("INSERT INTO patients (ssn) VALUES (%s)", (value,))


def test_the_tag_index_is_used(clinic: Clinic) -> None:
    clinic.seed(3)
    with psycopg.connect(clinic.proxy_dsn) as conn:
        conn.execute("SET enable_seqscan = off")
        plan = conn.execute("EXPLAIN (COSTS off) SELECT * FROM patients WHERE ssn = %s", (clinic.patients[0].ssn,)).fetchall()
    assert "Index" in str(plan)
    assert "substring" in str(plan).lower()
