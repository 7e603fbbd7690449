"""The scalar values of the configuration file: durations, sizes, addresses, secrets, paths; knows no section.

Each is an annotated type for pydantic: its validator reads the spelling of spec/configuration 1, its JSON Schema says the
spelling to editors. Validators raise ValueError (the text only); who loads the file adds where.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, BeforeValidator, GetJsonSchemaHandler, ValidationInfo, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from phiproxy.errors import ConfigError
from phiproxy.policy.kek_schemes import KEK_SCHEMES
from phiproxy.policy.kek_uris import complaint

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATION = r"[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d)"
_SIZE = r"[0-9]+(?:B|KiB|MiB|GiB)"
_PERMISSIONS = r"0?[0-7]{3}"
_ENV_OR_FILE = r"(?:env:[A-Za-z_][A-Za-z0-9_]*|file:.+)"


def refuse(text: str) -> NoReturn:
    """Raise pydantic's own error with exactly this text (``{}`` in it is not a template)."""
    raise PydanticCustomError("phiproxy", "{text}", {"text": text})


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or to connect: TCP (``host``, ``port``) or a Unix socket (``path``)."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Spell it as spec/configuration 1 does."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is kept; never the secret itself, so that it may be printed."""

    source: str

    def reveal(self) -> str:
        """Read the secret: an environment variable, or a file without its last line end. ConfigError when it is not there."""
        kind, _, name = self.source.partition(":")
        if kind == "env":
            value = os.environ.get(name)
            if value is None:
                raise ConfigError(f"the environment variable {name} is not set", hint=f"a secret is {self.source}")
            return value
        try:
            return Path(name).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(f"the secret file {name} cannot be read: {reason}") from None


def read_secret(reference: str) -> str:
    """Return the secret that ``env:NAME`` or ``file:/path`` names; ConfigError, without the secret, when it cannot."""
    if not re.fullmatch(_ENV_OR_FILE, reference):
        raise ConfigError("a secret is named by env:NAME or file:/path")
    return Secret(reference).reveal()


def _parse_duration(value: object) -> object:
    """Seconds, from ``30s``; a float passes, because a default is one."""
    if isinstance(value, float):
        return value
    if not isinstance(value, str) or not re.fullmatch(_DURATION, value):
        refuse("a duration is a number with its unit: 500ms, 30s, 15m, 12h or 90d")
    number = re.match(r"[0-9.]+", value)
    assert number is not None
    return float(number[0]) * _SECONDS[value[number.end() :]]


def _parse_size(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(_SIZE, value):
        number = re.match(r"[0-9]+", value)
        assert number is not None
        return int(number[0]) * _BYTES[value[number.end() :]]
    refuse("a size is a whole number with its unit: 512KiB, 64MiB or 1GiB")


def parse_address(value: object) -> Address:
    """Read ``host:port``, ``[v6]:port`` or ``unix:/path``; ValueError (pydantic's) for anything else."""
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        if value.startswith("unix:/"):
            return Address(path=value.removeprefix("unix:"))
        host, colon, port = value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        numeric = port.isascii() and port.isdigit() and int(port) < 65536
        if colon and host and numeric and (bracketed or ":" not in host):
            return Address(host=host[1:-1] if bracketed else host, port=int(port))
    refuse("an address is host:port, [IPv6]:port or unix:/absolute/path")


def _parse_addresses(value: object) -> tuple[Address, ...]:
    if isinstance(value, list) and not value:
        refuse("at least one address is needed")
    return tuple(parse_address(v) for v in (value if isinstance(value, list | tuple) else [value]))


def _parse_permissions(value: object) -> object:
    """Read octal digits in quotes; without them YAML 1.2 reads 0777 as 777."""
    if isinstance(value, str) and re.fullmatch(_PERMISSIONS, value):
        return int(value, 8)
    refuse('permissions are octal digits in quotes: "0770"')


def base_directory(info: ValidationInfo) -> Path:
    """Return the directory of the file being read, to which relative paths are relative."""
    base = (info.context or {}).get("base", ".")
    return Path(base)


def _parse_path(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str | Path) or not value:
        refuse("a path is expected")
    return base_directory(info) / value


def _parse_secret(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or not re.fullmatch(_ENV_OR_FILE, value):
        refuse("a secret is never written here: use env:NAME or file:/path")
    if value.startswith("file:"):
        return Secret(f"file:{base_directory(info) / value.removeprefix('file:')}")
    return Secret(value)


def _kek(value: str) -> str:
    wrong = complaint(value)
    if wrong is not None:
        refuse(wrong)
    return value


class _KekSchema:
    """Shows the schemes of KEKs in a JSON Schema, as they are in the table when it is made."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schemes = "|".join(KEK_SCHEMES)
        usages = "; ".join(kind.usage for kind in KEK_SCHEMES.values())
        return {**handler(core), "pattern": f"^(?:{schemes}):.+$", "description": usages}


def _schema(**keys: Any) -> WithJsonSchema:
    return WithJsonSchema(keys)


_ADDRESS_SCHEMA = {"type": "string", "examples": ["127.0.0.1:6432", "unix:/run/phiproxy/.s.PGSQL.6432"]}

Duration = Annotated[
    float,
    BeforeValidator(_parse_duration),
    _schema(type="string", pattern=f"^{_DURATION}$", examples=["30s", "15m", "90d"]),
]
Size = Annotated[int, BeforeValidator(_parse_size), _schema(type="string", pattern=f"^{_SIZE}$", examples=["64MiB"])]
Permissions = Annotated[
    int, BeforeValidator(_parse_permissions), _schema(type="string", pattern=f"^{_PERMISSIONS}$", examples=["0770"])
]
AddressValue = Annotated[Address, BeforeValidator(parse_address), WithJsonSchema(_ADDRESS_SCHEMA)]
Addresses = Annotated[
    tuple[Address, ...],
    BeforeValidator(_parse_addresses),
    _schema(anyOf=[_ADDRESS_SCHEMA, {"type": "array", "items": _ADDRESS_SCHEMA, "minItems": 1}]),
]
FilePath = Annotated[Path, BeforeValidator(_parse_path), _schema(type="string")]
KekText = Annotated[str, AfterValidator(_kek), _KekSchema()]
SecretValue = Annotated[Secret, BeforeValidator(_parse_secret), _schema(type="string", pattern=f"^{_ENV_OR_FILE}$")]
