"""Subjects in records: sealed and tagged under the audit key."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode

from hypothesis import given
from hypothesis import strategies as st

from phiproxy.audit.audit_keys import AuditKeys
from phiproxy.audit.sealed_subjects import TAG_SIZE, SubjectSeals, is_open_ended, sealed_in
from phiproxy.plan.counted_subjects import Whom

SEALS = SubjectSeals(AuditKeys.derive(bytes(32), "clinic"), 3)
OTHER = SubjectSeals(AuditKeys.derive(bytes(32), "another"), 3)


@given(st.text())
def test_what_is_sealed_is_opened_by_the_same_key_only(value: str) -> None:
    sealed = SEALS.seal(value.encode())
    assert SEALS.opened(sealed) == value
    assert OTHER.opened(sealed) is None
    assert SubjectSeals(AuditKeys.derive(bytes(32), "clinic")).seal(value.encode()) == sealed, "equal values are found again"
    assert b64decode(sealed)[:TAG_SIZE] == SEALS.tag(value.encode()) != OTHER.tag(value.encode())
    assert len(b64decode(sealed)) % 16 == 0


def test_nothing_that_was_changed_opens() -> None:
    data = bytearray(b64decode(SEALS.seal(b"4711")))
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        if not 12 <= at < TAG_SIZE:  # the end of the tag is no nonce
            assert SEALS.opened(b64encode(bytes(changed)).decode()) is None
    assert SEALS.opened("") is None
    assert SEALS.opened("no base64!") is None


def test_what_a_record_says() -> None:
    about = (Whom("p.id", (b"4711", b"4712"), unknown=True), Whom("v.pid", rows=5000))
    record = json.loads(b'{"x":0' + SEALS.spelled(about) + b"}")
    assert [SEALS.opened(one) for one in sealed_in(record)] == ["4711", "4712"]
    assert record["subjects"]["v.pid"] == {"rows": 5000}
    assert [*sealed_in(record, "v.pid")] == []
    assert len([*sealed_in(record, "p")]) == 2, "by the table too"
    assert [is_open_ended(record, label) for label in (None, "p.id", "v", "w.id")] == [True, True, True, False]
    assert not is_open_ended({"subjects": {"p.id": {"sealed": ["x"]}}})


def test_a_record_may_say_anything() -> None:
    for said in (None, 5, {"p.id": 5}, {"p.id": {"sealed": [5]}}):
        assert [*sealed_in({"subjects": said})] == []
