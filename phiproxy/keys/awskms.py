"""AWS KMS: ``awskms:ARN`` or ``awskms:alias/NAME``, with ``?region=…&endpoint=…`` where the ARN does not say (docs/keys/aws.md).

The KEK version is the key's ARN, with the id of its key material where KMS tells it (spec/stored-format 3.2): an alias that points
elsewhere, and a rotation of the key in place, are both new versions. API: AWS Key Management Service API Reference.
"""

from typing import Any, Final, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, PartialCredentialsError

from phiproxy.errors import ProviderDenied, ProviderError, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.parsed_kek_uri import parse_kek_uri
from phiproxy.keys.provider import Context, NamedProvider, NewKey, SecretReader, Wrapped
from phiproxy.keys.remote import CallLimits, Remote

# Errors of the API Reference after which another try may succeed; every other code is a final no, or a wrong set-up.
_UNAVAILABLE: Final = frozenset(
    {
        "DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException", "LimitExceededException",
        "ThrottlingException", "Throttling", "RequestLimitExceeded", "ServiceUnavailable", "ServiceUnavailableException",
        "InternalFailure", "InternalError", "RequestTimeout", "RequestTimeoutException", "XksProxyUnreachableException",
        "CloudHsmClusterInvalidConfigurationException", "CustomKeyStoreInvalidStateException",
    }
)  # fmt: skip
_MISCONFIGURED: Final = frozenset(
    {
        "InvalidArnException", "InvalidKeyUsageException", "MissingAuthenticationToken", "SignatureDoesNotMatch",
        "UnrecognizedClientException", "InvalidClientTokenId", "ValidationException", "UnsupportedOperationException",
    }
)  # fmt: skip


class AwsKmsProvider(NamedProvider):
    """A KMS key. ``unwrap`` names the key that the wrap's version says, so a blob cannot choose its own."""

    def __init__(self, uri: str, key: str, client: Any, remote: Remote) -> None:
        super().__init__(uri)
        self._key = key
        self._client = client
        self._remote = remote

    @classmethod
    async def open(cls, uri: str, secrets: SecretReader, limits: CallLimits | None = None) -> Self:
        """Make the client; KMS is asked by the first call. ProviderMisconfigured for a wrong URI or no region."""
        parsed = parse_kek_uri(uri, secrets)
        arn = parsed.rest.split(":")
        if parsed.rest.startswith("arn:"):
            if len(arn) != 6 or arn[2] != "kms" or not arn[5].startswith(("key/", "alias/")):
                raise parsed.misused()
        elif not parsed.rest.startswith("alias/"):
            raise parsed.misused()
        region = parsed.options.get("region") or (arn[3] if len(arn) == 6 else None)
        remote = Remote("AWS KMS", limits)
        config = Config(
            connect_timeout=remote.limits.connect,
            read_timeout=remote.limits.read,
            retries={"total_max_attempts": 1},  # ours are counted by the breaker and end before the deadline
            max_pool_connections=remote.limits.threads,
        )
        try:
            client = await remote.call(
                lambda: boto3.session.Session().client(
                    "kms", region_name=region, endpoint_url=parsed.options.get("endpoint"), config=config
                )
            )
        except (NoRegionError, ValueError):
            raise ProviderMisconfigured("keys.kek: AWS KMS needs a region, and a URL as endpoint where one is given") from None
        return cls(parsed.name, parsed.rest, client, remote)

    async def version(self) -> str:
        """Return the ARN of the key, with the id of its current material where KMS tells it."""
        told = (await self._call("describe_key", KeyId=self._key))["KeyMetadata"]
        return _version(str(told["Arn"]), told.get("CurrentKeyMaterialId"))

    async def new_key(self, context: Context) -> NewKey:
        """GenerateDataKey: the root key is of KMS's randomness."""
        told = await self._call("generate_data_key", KeyId=self._key, KeySpec="AES_256", EncryptionContext=_context(context))
        return NewKey(told["Plaintext"], Wrapped(told["CiphertextBlob"], _version(told["KeyId"], told.get("KeyMaterialId"))))

    async def wrap(self, root: bytes, context: Context) -> Wrapped:
        """Encrypt. KMS does not say the material's id here, so the version is asked for beside it."""
        told = await self._call("encrypt", KeyId=self._key, Plaintext=root, EncryptionContext=_context(context))
        version = await self.version()
        if version.partition("#")[0] != told["KeyId"]:
            raise ProviderUnavailable("AWS KMS: the alias was pointed at another key at this very moment")
        return Wrapped(told["CiphertextBlob"], version)

    async def unwrap(self, blob: bytes, version: str, context: Context) -> bytes:
        """Decrypt under the key of this version; ProviderDenied when it is disabled, pending deletion, or not this blob's."""
        arn = version.partition("#")[0]
        told = await self._call("decrypt", KeyId=arn, CiphertextBlob=blob, EncryptionContext=_context(context))
        plaintext: bytes = told["Plaintext"]
        return plaintext

    async def rewrap(self, blob: bytes, version: str, context: Context) -> Wrapped:
        """ReEncrypt: the root key does not leave KMS."""
        told = await self._call(
            "re_encrypt",
            SourceKeyId=version.partition("#")[0],
            DestinationKeyId=self._key,
            CiphertextBlob=blob,
            SourceEncryptionContext=_context(context),
            DestinationEncryptionContext=_context(context),
        )
        return Wrapped(told["CiphertextBlob"], _version(told["KeyId"], told.get("DestinationKeyMaterialId")))

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._remote.close()

    async def _call(self, operation: str, **parameters: Any) -> Any:
        def call() -> Any:
            try:
                return getattr(self._client, operation)(**parameters)
            except ClientError as error:
                raise _error_of(error.response, operation) from None
            except (NoCredentialsError, PartialCredentialsError):
                raise ProviderMisconfigured("AWS KMS: boto3 finds no credentials") from None
            except BotoCoreError as error:
                raise ProviderUnavailable(f"AWS KMS does not answer ({type(error).__name__})") from None

        return await self._remote.call(call)


def _context(context: Context) -> dict[str, str]:
    """Return the EncryptionContext (spec/stored-format 3.2); KMS allows no empty value."""
    named = {
        "phiproxy:deployment": context.deployment,
        "phiproxy:scope": context.scope,
        "phiproxy:tenant": context.tenant,
        "phiproxy:purpose": context.purpose,
        "phiproxy:generation": str(context.generation),
    }
    return {name: value for name, value in named.items() if value}


def _version(arn: str, material: str | None) -> str:
    return f"{arn}#{material}" if material else arn


def _error_of(response: Any, operation: str) -> ProviderError:
    """Return what a KMS error means; its message is left out, since it repeats what was sent."""
    code = str(response.get("Error", {}).get("Code", "unknown"))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"AWS KMS answers {code} to {operation}"
    if code in _UNAVAILABLE or status >= 500:
        return ProviderUnavailable(text)
    if code in _MISCONFIGURED:
        return ProviderMisconfigured(text)
    return ProviderDenied(text)
