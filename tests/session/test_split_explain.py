"""Plans as one result: only what PostgreSQL writes is put together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sized
from struct import pack
from xml.etree import ElementTree as ET

import pytest
import yaml

from phiproxy.errors import WireError
from phiproxy.session.split_explain import WRITTEN, Explained, Plan, description, ends_at, lines_of, row, shown, written
from phiproxy.wire.messages import decode_row_description, message

COMPLETE = message(b"C", b"EXPLAIN\0")
PLANS = {
    "json": b'[\n  {\n    "Plan": {\n      "Node Type": "Result"\n    }\n  }\n]',
    "xml": b'<explain xmlns="http://www.postgresql.org/2009/explain">\n  <Query>\n    <Plan/>\n  </Query>\n</explain>',
    "yaml": b'- Plan: \n    Node Type: "Result"',
}
READ: dict[str, Callable[[bytes], Sized]] = {
    "json": json.loads,
    "xml": lambda text: list(ET.fromstring(text)),
    "yaml": yaml.safe_load,
}


def columns(*values: bytes) -> bytes:
    return message(b"D", pack("!H", len(values)) + b"".join(pack("!i", len(value)) + value for value in values))


def plan(line: bytes, heading: bytes = b"") -> Plan:
    return Plan(heading, [line])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("form", PLANS)
def test_all_are_read_as_one(form: str, count: int) -> None:
    (joined,) = lines_of(shown([plan(PLANS[form])] * count, form))
    assert len(READ[form](joined)) == count


def test_in_text_each_has_its_heading() -> None:
    plans = [Plan(b"", [b"Seq Scan", b"  Filter"]), Plan(b"beside:", [b"Sort"])]
    assert lines_of(shown(plans, "text")) == [b"Seq Scan", b"  Filter", b"beside:", b"Sort"]


@pytest.mark.parametrize("lines", [[PLANS["yaml"]], [], [PLANS["json"]] * 2])
def test_anything_else_is_not_put_together(lines: list[bytes]) -> None:
    with pytest.raises(WireError):
        shown([plan(PLANS["json"]), Plan(b"", lines)], "json")


def test_what_is_no_xml() -> None:
    with pytest.raises(WireError):
        shown([plan(PLANS["xml"]), plan(PLANS["json"])], "xml")


def test_rows_are_of_one_column() -> None:
    assert lines_of(row(b"a") + row(b"") + COMPLETE) == [b"a", b""]
    with pytest.raises(WireError):
        lines_of(columns(b"", b""))


def test_where_a_plan_ends() -> None:
    assert ends_at(row(b"a") + COMPLETE + row(b"b")) == len(row(b"a"))
    with pytest.raises(WireError):
        ends_at(row(b"a"))


def test_before_the_first_row_of_a_write() -> None:
    first = row(b"Update")
    assert lines_of(written(Explained((plan(b"Scan"),), "text"), first, 0, len(first))) == [b"Scan", WRITTEN, b"Update"]
    first = row(PLANS["json"])
    (joined,) = lines_of(written(Explained((plan(PLANS["json"]),), "json"), first, 0, len(first)))
    assert len(json.loads(joined)) == 2


@pytest.mark.parametrize(("form", "oid"), [("text", 25), ("yaml", 25), ("json", 114), ("xml", 142)])
def test_description(form: str, oid: int) -> None:
    told = description(form, (1,))
    (column,) = decode_row_description(told, 5, len(told))
    assert (column.name, column.type_oid, column.format) == (b"QUERY PLAN", oid, 1)
    assert description(form, ()) == description(form, (0,))
