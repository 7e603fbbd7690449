"""AWS KMS beyond the contract: URIs, the context that goes with every call, versions, and faults that moto does not make itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from phiproxy.errors import ProviderDenied, ProviderError, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.awskms import AwsKmsProvider
from phiproxy.keys.provider import Context
from phiproxy.keys.remote import CallLimits
from tests.keys.providers import parts

CONTEXT = Context("clinic", "t:public.patients", "acme", "data", 3)
QUICK = CallLimits(attempts=2, deadline=5.0, failures=100)


def no_secrets(_reference: str) -> str:
    raise AssertionError("no secret is needed")


@pytest.fixture(scope="module")
def kms() -> Iterator[tuple[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with parts.kms() as found:
            yield found


@pytest.fixture
async def provider(kms: tuple[str, Any]) -> AwsKmsProvider:
    endpoint, client = kms
    arn = client.create_key()["KeyMetadata"]["Arn"]
    return await AwsKmsProvider.open(f"awskms:{arn}?endpoint={endpoint}", no_secrets, QUICK)


def watched(provider: AwsKmsProvider, hook: Callable[..., AWSResponse | None]) -> None:
    """Have every request pass by ``hook``, which may answer it in KMS's place."""
    provider._client.meta.events.register("before-send.kms", hook)


def fault(code: str, status: int = 400) -> Callable[..., AWSResponse]:
    """Return a hook that answers with an error that AWS gives and moto does not."""

    def answer(request: Any, **_: object) -> AWSResponse:
        body = json.dumps({"__type": code, "message": f"something of {request.url}"}).encode()
        response = AWSResponse(request.url, status, {"content-type": "application/x-amz-json-1.1"}, None)
        response._content = body  # botocore reads it from there when no connection was made
        return response

    return answer


async def test_the_encryption_context_goes_with_every_call(provider: AwsKmsProvider) -> None:
    seen: list[dict[str, Any]] = []

    def look(request: Any, **_: object) -> None:
        seen.append({**json.loads(request.body), "operation": request.headers["X-Amz-Target"]})

    watched(provider, look)
    new = await provider.new_key(CONTEXT)
    wrapped = await provider.wrap(new.secret, CONTEXT)
    await provider.unwrap(*wrapped, CONTEXT)
    await provider.rewrap(*wrapped, CONTEXT)
    expected = {
        "phiproxy:deployment": "clinic",
        "phiproxy:scope": "t:public.patients",
        "phiproxy:tenant": "acme",
        "phiproxy:purpose": "data",
        "phiproxy:generation": "3",
    }
    contexts = [v for call in seen for k, v in call.items() if k.endswith("EncryptionContext")]
    assert contexts == [expected] * 5
    assert all(call.get("KeyId") or call.get("SourceKeyId") for call in seen)


async def test_a_tenant_that_is_not_there_is_left_out(provider: AwsKmsProvider) -> None:
    wrapped = await provider.wrap(os.urandom(32), Context("clinic", "d:mrn", "", "index", 1))
    assert len(await provider.unwrap(*wrapped, Context("clinic", "d:mrn", "", "index", 1))) == 32


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("DisabledException", 400, ProviderDenied),
        ("KMSInvalidStateException", 400, ProviderDenied),
        ("AccessDeniedException", 400, ProviderDenied),
        ("IncorrectKeyException", 400, ProviderDenied),
        ("InvalidCiphertextException", 400, ProviderDenied),
        ("NotFoundException", 400, ProviderDenied),
        ("ExpiredTokenException", 400, ProviderDenied),
        ("ThrottlingException", 400, ProviderUnavailable),
        ("KMSInternalException", 500, ProviderUnavailable),
        ("DependencyTimeoutException", 400, ProviderUnavailable),
        ("SomethingNew", 503, ProviderUnavailable),
        ("UnrecognizedClientException", 400, ProviderMisconfigured),
    ],
)
async def test_what_kms_answers_has_a_meaning(
    provider: AwsKmsProvider, code: str, status: int, meaning: type[ProviderError]
) -> None:
    wrapped = await provider.wrap(os.urandom(32), CONTEXT)
    watched(provider, fault(code, status))
    with pytest.raises(meaning) as caught:
        await provider.unwrap(*wrapped, CONTEXT)
    assert code in caught.value.public_text
    assert "something of" not in caught.value.public_text


async def test_throttled_once_is_tried_again(provider: AwsKmsProvider) -> None:
    wrapped = await provider.wrap(os.urandom(32), CONTEXT)
    left = [1]

    def sometimes(request: Any, **_: object) -> AWSResponse | None:
        if left[0] == 0:
            return None
        left[0] -= 1
        return fault("ThrottlingException")(request)

    watched(provider, sometimes)
    assert len(await provider.unwrap(*wrapped, CONTEXT)) == 32
    assert left == [0]


async def test_nobody_there_is_unavailable() -> None:
    provider = await AwsKmsProvider.open("awskms:alias/x?region=eu-central-1&endpoint=http://127.0.0.1:9", no_secrets, QUICK)
    with pytest.raises(ProviderUnavailable, match="does not answer"):
        await provider.version()
    await provider.close()


async def test_the_version_is_the_key_behind_an_alias(kms: tuple[str, Any]) -> None:
    endpoint, client = kms
    one, two = (client.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    client.create_alias(AliasName="alias/moves", TargetKeyId=one)
    provider = await AwsKmsProvider.open(f"awskms:alias/moves?region=eu-central-1&endpoint={endpoint}", no_secrets)
    assert (await provider.version()).partition("#")[0] == one
    client.update_alias(AliasName="alias/moves", TargetKeyId=two)
    assert (await provider.version()).partition("#")[0] == two
    assert provider.covers(f"awskms:{one}")
    await provider.close()


async def test_material_rotated_in_place_is_a_new_version(provider: AwsKmsProvider) -> None:
    def told(request: Any, **_: object) -> AWSResponse:
        metadata = {"Arn": "arn:aws:kms:eu-central-1:1:key/x", "KeyId": "x", "CurrentKeyMaterialId": "m2"}
        response = AWSResponse(request.url, 200, {}, None)
        response._content = json.dumps({"KeyMetadata": metadata}).encode()
        return response

    watched(provider, told)
    assert await provider.version() == "arn:aws:kms:eu-central-1:1:key/x#m2"


@pytest.mark.parametrize(
    "uri", ["awskms:key", "awskms:arn:aws:s3:eu:1:key/x", "awskms:arn:aws:kms:eu:1:grant/x", "awskms:arn:aws:kms"]
)
async def test_uris_that_name_no_key(uri: str) -> None:
    with pytest.raises(ProviderMisconfigured, match="write awskms"):
        await AwsKmsProvider.open(uri, no_secrets)


async def test_no_region_and_no_credentials_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(ProviderMisconfigured, match="region"):
        await AwsKmsProvider.open("awskms:alias/x", no_secrets)
    provider = await AwsKmsProvider.open("awskms:alias/x?region=eu-central-1&endpoint=http://127.0.0.1:9", no_secrets)
    with pytest.raises(ProviderMisconfigured, match="credentials"):
        await provider.version()
    await provider.close()
