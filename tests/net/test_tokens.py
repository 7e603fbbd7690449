"""Tokens of end users: by a key of the JWKS, for the audience, of now; and nothing else counts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from phiproxy.errors import ConfigError
from phiproxy.net.tokens import TokenRefused, TokenVerifier
from phiproxy.policy.access_model import Tokens

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
# The end of 2099: tokens that are made when tests are collected are used an hour later.
LATER = 4102444800
JWKS = {
    "keys": [
        {**json.loads(RSAAlgorithm.to_jwk(RSA.public_key())), "kid": "rsa", "use": "sig", "alg": "RS256"},
        {**json.loads(ECAlgorithm.to_jwk(EC.public_key())), "kid": "ec", "alg": "ES256"},
        {**json.loads(OKPAlgorithm.to_jwk(ED.public_key())), "kid": "ed", "alg": "EdDSA"},
    ]
}


def verifier(directory: Path, jwks: object = JWKS, **changes: Any) -> TokenVerifier:
    path = directory / "jwks.json"
    path.write_text(jwks if isinstance(jwks, str) else json.dumps(jwks))
    tokens = Tokens.model_validate({"jwks": str(path), "audience": "phi", "roles": "roles", **changes}, context={"base": directory})
    return TokenVerifier.read(tokens, "policy.yaml:3:4")


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **changes: Any) -> str:
    claims = {"sub": "jane", "aud": "phi", "exp": LATER, "roles": ["doctor", "nurse"], **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid is not None else {})


def test_each_kind_of_key(tmp_path: Path) -> None:
    own = verifier(tmp_path)
    for key, algorithm, kid in ((RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")):
        verified = own.verify(token(key, algorithm, kid, exp=time.time() + 3600))
        assert (verified.name, verified.roles) == ("jane", ("doctor", "nurse"))
        assert 3000 < verified.seconds <= 3600


PUBLIC = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


FIXED = token()


def confused() -> str:
    """Return a token whose symmetric signature is by the public key, as text."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"sub": "jane", "aud": "phi", "exp": LATER}
    body = b".".join(part(json.dumps(each).encode()) for each in ({"alg": "HS256", "kid": "rsa", "typ": "JWT"}, claims))
    return (body + b"." + part(hmac.digest(PUBLIC, body, hashlib.sha256))).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not verify"),
        ("dr.who", "does not verify"),
        (token(OTHER), "does not verify"),
        (token(kid="none"), "no key of its kid"),
        (token(kid=None), "no key of its kid"),
        (token(exp=time.time() - 1), "has expired"),
        (token(exp=None), "lacks exp or aud"),
        (token(aud=None), "lacks exp or aud"),
        (token(aud="other"), "for another audience"),
        (token(exp=LATER + 60, nbf=LATER), "not valid yet"),
        (token(sub=None), "claim sub is no name"),
        (token(sub=""), "claim sub is no name"),
        (token(roles={"a": 1}), "no list of roles"),
        (token(roles=["a", 1]), "no list of roles"),
        (token(algorithm="RS512"), "another algorithm"),
        (jwt.encode({"sub": "jane", "aud": "phi", "exp": LATER}, "", "none", headers={"kid": "rsa"}), "another algorithm"),
        (confused(), "another algorithm"),
        (token(roles=["x" * 20000]), "too long"),
    ],
)
def test_what_cannot_be_believed(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(TokenRefused, match=why) as refused:
        verifier(tmp_path).verify(text)
    assert text == "" or text not in str(refused.value)


def test_claims_may_be_elsewhere(tmp_path: Path) -> None:
    own = verifier(tmp_path, claim="email", roles="realm_access.roles", issuer="https://id")
    verified = own.verify(token(email="j@x", realm_access={"roles": "doctor"}, iss="https://id"))
    assert verified[:2] == ("j@x", ("doctor",))
    with pytest.raises(TokenRefused, match="another issuer"):
        own.verify(token(email="j@x", iss="https://other"))
    assert verifier(tmp_path, roles=None).verify(token()).roles == ()
    assert verifier(tmp_path).verify(token(roles=None)).roles == ()
    assert verifier(tmp_path, {"keys": JWKS["keys"][:1]}).verify(token(kid=None)).name == "jane"


@pytest.mark.parametrize(
    "jwks",
    [
        "", "{}", '{"keys": []}', "[1]", '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "x"}]}',
        json.dumps({"keys": [*JWKS["keys"], {"kty": "oct", "k": "c2VjcmV0", "kid": "x", "alg": "HS256"}]}),
        json.dumps({"keys": [JWKS["keys"][0], JWKS["keys"][0]]}),
        json.dumps({"keys": [{**JWKS["keys"][0], "use": "enc"}]}),
    ],
)  # fmt: skip
def test_files_without_keys_that_verify(tmp_path: Path, jwks: str) -> None:
    with pytest.raises(ConfigError, match=r"policy.yaml:3:4"):
        verifier(tmp_path, jwks)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    tokens = Tokens.model_validate({"jwks": str(tmp_path / "none"), "audience": "phi"}, context={"base": tmp_path})
    with pytest.raises(ConfigError, match="No such file"):
        TokenVerifier.read(tokens, "policy.yaml:3:4")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_no_changed_token_verifies(tmp_path: Path, data: st.DataObject) -> None:
    text = FIXED
    at = data.draw(st.integers(0, len(text) - 2))
    changed = text[:at] + data.draw(st.sampled_from("AZaz09-_.")) + text[at + 1 :]
    if changed == text:
        return
    with pytest.raises(TokenRefused):
        verifier(tmp_path).verify(changed)
