"""KEK URIs in parts."""

from __future__ import annotations

import pytest

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.parsed_kek_uri import parse_kek_uri


def secrets(reference: str) -> str:
    return f"what {reference} says"


def test_parts_and_secrets() -> None:
    uri = parse_kek_uri("vault:transit/phi?address=http://h:1&token=env:T", secrets)
    assert (uri.scheme, uri.rest, uri.name) == ("vault", "transit/phi", "vault:transit/phi")
    assert uri.options["address"] == "http://h:1"
    assert uri.secret("token") == "what env:T says"
    assert uri.secret("other") is None
    assert "env:T" not in repr(uri)


@pytest.mark.parametrize("tail", ["", "?oaep=sha1", "x?", "x?other=1", "x?oaep=", "x?oaep=sha1&oaep=sha1"])
def test_what_is_not_a_uri_is_said_by_its_grammar(tail: str) -> None:
    with pytest.raises(ProviderMisconfigured, match=r"write rsa:PUBLIC\.pem, with "):
        parse_kek_uri(f"rsa:{tail}", secrets)


def test_a_secret_in_the_uri_is_refused_and_not_repeated() -> None:
    uri = parse_kek_uri("rsa:x?passphrase=hunter2", secrets)
    with pytest.raises(ProviderMisconfigured, match="never the secret itself") as caught:
        uri.secret("passphrase")
    assert "hunter2" not in caught.value.public_text
