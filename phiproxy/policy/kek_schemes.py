"""The kinds of KEK: one row each. Settings and their JSON Schema, ``phiproxy.keys``, FIPS and error messages read this table.

A new kind is one file beside ``phiproxy.keys.local`` and one row here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class KekScheme:
    """One kind of KEK, whose URI is ``scheme:name?option=value&…``.

    ``provider`` is ``module:class``, imported when the scheme is used; ``extra`` the extra of pyproject.toml that brings its SDK.
    ``usage`` is how its URI is written, as messages show it. Of its ``options``, ``secrets`` are written ``env:NAME`` or
    ``file:/path``, and ``paths`` are paths; ``is_file``: so is the name itself, and the KEK is read there when it is opened.
    ``algorithm`` is what approves it by FIPS 140-3 (None: nothing does), unless an option is other than ``approved`` or rests on
    what is ``unapproved``.
    """

    provider: str
    usage: str
    options: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    is_file: bool = False
    extra: str | None = None
    algorithm: str | None = None
    approved: Mapping[str, str] = field(default_factory=dict)
    unapproved: Mapping[str, str] = field(default_factory=dict)


KEK_SCHEMES: Final[dict[str, KekScheme]] = {
    "local": KekScheme(
        provider="phiproxy.keys.local:LocalProvider",
        usage="local:PATH or local:PATH?passphrase=env:NAME (or file:/path)",
        options=("passphrase",),
        secrets=frozenset({"passphrase"}),
        is_file=True,
        algorithm="AES-256-GCM",
        unapproved={"passphrase": "Argon2id"},
    ),
    "awskms": KekScheme(
        provider="phiproxy.keys.awskms:AwsKmsProvider",
        usage="awskms:ARN or awskms:alias/NAME, with ?region=REGION&endpoint=URL where needed",
        options=("region", "endpoint"),
        extra="aws",
        algorithm="AES-256-GCM, in AWS KMS",
    ),
    "vault": KekScheme(
        provider="phiproxy.keys.vault:VaultProvider",
        usage="vault:MOUNT/KEY, with ?address=URL&auth=token|approle|kubernetes and that login's options where needed",
        options=("address", "namespace", "ca_file", "auth", "auth_mount", "token", "role_id", "secret_id", "role", "jwt"),
        secrets=frozenset({"token", "role_id", "secret_id"}),
        paths=frozenset({"ca_file", "jwt"}),
        extra="vault",
        algorithm="AES-256-GCM, in Vault",
    ),
    "pkcs11": KekScheme(
        provider="phiproxy.keys.pkcs11:Pkcs11Provider",
        usage="pkcs11:token=LABEL;object=LABEL[;id=%01][;type=secret-key|private]"
        "?module-path=PATH&pin-value=env:NAME[&oaep=sha256|sha1]",
        options=("module-path", "pin-value", "oaep"),
        secrets=frozenset({"pin-value"}),
        paths=frozenset({"module-path"}),
        extra="hsm",
        algorithm="AES-256-GCM or RSA-OAEP with SHA-256, in the token",
        approved={"oaep": "sha256"},
    ),
    "rsa": KekScheme(
        provider="phiproxy.keys.rsa:RsaProvider",
        usage="rsa:PUBLIC.pem, with ?private=PRIVATE.pem&passphrase=env:NAME&oaep=sha256 where needed",
        options=("private", "passphrase", "oaep"),
        secrets=frozenset({"passphrase"}),
        paths=frozenset({"private"}),
        is_file=True,
        algorithm="RSA-OAEP with SHA-256",
        approved={"oaep": "sha256"},
    ),
}
