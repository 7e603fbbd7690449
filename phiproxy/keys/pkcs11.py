"""An HSM: ``pkcs11:token=LABEL;object=LABEL[;id=%01][;type=secret-key|private]?module-path=PATH&pin-value=env:NAME[&oaep=sha256]``.

RFC 7512; path attributes are percent-decoded. Set-up and rotation are in docs/keys/pkcs11.md, blobs and KEK versions in
spec/stored-format 3.2. The key never leaves the token (make it CKA_SENSITIVE, not CKA_EXTRACTABLE). The public half of a
``type=private`` key is an object of the same label and id. Where several keys share the label, ``id`` says which one wraps, and a
wrap is opened by the object of its own version.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Self, TypeVar
from urllib.parse import unquote, unquote_to_bytes

import pkcs11
from pkcs11 import MGF, Attribute, GCMParams, KeyType, Mechanism, ObjectClass
from pkcs11 import exceptions as answers

from phiproxy.crypto.envelope import GCM_TAG_LENGTH, NONCE_LENGTH
from phiproxy.crypto.key_derivation import KEY_LENGTH
from phiproxy.errors import ProviderDenied, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.parsed_kek_uri import parse_kek_uri
from phiproxy.keys.provider import Context, SecretReader, Wrapped, WrapsHere
from phiproxy.keys.remote import CallLimits, Remote
from phiproxy.keys.rsa import bound, unbound

_OAEP: Final = {"sha256": (Mechanism.SHA256, MGF.SHA256, None), "sha1": (Mechanism.SHA_1, MGF.SHA1, None)}
_NOT_THIS_DATA: Final = (
    answers.GeneralError, answers.FunctionFailed, answers.EncryptedDataInvalid, answers.EncryptedDataLenRange,
    answers.DataInvalid, answers.DataLenRange, answers.ArgumentsBad,
)  # fmt: skip
_WRONG_PIN: Final = (
    answers.PinIncorrect, answers.PinInvalid, answers.PinLenRange, answers.PinLocked, answers.UserPinNotInitialized,
)  # fmt: skip
T = TypeVar("T")


class Pkcs11Provider(WrapsHere):
    """A key in a token. One session, used by one thread at a time; lost sessions are opened anew."""

    def __init__(self, name: str, attributes: dict[str, str], pin: str, module: str, oaep: Any, limits: CallLimits | None) -> None:
        super().__init__(name)
        self._token = unquote(attributes["token"])
        self._label = unquote(attributes["object"])
        self._id = unquote_to_bytes(attributes["id"]) if "id" in attributes else None
        self._rsa = attributes.get("type") == "private"
        self._kind = ObjectClass.PRIVATE_KEY if self._rsa else ObjectClass.SECRET_KEY
        self.authenticates = not self._rsa
        self._pin = pin
        self._module = module
        self._oaep = oaep
        self._session: Any = None
        self._keys: dict[tuple[ObjectClass, bytes | None], Any] = {}
        # PKCS#11 allows one operation of a kind at a time in a session (version 3.0, section 5.1.3).
        self._remote = Remote("the HSM", replace(limits or CallLimits(), threads=1))

    @classmethod
    async def open(cls, uri: str, secrets: SecretReader, limits: CallLimits | None = None) -> Self:
        """Log in and find the key.

        Raises ProviderMisconfigured for a wrong URI, module, token, PIN, or an object that is not there, not unique, or no such
        key; ProviderUnavailable when the token does not answer.
        """
        parsed = parse_kek_uri(uri, secrets)
        pairs = [part.partition("=") for part in parsed.rest.split(";")]
        attributes = {name: value for name, _, value in pairs}
        allowed = {"token", "object", "id", "type"}
        if (
            len(attributes) != len(pairs)
            or not set(attributes) <= allowed
            or not attributes.get("token")
            or not attributes.get("object")
            or attributes.get("type", "secret-key") not in ("secret-key", "private")
            or parsed.options.get("oaep", "sha256") not in _OAEP
            or not {"module-path", "pin-value"} <= set(parsed.options)
        ):
            raise parsed.misused()
        pin = parsed.secret("pin-value")
        assert pin is not None
        oaep = _OAEP[parsed.options.get("oaep", "sha256")]
        provider = cls(parsed.name, attributes, pin, parsed.options["module-path"], oaep, limits)
        try:
            await provider.version()
        except BaseException:
            await provider.close()
            raise
        return provider

    def covers(self, kek_uri: str) -> bool:
        """Say yes to wraps under objects of the same token: the version says which of them."""
        return kek_uri.startswith("pkcs11:") and f"token={self.uri.partition('token=')[2].partition(';')[0]}" in kek_uri

    async def version(self) -> str:
        """Return the CKA_ID of the key that wraps, in hexadecimal."""
        return await self._run(lambda: str(self._wrapping_id().hex()))

    async def wrap(self, root: bytes, context: Context) -> Wrapped:
        """Encrypt inside the token."""
        if len(root) != KEY_LENGTH:
            raise ValueError("a root key is not 32 bytes")
        return await self._run(lambda: self._wrap(root, context))

    async def unwrap(self, blob: bytes, version: str, context: Context) -> bytes:
        """Decrypt inside the token; ProviderDenied when that version's key is gone, or the blob is not of it."""
        try:
            key_id = bytes.fromhex(version)
        except ValueError:
            raise ProviderDenied("a root key is wrapped under a version that is no CKA_ID") from None
        return await self._run(lambda: self._unwrap(blob, key_id, context))

    async def close(self) -> None:
        """Close the session and forget the PIN."""
        session, self._session, self._pin = self._session, None, ""
        self._keys.clear()
        if session is not None:
            with suppress(answers.PKCS11Error):  # the token is gone, and the session with it
                session.close()
        self._remote.close()

    # -- on the provider's thread ------------------------------------------------------------------------------------------

    def _wrap(self, root: bytes, context: Context) -> Wrapped:
        key_id = self._wrapping_id()
        if self._rsa:
            public = self._key(ObjectClass.PUBLIC_KEY, key_id)
            blob = public.encrypt(bound(root, context), mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=self._oaep)
            return Wrapped(bytes(blob), key_id.hex())
        nonce = os.urandom(NONCE_LENGTH)
        key = self._key(ObjectClass.SECRET_KEY, key_id)
        return Wrapped(nonce + bytes(key.encrypt(root, **_gcm(nonce, context))), key_id.hex())

    def _unwrap(self, blob: bytes, key_id: bytes, context: Context) -> bytes:
        """Decrypt; tokens answer a wrong tag with an error that may mean anything, so then a value of our own is tried."""
        if not self._rsa and len(blob) != NONCE_LENGTH + KEY_LENGTH + GCM_TAG_LENGTH:
            raise ProviderDenied("a wrapped root key in the registry does not have the length of an HSM wrap")
        key = self._key(self._kind, key_id)
        try:
            plain = self._decrypt(key, blob, context)
        except _NOT_THIS_DATA:
            # Raises PKCS11Error where the token does not even open what it has just made.
            probe = Context("", "", "", "audit", 0)
            wrapped = self._wrap(b"\0" * KEY_LENGTH, probe)
            self._decrypt(self._key(self._kind, bytes.fromhex(wrapped.version)), wrapped.blob, probe)
            raise ProviderDenied(f"the HSM's key does not open a root key of {context.scope}") from None
        return unbound(plain, context) if self._rsa else plain

    def _decrypt(self, key: Any, blob: bytes, context: Context) -> bytes:
        if self._rsa:
            return bytes(key.decrypt(blob, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=self._oaep))
        return bytes(key.decrypt(blob[NONCE_LENGTH:], **_gcm(blob[:NONCE_LENGTH], context)))

    def _wrapping_id(self) -> bytes:
        found = self._key(self._kind, self._id)
        key_id = bytes(found[Attribute.ID])
        if not key_id:
            raise ProviderMisconfigured(f"the object {self._label} has no CKA_ID, which is the KEK's version")
        return key_id

    def _key(self, kind: ObjectClass, key_id: bytes | None) -> Any:
        key = self._keys.get((kind, key_id))
        if key is None:
            key = self._keys[kind, key_id] = self._find(kind, key_id)
        return key

    def _find(self, kind: ObjectClass, key_id: bytes | None) -> Any:
        wanted: dict[Attribute, Any] = {
            Attribute.CLASS: kind,
            Attribute.KEY_TYPE: KeyType.RSA if self._rsa else KeyType.AES,
            Attribute.LABEL: self._label,
        }
        if key_id is not None:
            wanted[Attribute.ID] = key_id
        # All of them: a search that is not read to its end stays open in the session.
        objects = list(self._opened().get_objects(wanted))
        if len(objects) > 1:
            raise ProviderMisconfigured(f"the token holds several objects {self._label}: say which with ;id=%XX")
        if not objects:
            which = f"object {self._label} of the KEK's kind"
            if key_id is not None and key_id != self._id:
                raise ProviderDenied(f"the token holds no {which} with the id that a root key is wrapped under")
            raise ProviderMisconfigured(f"the token holds no {which}")
        return objects[0]

    def _opened(self) -> Any:
        if self._session is None:
            token = self._loaded().get_token(token_label=self._token)
            try:
                self._session = token.open(user_pin=self._pin)
            except answers.UserAlreadyLoggedIn:  # a login holds for every session of the process
                self._session = token.open()
        return self._session

    def _loaded(self) -> Any:
        try:
            return pkcs11.lib(self._module)
        except (RuntimeError, OSError):
            raise ProviderMisconfigured(f"the PKCS#11 module {self._module} cannot be loaded") from None

    async def _run(self, function: Callable[[], T]) -> T:
        def run() -> T:
            try:
                return function()
            except (answers.NoSuchToken, answers.MultipleTokensReturned):
                raise ProviderMisconfigured(f"there is no token {self._token}, or more than one") from None
            except _WRONG_PIN as error:
                # One wrong PIN must not become three: tokens lock themselves.
                raise ProviderMisconfigured(f"the token {self._token} does not accept the PIN ({type(error).__name__})") from None
            except (answers.MechanismInvalid, answers.MechanismParamInvalid) as error:
                raise ProviderMisconfigured(f"the token does not know the mechanism ({type(error).__name__})") from None
            except answers.PKCS11Error as error:
                self._session = None
                self._keys.clear()
                raise ProviderUnavailable(f"the HSM does not answer ({type(error).__name__})") from None

        return await self._remote.call(run)


def _gcm(nonce: bytes, context: Context) -> dict[str, Any]:
    parameters = GCMParams(nonce, context.encode(), GCM_TAG_LENGTH * 8)
    return {"mechanism": Mechanism.AES_GCM, "mechanism_param": parameters}
