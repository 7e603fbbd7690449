"""The statements of a scan: what rows hold is in parameters only, and names are quoted."""

from __future__ import annotations

import re

from psycopg import sql

from phiproxy.jobs.binary_arrays import ByteaArray, TextArray, TidArray, XidArray
from phiproxy.jobs.relations import KeyPart, Part
from phiproxy.jobs.row_sql import VERSION, Read, Row, Scan

PART = Part(("s", "t"), 1, "o", 5, (KeyPart("id", "integer", ("id",)), KeyPart('"a%b"', "text", ("a%b",))), hidden=False)
SCAN = Scan(PART, (Read('t."c"', "bytea"), Read("t.plain", "text", same=False)), ("c",), sql.SQL("t.c IS NOT NULL"))
ROW = Row(("5", "key of five"), (b"sealed", "plaintext"))


def test_no_value_is_in_a_text_and_no_plaintext_goes_back() -> None:
    statements = [SCAN.read(ROW.key, 10), SCAN.again([ROW]), SCAN.write([(ROW, [b"fresh"])])]
    for query, values in statements:
        text = query.as_string(None)
        assert not any(word in text for word in ("key of five", "sealed", "fresh", "plaintext"))
        bare = text.replace("a%%b", "")
        assert bare.count("%s") + bare.count("%b") == len(values)
    *given, count = statements[2][1]
    arrays = [array.data for array in given]
    assert count == 1
    expected = [TextArray(["5"]), TextArray(["key of five"]), ByteaArray([b"sealed"]), ByteaArray([b"fresh"])]
    assert arrays == [array.data for array in expected]
    assert 'UPDATE ONLY "s"."t" t SET "c" = v."_phi_v0"' in statements[2][0].as_string(None)


def test_a_row_whose_version_was_read_is_found_by_that() -> None:
    scan = Scan(PART, (*VERSION, Read("t.plain", "text", same=False)), ("c",), sql.SQL("true"))
    query, values = scan.write([(Row(("5", "x"), (b"\0\0\0\1\0\2", b"\0\0\2\0", b"\0\0\0\7", "plaintext")), [b"fresh"])])
    assert "t.ctid = v" in (text := query.as_string(None))
    assert "id" not in re.sub("tid|xid|oid", "", text)
    expected = [TidArray([b"\0\0\0\1\0\2"]), XidArray([b"\0\0\2\0"]), ByteaArray([b"\0\0\0\7"]), ByteaArray([b"fresh"])]
    assert [array.data for array in values[:-1]] == [array.data for array in expected]


def test_rows_are_named_by_their_key() -> None:
    assert SCAN.spelled(ROW) == 'id 5, "a%b" key of five'


def test_rows_whose_key_is_to_be_protected_are_named_by_where_they_are() -> None:
    scan = Scan(PART, (Read("t.plain", "text", same=False), *VERSION), ("c",), sql.SQL("true"), remembered=False)
    row = Row(("5", "key of five"), ("plaintext", b"\0\1\0\2\0\7", b"\0\0\2\0", b"\0\0\0\7"))
    assert scan.spelled(row) == "ctid (65538,7)"
