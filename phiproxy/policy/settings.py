"""The models of phiproxy.yaml (config.md section 1): every key, its default, and what this version does not do yet.

Durations are seconds, sizes bytes, paths absolute (relative ones are relative to the configuration file).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from phiproxy.policy import kek
from phiproxy.policy.values import (
    Address,
    Addresses,
    AddressValue,
    Duration,
    FilePath,
    Permissions,
    Secret,
    SecretValue,
    Size,
    refuse,
)


class Section(BaseModel):
    """A mapping of the file: frozen, and an unknown key in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _later(value: object, only: object, what: str) -> object:
    """Refuse what the model knows and this version does not do."""
    if value != only:
        refuse(f"{what} is not in this version")
    return value


def _any_target(value: str) -> object:
    return _later(value, "any", f"upstream.target {value}")


def _no_audit_file(value: object) -> object:
    return _later(value, None, "audit.file")


def _tls_version(value: object) -> object:
    """Accept an unquoted 1.2, which is a YAML number."""
    return str(value) if isinstance(value, float) else value


def _kek(value: str) -> str:
    wrong = kek.complaint(value)
    if wrong is not None:
        refuse(wrong)
    return value


class Limits(Section):
    """What one client may take."""

    max_clients: int = Field(default=1000, ge=1, description="over all workers")
    max_message: Size = 64 << 20
    startup_timeout: Duration = 30.0
    idle_timeout: Duration = Field(default=0.0, description="0s = never")
    drain_timeout: Duration = 30.0


TlsLevel = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]


class Upstream(Section):
    """The PostgreSQL server behind the proxy."""

    address: Addresses = (Address("127.0.0.1", 5432),)
    target: Annotated[Literal["any", "primary"], AfterValidator(_any_target)] = "any"
    tls: TlsLevel = "verify-full"
    ca_file: FilePath | None = None
    connect_timeout: Duration = 10.0

    @model_validator(mode="after")
    def _has_ca(self) -> Upstream:
        # without a host name to check, the system's hundred authorities would vouch for any server at all
        if self.tls == "verify-ca" and self.ca_file is None:
            refuse("upstream.tls verify-ca needs upstream.ca_file")
        return self


class ClientTls(Section):
    """TLS towards clients.

    ``certificate`` and ``private_key`` are both given or both left out (then ``allow`` offers none).
    """

    mode: Literal["disable", "allow", "require", "verify-client"] = "allow"
    certificate: FilePath | None = None
    private_key: FilePath | None = None
    client_ca: FilePath | None = None
    min_version: Annotated[Literal["1.2", "1.3"], BeforeValidator(_tls_version)] = "1.2"

    @model_validator(mode="after")
    def _complete(self) -> ClientTls:
        if (self.certificate is None) != (self.private_key is None):
            refuse("tls.certificate and tls.private_key belong together")
        if self.mode in ("require", "verify-client") and self.certificate is None:
            refuse(f"tls.mode {self.mode} needs tls.certificate and tls.private_key")
        if self.mode == "verify-client" and self.client_ca is None:
            refuse("tls.mode verify-client needs tls.client_ca")
        return self


class Auth(Section):
    """How clients are authenticated: by the server through the proxy, or by the proxy itself."""

    mode: Literal["passthrough", "scram"] = Field(
        default="passthrough", description="scram: needed when both legs use TLS with different certificates"
    )
    verifiers: FilePath | None = Field(
        default=None, description="scram: a file of lines `role SCRAM-SHA-256$…`; default: pg_authid, through the service login"
    )
    database: str | None = Field(
        default=None,
        min_length=1,
        description="scram: where the service login reads pg_authid; default: the first policy's, else postgres",
    )
    different_certificates: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="passthrough: allow TLS on both legs with different certificates, for clients without channel binding only",
    )

    @model_validator(mode="after")
    def _of_the_mode(self) -> Auth:
        if self.mode == "passthrough" and (self.verifiers is not None or self.database is not None):
            refuse("auth.verifiers and auth.database belong to auth.mode scram")
        if self.verifiers is not None and self.database is not None:
            refuse("auth.verifiers and auth.database exclude each other: the file, or pg_authid")
        if self.mode == "scram" and self.different_certificates == "allow":
            refuse("auth.different_certificates belongs to auth.mode passthrough: scram needs no such leave")
        return self


class Service(Section):
    """The proxy's own login to each policy's database: catalogue and key registry."""

    user: str = Field(default="phiproxy", min_length=1)
    password: SecretValue | None = Secret("env:PHIPROXY_SERVICE_PASSWORD")
    schema_: str = Field(default="phiproxy", alias="schema", pattern="^[a-z_][a-z0-9_]{0,62}$")
    address: AddressValue | None = Field(default=None, description="default: upstream.address")


Anchor = Annotated[str, Field(pattern="^reg1-[0-9a-f]{64}$")]


class KeyCache(Section):
    """How long unwrapped keys stay in memory."""

    ttl: Duration = 300.0
    max_stale: Duration = 900.0
    max_root_keys: int = Field(default=1000, ge=1)
    max_data_keys: int = Field(default=100_000, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> KeyCache:
        if self.max_stale < self.ttl:
            refuse("keys.cache.max_stale must not be shorter than keys.cache.ttl")
        return self


class DataKeyRotation(Section):
    """When the write key of a scope rolls, whichever comes first."""

    max_age: Duration = 90 * 86400.0
    max_uses: int = Field(default=1_000_000, ge=1, le=1 << 32)


class RootKeyRotation(Section):
    """When a root key is due."""

    max_age: Duration = 365 * 86400.0


class Rotation(Section):
    """Key life times."""

    data_key: DataKeyRotation = DataKeyRotation()
    root_key: RootKeyRotation = RootKeyRotation()


class Keys(Section):
    """The key-encryption key and what lives under it.

    ``kek`` is as written; see ``Settings.kek_uri`` for its absolute paths.
    """

    kek: Annotated[str, AfterValidator(_kek)] = "local:config/keys/kek.json"
    anchor: dict[str, Anchor] = Field(
        default={}, description="database -> fingerprint of the registry key that is meant; written by keys init"
    )
    counter_file: FilePath | None = Field(
        default=None,
        description="where the registry's counter last seen is kept; default: registry-counter.json in $STATE_DIRECTORY, else here",
    )
    cache: KeyCache = KeyCache()
    rotation: Rotation = Rotation()
    fips: Literal["off", "required"] = "off"


class CatalogSection(Section):
    """How soon DDL behind the proxy is noticed."""

    poll: Duration = Field(default=1.0)


class MetricsSection(Section):
    """Where /metrics, /livez and /readyz are served."""

    listen: AddressValue = Address("127.0.0.1", 9187)


class Log(Section):
    """The proxy's own log, on standard error; it never holds a value."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Audit(Section):
    """The audit file."""

    file: Annotated[FilePath | None, AfterValidator(_no_audit_file)] = None
    sign: bool = True


MAX_WORKERS = 512
# What is read again while the proxy serves; what all other settings say it goes by from its start on.
READ_AGAIN = frozenset({"policies", "tls"})


def _workers(value: object) -> object:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_WORKERS):
        refuse(f'workers is a number from 1 to {MAX_WORKERS}, or "auto": one per core')
    return value


_WORKERS_SCHEMA = WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}, {"const": "auto"}]})


class Settings(Section):
    """phiproxy.yaml as a whole. ``directory`` is the file's own; ``source`` its name for messages."""

    listen: Addresses = (Address("127.0.0.1", 6432),)
    unix_socket_permissions: Permissions = Field(default=0o777, description="of the files of listening Unix sockets")
    workers: Annotated[int | Literal["auto"], BeforeValidator(_workers), _WORKERS_SCHEMA] = Field(
        default=1, description="processes that share the listening sockets; auto = one per core"
    )
    limits: Limits = Limits()
    upstream: Upstream = Upstream()
    tls: ClientTls = ClientTls()
    auth: Auth = Auth()
    service: Service = Service()
    keys: Keys = Keys()
    policies: tuple[FilePath, ...] = Field(
        default=(Path("policy.yaml"),), description="one file per database", validate_default=True
    )
    catalog: CatalogSection = CatalogSection()
    unlisted_databases: Literal["passthrough", "refuse"] = "passthrough"
    metrics: MetricsSection | None = MetricsSection()
    log: Log = Log()
    audit: Audit = Audit()

    _directory: Path = Path()

    def model_post_init(self, context: Any, /) -> None:
        """Keep where the file is: the loader says it in the validation context."""
        if context:
            self._directory = Path(context["base"])

    def waiting_for_restart(self, other: Settings) -> list[str]:
        """Return the settings of another configuration that are not as here, and would take a restart."""
        names = (name for name in type(self).model_fields if name not in READ_AGAIN)
        return sorted(name for name in names if getattr(self, name) != getattr(other, name))

    @property
    def worker_count(self) -> int:
        """How many processes serve."""
        if self.workers != "auto":
            return self.workers
        usable = getattr(os, "sched_getaffinity", None)  # Linux only
        return len(usable(0)) if usable is not None else os.cpu_count() or 1

    @property
    def directory(self) -> Path:
        """The directory of the configuration file."""
        return self._directory

    @property
    def counter_file(self) -> Path:
        """Where the highest counter seen of each registry is kept; systemd's StateDirectory= names $STATE_DIRECTORY."""
        if self.keys.counter_file is not None:
            return self.keys.counter_file
        state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return (Path(state) if state else self._directory) / "registry-counter.json"

    @property
    def kek_uri(self) -> str:
        """The KEK URI with its paths made absolute: what a key provider is opened with."""
        return kek.absolute(self.keys.kek, self._directory)
