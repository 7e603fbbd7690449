"""Vault or OpenBao transit: ``vault:MOUNT/KEY``. The set-up, the token's policy and the login are in docs/keys/vault.md.

The key must be derived, so that every wrap is bound to its context (spec/stored-format 3.2). The namespace is VAULT_NAMESPACE or
``?namespace=NAME``, a private CA VAULT_CACERT or ``?ca_file=PATH``. Extra: ``phiproxy[vault]``. API: Transit secrets engine (HTTP).
"""

import asyncio
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self, TypeVar

import hvac
from hvac import exceptions as answers
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, RequestException

from phiproxy.errors import PhiproxyError, ProviderDenied, ProviderError, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.parsed_kek_uri import parse_kek_uri
from phiproxy.keys.provider import Context, NamedProvider, NewKey, SecretReader, Wrapped
from phiproxy.keys.remote import CallLimits, Remote
from phiproxy.keys.vault_login import Login, credentials

# A login that fails while the token still lives is tried again after this long (seconds), and never in a tight loop.
RENEW_AGAIN: Final = 5.0
T = TypeVar("T")


class VaultProvider(NamedProvider):
    """A derived transit key."""

    def __init__(self, uri: str, mount: str, key: str, client: Any, login: Login, remote: Remote) -> None:
        super().__init__(uri)
        self._mount = mount
        self._key = key
        self._client = client
        self._login = login
        self._remote = remote
        self._renewing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, uri: str, secrets: SecretReader, limits: CallLimits | None = None) -> Self:
        """Log in and look at the key.

        Raises ProviderMisconfigured for a wrong URI or address, a key that is not there or not derived; ProviderDenied when the
        login or the key is refused; ProviderUnavailable when Vault does not answer.
        """
        parsed = parse_kek_uri(uri, secrets)
        mount, _, key = parsed.rest.rpartition("/")
        address = parsed.options.get("address") or os.environ.get("VAULT_ADDR", "")
        if not mount or not key:
            raise parsed.misused()
        if not address:
            raise ProviderMisconfigured("keys.kek: vault needs VAULT_ADDR in the environment, or address=URL")
        remote = Remote("Vault", limits)
        client = hvac.Client(
            url=address,
            token="",
            namespace=parsed.options.get("namespace") or os.environ.get("VAULT_NAMESPACE"),
            verify=parsed.options.get("ca_file") or os.environ.get("VAULT_CACERT") or True,
            timeout=(remote.limits.connect, remote.limits.read),
        )
        provider = cls(parsed.name, mount, key, client, Login(client, credentials(parsed)), remote)
        try:
            await provider.version()
        except BaseException:
            await provider.close()
            raise
        provider._renewing = asyncio.get_running_loop().create_task(provider._keep_renewed(), name="vault token")
        return provider

    def covers(self, kek_uri: str) -> bool:
        """Say yes to wraps under this very key: another one is another provider's."""
        return kek_uri == self.uri

    async def version(self) -> str:
        """Return the key's latest version, in decimal; a rotation in place is seen here."""
        return str((await self._described())["latest_version"])

    async def raise_min_decryption_version(self, version: int) -> None:
        """Have Vault decrypt nothing older than ``version``; whoever calls this has made sure that nothing older is in use."""
        await self._call("update_key_configuration", min_decryption_version=version)

    async def new_key(self, context: Context) -> NewKey:
        """datakey/plaintext: the root key is of Vault's randomness."""
        told = await self._call("generate_data_key", key_type="plaintext", context=_b64(context.encode()), bits=256)
        return NewKey(b64decode(told["data"]["plaintext"]), _wrapped(told["data"]["ciphertext"]))

    async def wrap(self, root: bytes, context: Context) -> Wrapped:
        """Encrypt under the latest version."""
        told = await self._call("encrypt_data", plaintext=_b64(root), context=_b64(context.encode()))
        return _wrapped(told["data"]["ciphertext"])

    async def unwrap(self, blob: bytes, version: str, context: Context) -> bytes:
        """Decrypt; ProviderDenied for another key, version or context, and for a version below min_decryption_version."""
        told = await self._call("decrypt_data", ciphertext=_ciphertext(blob, version), context=_b64(context.encode()))
        return b64decode(told["data"]["plaintext"])

    async def rewrap(self, blob: bytes, version: str, context: Context) -> Wrapped:
        """Rewrap: the root key does not leave Vault."""
        told = await self._call("rewrap_data", ciphertext=_ciphertext(blob, version), context=_b64(context.encode()))
        return _wrapped(told["data"]["ciphertext"])

    async def close(self) -> None:
        """Stop renewing and forget the token; it is left to expire, since others may share it."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        self._client.token = ""
        self._remote.close()

    async def _described(self) -> dict[str, Any]:
        described: dict[str, Any] = (await self._call("read_key"))["data"]
        if not described.get("derived") or described.get("type") != "aes256-gcm96":
            raise ProviderMisconfigured(f"{self.uri} is not a derived key of type aes256-gcm96")
        return described

    async def _call(self, operation: str, **parameters: Any) -> Any:
        def call() -> Any:
            return getattr(self._client.secrets.transit, operation)(name=self._key, mount_point=self._mount, **parameters)

        return await self._remote.call(lambda: self._under_login(call))

    def _under_login(self, operation: Callable[[], T]) -> T:
        """Run one call under a token; where it is forbidden, once more under a new one."""
        with _answers(self.uri):
            token = self._login.ensure()
            try:
                return operation()
            except answers.Forbidden:
                if not self._login.again(token):
                    raise
                return operation()

    async def _keep_renewed(self) -> None:
        while True:
            wait = self._login.renew_in()
            # A token that does not expire is looked at now and then: another login may have replaced it.
            await asyncio.sleep(60.0 if wait is None else wait)
            if wait is None:
                continue
            try:
                await self._remote.call(self._renew)
            except PhiproxyError:
                await asyncio.sleep(RENEW_AGAIN)

    def _renew(self) -> None:
        with _answers(self.uri):
            self._login.renew()


@contextmanager
def _answers(name: str) -> Iterator[None]:
    """Raise what Vault's errors mean; their texts are left out where they are not constants of Vault."""
    try:
        yield
    except (answers.VaultError, RequestException) as error:
        raise _meaning(error, name) from None


def _meaning(error: Exception, name: str) -> ProviderError:
    if isinstance(error, (MissingSchema, InvalidSchema, InvalidURL)):
        return ProviderMisconfigured("keys.kek: the address of Vault is not a URL")
    if isinstance(error, (answers.Forbidden, answers.Unauthorized)):
        return ProviderDenied(f"Vault denies the use of {name}, or the login")
    if isinstance(error, answers.InvalidPath):
        return ProviderMisconfigured(f"Vault knows no {name}")
    if isinstance(error, answers.InvalidRequest):
        return ProviderDenied(f"Vault does not do this with {name}: a wrong version, context or login")
    return ProviderUnavailable(f"Vault does not answer ({type(error).__name__})")


def _b64(data: bytes) -> str:
    return b64encode(data).decode()


def _wrapped(ciphertext: str) -> Wrapped:
    return Wrapped(ciphertext.encode(), ciphertext.split(":")[1].removeprefix("v"))


def _ciphertext(blob: bytes, version: str) -> str:
    """Return Vault's form of a wrap; ProviderDenied when it is not one of this version."""
    if not blob.startswith(b"vault:v%s:" % version.encode()) or not blob.isascii():
        raise ProviderDenied("a wrapped root key in the registry is not one of the Vault key version that it names")
    return blob.decode()
