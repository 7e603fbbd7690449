"""The form in which values are sealed is what the server prints, whatever their type; what is not of the type is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from phiproxy.errors import SealError, ValueRefused
from phiproxy.jobs.filling import Filling, canonical
from phiproxy.jobs.row_sql import VERSION, Row
from phiproxy.long_values import LONG_VALUE
from phiproxy.policy.column_types import named_type
from tests.session.screenplay import CIPHERS, SSN

if TYPE_CHECKING:
    from phiproxy.crypto.seal import Record
    from phiproxy.crypto.seal_rows import RowKeys
    from phiproxy.jobs.conversion import ConvertedTable
    from phiproxy.jobs.sealed_values import TenantValues
    from phiproxy.policy.protection import ProtectedColumn

READ_AS = (b"",) * len(VERSION)


@pytest.mark.parametrize(
    ("type_name", "text", "value"),
    [
        ("text", "Käthe ", "Käthe "),
        ("varchar(5)", "abc", "abc"),
        ("numeric(6,2)", "1.50", "1.50"),
        ("date", "2001-02-03", "2001-02-03"),
        ("timestamptz", "2001-02-03 04:05:06+00", "2001-02-03 04:05:06+00"),
        ("bytea", "\\x00ff", "\\x00ff"),
        ("boolean", "true", "t"),
        ("int4[]", "{1,NULL,3}", "{1,NULL,3}"),
        ("jsonb", '{"a": 1}', '{"a": 1}'),
        ("float8", "0.1", "0.1"),
    ],
)
def test_canonical(type_name: str, text: str, value: str) -> None:
    assert canonical(named_type(type_name))(text) == value.encode()


@pytest.mark.parametrize(("type_name", "text"), [("numeric(4,2)", "12345.6"), ("date", "yesterday?"), ("int4", "x")])
def test_what_is_none_of_the_type(type_name: str, text: str) -> None:
    with pytest.raises(ValueRefused):
        canonical(named_type(type_name))(text)


class Keys:
    """The keys of the tests, as a tenant's; ``most_rows`` as of ``TenantValues``."""

    ciphers, most_rows = CIPHERS, 200

    async def do(self, work: Callable[[], Any]) -> Any:
        return work()

    async def records(self, scope: str, count: int) -> list[Record]:
        return CIPHERS.draw(scope, count)

    async def row_keys(self, scope: str, count: int) -> RowKeys:
        return CIPHERS.draw_row_keys(scope, count)


def filling_of(*columns: ProtectedColumn) -> Filling:
    converted = [SimpleNamespace(column=column, source=None, sealed_type="bytea") for column in columns]
    table = SimpleNamespace(columns=tuple(converted), opening=False, decode=None)
    return Filling(cast("ConvertedTable", table), cast("TenantValues", Keys()))


ROWS = [("123", "a"), (None, "b"), ("Käthe", None), (None, None), ("x" * 40, "123"), ("", "ß" * 300)]


@pytest.mark.parametrize(
    "more", [[], [("y" * (LONG_VALUE + 1), "a long one")], [("\\x00", "looks like bytea")]], ids=["all", "long", "bytea"]
)
async def test_rows_are_sealed_at_once_as_one_by_one(more: list[tuple[str, str]]) -> None:
    columns = SSN, replace(SSN, name="other")
    filling, opened = filling_of(*columns), CIPHERS.open(SSN)
    rows = [Row((str(n),), (*READ_AS, *values)) for n, values in enumerate([*ROWS, *more])]
    done, slowly = await filling(rows), await filling._one_by_one(rows)
    assert (await filling._at_once(rows) is None) == bool(more)
    for row, new, other in zip(rows, done, slowly, strict=True):
        assert not isinstance(new, SealError)
        assert not isinstance(other, SealError)
        assert new is not None
        assert other is not None
        for text, envelope, by_itself in zip(row.values[len(VERSION) :], new, other, strict=True):
            if text is None:
                assert envelope is by_itself is None
                continue
            assert isinstance(envelope, bytes)
            assert isinstance(by_itself, bytes)
            assert opened(envelope) == opened(by_itself) == text.encode()
            assert envelope[:28] == by_itself[:28], "header and tag"
            assert envelope[28:] != by_itself[28:]
    envelopes = [envelope for new in done if new is not None and not isinstance(new, SealError) for envelope in new]
    salts = {envelope[28:44] for envelope in envelopes if isinstance(envelope, bytes)}
    assert len(salts) == len(rows) - 1, "one for the values of a row"


async def test_a_value_that_is_refused_is_told_by_itself() -> None:
    narrow = replace(SSN, type=named_type("varchar(3)"))
    rows = [Row((str(n),), (*READ_AS, text)) for n, text in enumerate(["abc", "äöü", "abcd"])]
    done = await filling_of(narrow)(rows)
    assert [isinstance(new, SealError) for new in done] == [False, False, True]


async def test_of_no_rows_there_is_nothing() -> None:
    """All rows of a batch may have been written by others meanwhile: then no key is asked for."""
    assert await filling_of(SSN)([]) == []
