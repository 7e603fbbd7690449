"""SCRAM-SHA-256 and -PLUS (RFC 5802, 7677, 5929), both ends, with no password: from a stored verifier, and with a ClientKey.

A client's proof, checked against the verifier, gives its ClientKey away to whoever checks it: with that one the proxy logs in to
the server in the client's name. SASLprep has no place here: passwords are prepared by the client. What is refused is said in
PostgreSQL's own words (auth-scram.c), so that a client cannot tell the difference.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

from phiproxy.errors import PhiproxyError

PLAIN = b"SCRAM-SHA-256"
PLUS = b"SCRAM-SHA-256-PLUS"
DEFAULT_ITERATIONS = 4096
_SALT = 16
_KEY = 32
_END_POINT = b"p=tls-server-end-point"
_VERIFIER = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{0,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)", re.ASCII)


class LoginRefused(PhiproxyError, anchor="err-authentication"):
    """A login that PostgreSQL would refuse: its words, without ours around them."""

    def __init__(self, message: str, detail: str | None = None) -> None:
        super().__init__(message)
        self.detail = detail
        self.why = message
        """For the operator alone: whoever tries passwords must not learn which roles there are."""

    @property
    def public_text(self) -> str:
        """The server's text, exactly."""
        return self.message


class MalformedLogin(LoginRefused, sqlstate="08P01"):
    """A message that is not of the exchange (08P01)."""


class BindingRefused(LoginRefused, sqlstate="28000"):
    """The channel is not the one that the client saw (28000)."""


class UnsupportedLogin(LoginRefused, sqlstate="0A000"):
    """A part of the RFCs that PostgreSQL has not (0A000)."""


class PasswordRefused(LoginRefused, sqlstate="28P01"):
    """The proof is not that of the verifier, or there is none (28P01)."""


@dataclass(frozen=True, slots=True, repr=False)
class Verifier:
    """What a server stores of a password; no ``repr``, since whoever has it can pass for the server."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    @classmethod
    def parse(cls, text: str) -> Verifier | None:
        """Read ``SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey``; None for anything else, an MD5 hash say."""
        match = _VERIFIER.fullmatch(text)
        if match is None:
            return None
        try:
            salt, stored_key, server_key = (b64decode(part, validate=True) for part in match.groups()[1:])
        except binascii.Error:
            return None
        iterations = int(match[1])
        if len(stored_key) != _KEY or len(server_key) != _KEY or not salt or iterations > 0x7FFFFFFF:
            return None
        return cls(iterations, salt, stored_key, server_key)

    @classmethod
    def mock(cls, role: bytes, secret: bytes, iterations: int = DEFAULT_ITERATIONS) -> Verifier:
        """Return what stands in for a role that has none: always the same salt, and no password that fits."""
        salt = hmac.digest(secret, b"salt\0" + role, "sha256")[:_SALT]
        return cls(iterations, salt, os.urandom(_KEY), os.urandom(_KEY))


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What a client's proof has shown: enough to log in as it, and to know the server."""

    client_key: bytes
    server_key: bytes


class ScramServer:
    """The server's end. ``mechanism`` is what the client chose; ``binding`` our certificate's hash where ``-PLUS`` was offered.

    ``doomed`` goes through the same motions and refuses at their end.
    """

    def __init__(
        self, verifier: Verifier, mechanism: bytes, binding: bytes | None, *, doomed: bool = False, nonce: bytes | None = None
    ) -> None:
        offered = (PLAIN,) if binding is None else (PLUS, PLAIN)
        if mechanism not in offered:
            raise MalformedLogin("client selected an invalid SASL authentication mechanism")
        self._verifier = verifier
        self._bound = mechanism == PLUS
        self._binding = binding
        self._doomed = doomed
        self._own_nonce = nonce if nonce is not None else b64encode(os.urandom(18))
        self._flag = b""
        self._nonce = b""
        self._said = b""

    def first(self, message: bytes) -> bytes:
        """Take the client-first-message and return the server-first-message."""
        bare = self._after_header(message)
        if bare.startswith(b"m="):
            raise UnsupportedLogin("client requires an unsupported SCRAM extension")
        attributes = bare.split(b",")
        _attribute(attributes, 0, b"n")
        nonce = _attribute(attributes, 1, b"r")
        for extension in attributes[2:]:
            _check_attribute(extension)
        if not all(0x21 <= c <= 0x7E for c in nonce) or not nonce:
            raise MalformedLogin("non-printable characters in SCRAM nonce")
        self._nonce = nonce + self._own_nonce
        reply = b"r=%s,s=%s,i=%d" % (self._nonce, b64encode(self._verifier.salt), self._verifier.iterations)
        self._said = bare + b"," + reply
        return reply

    def _after_header(self, message: bytes) -> bytes:
        """Check the GS2 header and return what is behind it."""
        flag, comma, rest = message.partition(b",")
        if flag[:1] == b"p":
            if not self._bound:
                raise _malformed(
                    "The client selected SCRAM-SHA-256 without channel binding, "
                    "but the SCRAM message includes channel binding data."
                )
            if flag != _END_POINT:
                shown = flag[2:].decode("ascii", "replace")
                raise MalformedLogin(f'unsupported SCRAM channel-binding type "{shown}"')
        elif flag in (b"n", b"y"):
            if self._bound:
                raise _malformed(
                    "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data."
                )
            if flag == b"y" and self._binding is not None:
                raise BindingRefused(
                    "SCRAM channel binding negotiation error",
                    "The client supports SCRAM channel binding but thinks the server does not.  "
                    "However, this server does support channel binding.",
                )
        else:
            raise _malformed("Unexpected channel-binding flag.")
        identity, second, bare = rest.partition(b",")
        if identity.startswith(b"a="):
            raise UnsupportedLogin("client uses authorization identity, but it is not supported")
        if not comma or not second or identity:
            raise _malformed("Unexpected attribute in client-first-message.")
        self._flag = flag
        return bare

    def final(self, message: bytes, role: str) -> tuple[bytes, Credentials]:
        """Take the client-final-message; return the server-final-message and what the client has shown."""
        without_proof, mark, encoded = message.rpartition(b",p=")
        attributes = without_proof.split(b",")
        binding = _attribute(attributes, 0, b"c")
        nonce = _attribute(attributes, 1, b"r")
        for extension in attributes[2:]:
            _check_attribute(extension)
        if not mark:
            raise _malformed("Attribute expected in client-final-message.")
        self._check_binding(binding)
        proof = _decoded(encoded)
        if proof is None or len(proof) != _KEY:
            raise _malformed("Malformed proof in client-final-message.")
        if not hmac.compare_digest(nonce, self._nonce):
            raise MalformedLogin("invalid SCRAM response", "Nonce does not match.")
        signed = self._said + b"," + without_proof
        client_key = _xor(proof, hmac.digest(self._verifier.stored_key, signed, "sha256"))
        fits = hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key)
        signature = hmac.digest(self._verifier.server_key, signed, "sha256")
        if not fits or self._doomed:
            raise PasswordRefused(f'password authentication failed for user "{role}"')
        return b"v=" + b64encode(signature), Credentials(client_key, self._verifier.server_key)

    def _check_binding(self, said: bytes) -> None:
        header = self._flag + b",,"
        if self._bound:
            assert self._binding is not None
            if not hmac.compare_digest(said, b64encode(header + self._binding)):
                raise BindingRefused("SCRAM channel binding check failed")
        elif said != b64encode(header):
            raise MalformedLogin("unexpected SCRAM channel-binding attribute in client-final-message")


class ScramClient:
    """The client's end with a ClientKey: ``offered`` are the server's mechanisms, ``binding`` its certificate's hash or None."""

    def __init__(
        self, credentials: Credentials, offered: list[bytes], binding: bytes | None, *, nonce: bytes | None = None
    ) -> None:
        self._credentials = credentials
        if binding is not None and PLUS in offered:
            self.mechanism, self._header, self._data = PLUS, _END_POINT + b",,", binding
        else:
            # "y" says: I could, and you did not offer it. To a server that did it would be a downgrade (RFC 5802, 6).
            self.mechanism, self._header, self._data = PLAIN, b"n,," if PLUS in offered or binding is None else b"y,,", b""
        self._bare = b"n=,r=" + (nonce if nonce is not None else b64encode(os.urandom(18)))
        self._signed = b""

    def first(self) -> bytes:
        """Return the client-first-message; the role is named by the StartupMessage, as with libpq."""
        return self._header + self._bare

    def final(self, server_first: bytes) -> bytes:
        """Answer the server-first-message. Salt and iterations are the verifier's, so there is nothing to do with them."""
        nonce = _attribute(server_first.split(b","), 0, b"r")
        own = self._bare.partition(b"r=")[2]
        if not nonce.startswith(own) or len(nonce) == len(own):
            raise MalformedLogin("invalid SCRAM response", "Nonce does not match.")
        without_proof = b"c=" + b64encode(self._header + self._data) + b",r=" + nonce
        self._signed = self._bare + b"," + server_first + b"," + without_proof
        key = self._credentials.client_key
        proof = _xor(key, hmac.digest(hashlib.sha256(key).digest(), self._signed, "sha256"))
        return without_proof + b",p=" + b64encode(proof)

    def accepts(self, server_final: bytes) -> bool:
        """Tell whether the server has shown that it knows the verifier too."""
        signature = b"v=" + b64encode(hmac.digest(self._credentials.server_key, self._signed, "sha256"))
        return bool(self._signed) and hmac.compare_digest(server_final.partition(b",")[0], signature)


def _malformed(detail: str) -> MalformedLogin:
    return MalformedLogin("malformed SCRAM message", detail)


def _check_attribute(attribute: bytes) -> None:
    if not re.match(rb"[A-Za-z]=", attribute):
        raise _malformed("Attribute expected, but found invalid character.")


def _attribute(attributes: list[bytes], index: int, name: bytes) -> bytes:
    """Return the value of the attribute that must stand at a place."""
    if index >= len(attributes) or not attributes[index].startswith(name + b"="):
        raise _malformed(f'Expected attribute "{name.decode()}".')
    return attributes[index][2:]


def _decoded(encoded: bytes) -> bytes | None:
    try:
        return b64decode(encoded, validate=True)
    except binascii.Error:
        return None


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
