"""What an HSM can do wrong: no token, no PIN, no object, too many objects, a session that is lost."""

from __future__ import annotations

import os

import pytest
from pkcs11.exceptions import DeviceError, GeneralError, PinIncorrect

from phiproxy.errors import ProviderDenied, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.pkcs11 import Pkcs11Provider
from phiproxy.keys.provider import Context
from phiproxy.keys.remote import CallLimits
from tests.keys.providers.parts import PIN, SOFTHSM, TOKEN, Part, make_hsm_key, pkcs11_part

CONTEXT = Context("clinic", "d:mrn", "", "data", 1)


@pytest.fixture
def hsm(tokens: None) -> Part:
    return pkcs11_part(asymmetric=False)


def uri(path: str, module: str | None = SOFTHSM, pin: str = "env:PIN") -> str:
    return f"pkcs11:{path}?module-path={module}&pin-value={pin}"


def secrets(reference: str) -> str:
    return {"env:PIN": PIN, "env:WRONG": "000000"}[reference]


async def test_set_ups_that_cannot_work_are_said(hsm: Part) -> None:
    make_hsm_key("twice", b"\x01", asymmetric=False)
    make_hsm_key("twice", b"\x02", asymmetric=False)
    make_hsm_key("nameless", b"", asymmetric=False)
    cases = {
        uri(f"token={TOKEN};object=nothing"): "holds no object",
        uri(f"token={TOKEN};object=twice"): "several objects",
        uri(f"token={TOKEN};object=nameless"): "no CKA_ID",
        uri("token=elsewhere;object=x"): "no token elsewhere",
        uri(f"token={TOKEN};object=x", "/nowhere/lib.so"): "cannot be loaded",
        uri("object=x"): "write pkcs11:",
        uri(f"token={TOKEN}"): "write pkcs11:",
        uri(f"token={TOKEN};object=x;serial=1"): "write pkcs11:",
        uri(f"token={TOKEN};object=x;type=cert"): "write pkcs11:",
        f"pkcs11:token={TOKEN};object=x?pin-value=env:PIN": "write pkcs11:",
    }
    for wrong, said in cases.items():
        with pytest.raises(ProviderMisconfigured, match=said) as caught:
            await Pkcs11Provider.open(wrong, secrets)
        assert PIN not in caught.value.public_text
    one = await Pkcs11Provider.open(uri(f"token={TOKEN};object=twice;id=%02"), secrets)
    assert await one.version() == "02"
    await one.close()


async def test_a_wrong_pin_is_tried_once(hsm: Part) -> None:
    calls: list[object] = []

    class Token:
        def open(self, user_pin: str) -> object:
            calls.append(user_pin)
            raise PinIncorrect

    provider = await hsm.open()
    assert isinstance(provider, Pkcs11Provider)
    provider._session = None
    provider._keys.clear()
    provider._loaded = type("Lib", (), {"get_token": lambda self, **_: Token()})  # type: ignore[method-assign]
    with pytest.raises(ProviderMisconfigured, match="PinIncorrect"):
        await provider.version()
    assert len(calls) == 1


async def test_a_lost_session_is_opened_anew(hsm: Part) -> None:
    provider = await hsm.open()
    assert isinstance(provider, Pkcs11Provider)
    wrapped = await provider.wrap(b"r" * 32, CONTEXT)
    provider._session.close()
    assert await provider.unwrap(*wrapped, CONTEXT) == b"r" * 32
    await provider.close()


async def test_a_token_that_does_not_open_its_own_is_unavailable_not_denied(hsm: Part) -> None:
    """A wrong tag and a broken token give the same CKR_GENERAL_ERROR; only the first is a no."""
    provider = await hsm.open()
    assert isinstance(provider, Pkcs11Provider)
    provider._remote.limits = CallLimits(attempts=1)
    wrapped = await provider.wrap(b"r" * 32, CONTEXT)

    class Broken:
        def __init__(self, key: object) -> None:
            self._key = key

        def __getitem__(self, attribute: object) -> object:
            return self._key[attribute]  # type: ignore[index]

        def encrypt(self, *values: object, **options: object) -> object:
            return self._key.encrypt(*values, **options)  # type: ignore[attr-defined]

        def decrypt(self, *_values: object, **_options: object) -> object:
            raise GeneralError

    provider._keys = {at: Broken(key) for at, key in provider._keys.items()}
    with pytest.raises(ProviderUnavailable, match="GeneralError"):
        await provider.unwrap(*wrapped, CONTEXT)
    assert await provider.unwrap(*wrapped, CONTEXT) == b"r" * 32
    await provider.close()


async def test_a_device_that_fails_once_is_tried_again(hsm: Part) -> None:
    provider = await hsm.open()
    assert isinstance(provider, Pkcs11Provider)
    wrapped = await provider.wrap(b"r" * 32, CONTEXT)
    original, failures = provider._unwrap, [1]

    def fails(blob: bytes, key_id: bytes, context: Context) -> bytes:
        if failures:
            failures.pop()
            raise DeviceError
        return original(blob, key_id, context)

    provider._unwrap = fails  # type: ignore[method-assign]
    assert await provider.unwrap(*wrapped, CONTEXT) == b"r" * 32
    await provider.close()


async def test_a_key_that_was_destroyed_is_denied(hsm: Part) -> None:
    provider = await hsm.open()
    wrapped = await provider.wrap(os.urandom(32), CONTEXT)
    with pytest.raises(ProviderDenied, match="holds no object"):
        await provider.unwrap(wrapped.blob, "aabb", CONTEXT)
    with pytest.raises(ProviderDenied, match="no CKA_ID"):
        await provider.unwrap(wrapped.blob, "not hex", CONTEXT)
    assert provider.covers(f"pkcs11:token={TOKEN};object=older")
    assert not provider.covers("pkcs11:token=other;object=older")
    await provider.close()
