"""Result columns: what the client is told of a type, and one row function for each way of showing it."""

from __future__ import annotations

import dataclasses

from phiproxy.plan.result_columns import Columns, shown_in
from phiproxy.policy.column_types import builtin, named_type
from phiproxy.sql.result import Reveal
from phiproxy.types.styles import Styles
from phiproxy.wire.encodings import UTF8, encoding_of
from phiproxy.wire.messages import Field
from tests.clinic_model import PATIENTS
from tests.plan.rings import full_ciphers

SSN = PATIENTS.columns["ssn"]
PRICE = dataclasses.replace(SSN, type=named_type("numeric(4,1)"))


def test_the_client_is_told_of_the_declared_type() -> None:
    columns = Columns((Reveal(PRICE, PRICE.type), None))
    bytea = Field(b"price", 7, 1, 17, -1, -1, 0)
    told, other = columns.describe([bytea, bytea._replace(type_oid=25, attnum=2)], (1, 0), frozenset())
    assert (told.type_oid, told.type_size, told.typmod, told.format) == (1700, -1, PRICE.type.typmod, 1)
    assert other.type_oid == 25


def test_text_has_one_row_function_whatever_the_settings() -> None:
    ciphers, text = full_ciphers(), Columns((Reveal(SSN, SSN.type),))
    assert not text.typed
    one = text.rows(ciphers, binary=True, formats=(0,), styles=Styles.CANONICAL)
    assert one is text.rows(ciphers, binary=True, formats=(1,), styles=Styles(date_style="German"))
    typed = Columns((Reveal(PRICE, PRICE.type),))
    assert typed.typed
    assert typed.rows(ciphers, binary=True, formats=(0,)) is not typed.rows(ciphers, binary=True, formats=(1,))


def test_only_texts_are_in_the_clients_encoding() -> None:
    latin = encoding_of("LATIN1")
    assert latin is not None
    value = "é".encode()
    assert shown_in(UTF8, None, builtin("text"), 0) is None
    for write in (None, lambda field: field):
        written = [shown_in(latin, write, builtin(name), code) for name, code in (("text", 0), ("text", 1), ("int2", 1))]
        text, binary, number = written
        assert text is not None
        assert binary is not None
        assert number is not None
        assert (text(value), binary(value), number(value)) == (b"\xe9", b"\xe9", value)
