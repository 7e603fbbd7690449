"""The scalar values of the configuration file."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from phiproxy.errors import ConfigError
from phiproxy.policy.setting_values import (
    Address,
    Addresses,
    AddressValue,
    Duration,
    FilePath,
    Secret,
    SecretValue,
    Size,
    read_secret,
)


def read(kind: Any, value: object) -> object:
    return TypeAdapter(kind).validate_python(value, context={"base": Path("/base")})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("90d", 7776000.0), ("15m", 900.0), ("0s", 0.0), ("500ms", 0.5), ("12h", 43200.0), ("1.5s", 1.5)],
)
def test_duration(text: str, seconds: float) -> None:
    assert read(Duration, text) == seconds


@pytest.mark.parametrize("value", ["30", 30, "30 s", "-1s", "s", "1w", None])
def test_not_a_duration(value: object) -> None:
    with pytest.raises(ValidationError, match="a number with its unit"):
        read(Duration, value)


@pytest.mark.parametrize(("text", "size"), [("64MiB", 1 << 26), ("1GiB", 1 << 30), ("512KiB", 1 << 19), ("9B", 9)])
def test_size(text: str, size: int) -> None:
    assert read(Size, text) == size


@pytest.mark.parametrize("value", ["64MB", 64, "MiB", "1.5MiB"])
def test_not_a_size(value: object) -> None:
    with pytest.raises(ValidationError, match="64MiB"):
        read(Size, value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6432", Address("127.0.0.1", 6432)),
        ("[::1]:6432", Address("::1", 6432)),
        ("db.example:5432", Address("db.example", 5432)),
        ("unix:/run/p/.s.PGSQL.6432", Address(path="/run/p/.s.PGSQL.6432")),
    ],
)
def test_address(text: str, address: Address) -> None:
    assert read(AddressValue, text) == address
    assert str(address) == text


@pytest.mark.parametrize("value", ["host", ":5432", "h:", "h:x", "h:70000", "::1:5432", "unix:relative", 5432, "h:٣"])
def test_not_an_address(value: object) -> None:
    with pytest.raises(ValidationError, match="an address is"):
        read(AddressValue, value)


def test_addresses() -> None:
    assert read(Addresses, "a:1") == (Address("a", 1),)
    assert read(Addresses, ["a:1", "unix:/s"]) == (Address("a", 1), Address(path="/s"))
    with pytest.raises(ValidationError, match="at least one"):
        read(Addresses, [])


def test_paths_are_relative_to_the_file() -> None:
    assert read(FilePath, "a/b") == Path("/base/a/b")
    assert read(FilePath, "/a/b") == Path("/a/b")


def test_a_secret_is_never_literal() -> None:
    with pytest.raises(ValidationError, match="never written here") as caught:
        read(SecretValue, "hunter2")
    assert "hunter2" not in caught.value.errors()[0]["msg"]


def test_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHI_TEST_SECRET", "s3cret")
    assert Secret("env:PHI_TEST_SECRET").reveal() == "s3cret"
    monkeypatch.delenv("PHI_TEST_SECRET")
    with pytest.raises(ConfigError, match="PHI_TEST_SECRET is not set"):
        Secret("env:PHI_TEST_SECRET").reveal()
    (tmp_path / "pw").write_text("from file\n")
    assert Secret(f"file:{tmp_path}/pw").reveal() == "from file"
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Secret(f"file:{tmp_path}/none").reveal()
    assert read(SecretValue, "file:pw") == Secret("file:/base/pw")


def test_read_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHI_TEST_SECRET", "s3cret")
    assert read_secret("env:PHI_TEST_SECRET") == "s3cret"
    with pytest.raises(ConfigError, match="named by") as caught:
        read_secret("hunter2")
    assert "hunter2" not in caught.value.message
