"""Records are canonical JSON, and lines of text."""

import json

from hypothesis import given
from hypothesis import strategies as st

from phiproxy.audit.reading import record_of
from phiproxy.audit.records import canonical, line_of, numbered

TEXTS = st.text()
VALUES = TEXTS | st.integers() | st.none() | st.lists(TEXTS)
FIELDS = st.dictionaries(st.sampled_from(["client", "login", "application", "zz"]), VALUES)


@given(FIELDS, st.integers(1, 10**12))
def test_a_record_is_one_line_that_is_read_back(fields: dict[str, object], sequence: int) -> None:
    line = numbered(line_of("execution", fields), sequence)
    assert b"\n" not in line
    record = record_of(line)
    assert record is not None
    assert record["sequence"] == sequence
    assert {name: record[name] for name in fields} == fields
    assert list(record) == sorted(record)


def test_what_no_text_may_be_is_still_a_record() -> None:
    """A name with a byte that is no UTF-8, as Python keeps it."""
    line = numbered(line_of("login", {"login": "a\udcff", "application": '"sequence":null'}), 7)
    assert record_of(line) == {**json.loads(line)}
    assert json.loads(line)["application"] == '"sequence":null'


def test_keys_are_sorted_and_nothing_is_between() -> None:
    assert canonical({"b": 1, "a": [True, None, "ü"]}) == '{"a":[true,null,"ü"],"b":1}'.encode()


def test_what_is_not_canonical_is_no_record() -> None:
    line = b'{"kind":"login","sequence":1,"time":""}'
    assert record_of(line) == {"kind": "login", "sequence": 1, "time": ""}
    for part, other in ((b"{", b"{ "), (b"1", b"true"), (b"1", b'"1"'), (b'"login"', b"1"), (b'""', b"null")):
        assert record_of(line.replace(part, other, 1)) is None
    for neither in (b"[]", b"", b'{"sequence":1,"kind":"login","time":""}', b'{"sequence":1}'):
        assert record_of(neither) is None
