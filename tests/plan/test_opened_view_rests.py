"""The rests of views over expressions are opened for texts that may name them, with the keys that there are."""

from __future__ import annotations

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import KeyNeeded
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.opened_view_rests import SealedViews
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.view_rests import ViewRest
from tests.clinic_model import PROTECTION

REST = ViewRest(("SELECT 1",), (), (True,), "each")
SEALED = bytes.fromhex("f5500101000000010000010000")
NAMES = {1: "labels", 2: "loud", 3: "plain"}


class Opening(Ciphers):
    """Gives what was put down as opened; else asks for a key, or says that it is not authentic."""

    def __init__(self, answer: bytes | Exception) -> None:
        super().__init__(Keyring(lambda: 0.0))
        self.answer = answer
        self.asked = 0

    def opened_definition(self, column: object, sealed: bytes) -> bytes:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def views() -> SealedViews:
    stored = {
        1: f"SELECT '\\x{SEALED.hex()}'::bytea AS phi_view_0 FROM public.patients;",
        2: "SELECT labels.id FROM public.labels;",
        3: "SELECT patients.id FROM public.patients;",
    }
    relations = tuple(Relation(oid, "public", name, "v", ()) for oid, name in NAMES.items())
    return SealedViews(PROTECTION, Catalog(1, 150000, relations, views=stored))


@pytest.mark.parametrize("text", [b"SELECT * FROM labels", b'SELECT * FROM "labels"', b"select * from LABELS l", b"TABLE loud"])
def test_it_is_opened_once_for_a_text_that_names_it(text: bytes) -> None:
    ciphers, of = Opening(REST.written()), views()
    of.open(text, ciphers)
    of.open(text, ciphers)
    assert (ciphers.views, ciphers.asked) == ({SEALED: REST}, 1)


def test_it_is_not_for_any_other() -> None:
    ciphers = Opening(REST.written())
    views().open(b"SELECT * FROM plain", ciphers)
    assert (ciphers.views, ciphers.asked) == ({}, 0)


def test_a_key_that_is_missing_is_asked_for() -> None:
    ciphers, of = Opening(KeyNeeded(())), views()
    with pytest.raises(KeyNeeded):
        of.open(b"TABLE labels", ciphers)
    ciphers.answer = REST.written()
    of.open(b"TABLE labels", ciphers)
    assert ciphers.views == {SEALED: REST}


@pytest.mark.parametrize("answer", [ValueError("x"), b"[]", b"{}"])
def test_one_that_is_not_authentic_stays_unopened(answer: bytes | Exception) -> None:
    ciphers, of = Opening(answer), views()
    of.open(b"TABLE labels", ciphers)
    of.open(b"TABLE labels", ciphers)
    assert (ciphers.views, ciphers.asked) == ({}, 1)
