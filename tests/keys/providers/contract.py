"""What every provider keeps; a class of tests is made of each of these, with a fixture ``part``."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from phiproxy.errors import ProviderDenied, ProviderMisconfigured
from phiproxy.keys.provider import Context, Wrapped
from tests.keys.providers.parts import Part

CONTEXT = Context("clinic", "t:public.patients", "", "data", 1)
OTHERS = [
    replace(CONTEXT, deployment="other"),
    replace(CONTEXT, scope="d:mrn"),
    replace(CONTEXT, tenant="acme"),
    replace(CONTEXT, purpose="index"),
    replace(CONTEXT, generation=2),
]


class Contract:
    """Of every KEK."""

    async def test_a_root_comes_back_under_its_context_only(self, part: Part) -> None:
        provider = await part.open()
        root = os.urandom(32)
        wrapped = await provider.wrap(root, CONTEXT)
        assert wrapped.version == await provider.version()
        assert root not in wrapped.blob
        assert await provider.unwrap(*wrapped, CONTEXT) == root
        for other in OTHERS:
            with pytest.raises(ProviderDenied):
                await provider.unwrap(*wrapped, other)
        assert await provider.unwrap(*wrapped, CONTEXT) == root
        await provider.close()

    async def test_a_new_key_is_32_bytes_and_new(self, part: Part) -> None:
        provider = await part.open()
        one, two = await provider.new_key(CONTEXT), await provider.new_key(CONTEXT)
        assert len(one.secret) == 32
        assert one.secret != two.secret
        assert await provider.unwrap(*one.wrapped, CONTEXT) == one.secret
        assert one.secret.hex() not in repr(one)
        await provider.close()

    async def test_wraps_of_one_root_differ(self, part: Part) -> None:
        provider = await part.open()
        root = os.urandom(32)
        assert (await provider.wrap(root, CONTEXT)).blob != (await provider.wrap(root, CONTEXT)).blob
        await provider.close()

    async def test_a_changed_blob_or_version_is_denied(self, part: Part) -> None:
        provider = await part.open()
        wrapped = await provider.wrap(os.urandom(32), CONTEXT)
        changed = bytearray(wrapped.blob)
        changed[-3] ^= 1 if not wrapped.blob.startswith(b"vault:") else 3
        for bad in (
            Wrapped(bytes(changed), wrapped.version),
            Wrapped(wrapped.blob[:-1], wrapped.version),
            Wrapped(b"", wrapped.version),
            Wrapped(wrapped.blob, "99"),
        ):
            with pytest.raises(ProviderDenied):
                await provider.unwrap(*bad, CONTEXT)
        await provider.close()

    async def test_another_kek_does_not_open_it(self, part: Part) -> None:
        provider, other = await part.open(), await part.open(part.other())
        wrapped = await provider.wrap(os.urandom(32), CONTEXT)
        assert provider.uri != other.uri
        if not provider.uri.startswith("awskms:"):  # there the version names the key, and IAM decides
            with pytest.raises((ProviderDenied, ProviderMisconfigured)):
                await other.unwrap(*wrapped, CONTEXT)
        await provider.close()
        await other.close()

    async def test_nothing_secret_is_shown(self, part: Part) -> None:
        provider = await part.open()
        for secret in part.secrets.values():
            assert secret not in provider.uri + repr(provider)
        assert "?" not in provider.uri
        await provider.close()

    @pytest.mark.parametrize("tail", ["", "?", "x?nonsense=1", "x?"])
    async def test_a_uri_that_is_not_one_is_said_without_its_options(self, part: Part, tail: str) -> None:
        scheme = part.uri.partition(":")[0]
        with pytest.raises(ProviderMisconfigured, match=f"write {scheme}:"):
            await part.open(f"{scheme}:{tail}")


class TurnOver:
    """Of a KEK that has versions: all but a key pair in files, where the new one does not open what the old one wrapped."""

    async def test_a_kek_that_was_turned_over_still_opens_and_rewraps(self, part: Part) -> None:
        provider = await part.open()
        root = os.urandom(32)
        old = await provider.wrap(root, CONTEXT)
        await provider.close()
        provider = await part.open(await part.turn_over())
        assert await provider.version() != old.version
        assert await provider.unwrap(*old, CONTEXT) == root
        new = await provider.rewrap(*old, CONTEXT)
        assert new.version == await provider.version()
        assert await provider.unwrap(*new, CONTEXT) == root
        with pytest.raises(ProviderDenied):
            await provider.rewrap(*old, OTHERS[0])
        await provider.close()
