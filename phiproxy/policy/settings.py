"""The models of phiproxy.yaml (spec/configuration 1): every key, its default, and what this version does not do yet.

Durations are seconds, sizes bytes, paths absolute (relative ones are relative to the configuration file).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from phiproxy.policy.kek_uris import absolute
from phiproxy.policy.setting_values import (
    Address,
    Addresses,
    AddressValue,
    Duration,
    FilePath,
    KekText,
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


def _tls_version(value: object) -> object:
    """Accept an unquoted 1.2, which is a YAML number."""
    return str(value) if isinstance(value, float) else value


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
    target: Literal["any", "primary", "standby", "prefer-standby"] = Field(
        default="any", description="which of several servers sessions go to; it is followed when that changes"
    )
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

    kek: KekText = "local:config/keys/kek.json"
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
    slow_statements: Duration | None = Field(
        default=None, description="statements that take so long are logged, by phases and without values; null: none"
    )


class Telemetry(Section):
    """Metrics and traces for an OpenTelemetry collector (OTLP over HTTP)."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = Field(
        default=None, description="of the collector, such as http://127.0.0.1:4318; null: off"
    )
    interval: Duration = Field(default=60.0, gt=0, description="between two exports of the metrics")
    traces: bool = Field(default=True, description="spans of statements whose client names a parent")
    ratio: float = Field(default=0.0, ge=0, le=1, description="the part of the other statements that is traced too")


class Syslog(Section):
    """A syslog server that takes audit records (RFC 5424 over TLS, RFC 5425)."""

    address: AddressValue
    tls: Literal["verify-full", "disable"] = Field(default="verify-full", description="disable: for a relay on this machine")
    ca_file: FilePath | None = Field(default=None, description="default: the system's authorities")
    timeout: Duration = Field(default=5.0, gt=0)


class OtlpLogs(Section):
    """An OpenTelemetry collector that takes audit records as logs (OTLP over HTTP)."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/]+(/[^\s]*)?$")] = Field(
        description="of the collector, such as https://collector:4318; /v1/logs is added"
    )
    ca_file: FilePath | None = Field(default=None, description="default: the system's authorities")
    timeout: Duration = Field(default=5.0, gt=0)


class AuditAnchor(Section):
    """Who else says that a checkpoint of the audit log was there: a time stamp authority, or a key of AWS KMS that signs."""

    tsa: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = Field(
        default=None, description="URL of a time stamp authority (RFC 3161)"
    )
    kms: Annotated[str, Field(pattern=r"^(arn:[^\s]+|alias/[^\s]+)$")] | None = Field(
        default=None, description="an asymmetric key of AWS KMS for SIGN_VERIFY, by its ARN or alias"
    )
    region: str | None = Field(default=None, description="of KMS, where the ARN does not say it")
    endpoint: str | None = Field(default=None, description="of KMS, where it is not AWS's own")
    every: Duration = Field(default=3600.0, gt=0, description="how often a checkpoint is anchored")
    timeout: Duration = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _by_somebody(self) -> AuditAnchor:
        if self.tsa is None and self.kms is None:
            refuse("audit.anchor needs tsa, kms or both")
        return self


class Audit(Section):
    """The audit log. It is on where it has somewhere to go: ``directory``, ``syslog``, ``otlp`` or ``stdout``."""

    directory: FilePath | None = Field(default=None, description="of the log's files, which are signed; verified offline")
    syslog: Syslog | None = None
    otlp: OtlpLogs | None = None
    stdout: bool = Field(default=False, description="true: a record a line on standard output; for one worker or a collector")
    proxy: str | None = Field(
        default=None,
        pattern="^[A-Za-z0-9_-]{1,64}$",
        description="this proxy's name in records and file names, of its own in each directory; default: the host's",
    )
    database: str | None = Field(
        default=None, min_length=1, description="whose registry holds the audit key; default: the first policy's"
    )
    on_failure: Literal["refuse", "continue"] = Field(
        default="refuse", description="where nothing takes a record: refuse what is protected (57P03), or go on with an alert"
    )
    anchor: AuditAnchor | None = Field(default=None, description="of checkpoints in files; null: none")
    checkpoint: Duration = Field(default=60.0, ge=1, description="how often the log is signed, also when nothing happened")
    max_file: Size = Field(default=256 << 20, description="a larger file is closed, as each is at midnight (UTC)")
    compress: bool = Field(default=True, description="closed files")
    subjects: int = Field(
        default=100, ge=0, le=10_000, description="how many subjects of one execution are recorded one by one; above: their number"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, data: Any) -> Any:
        """Accept ``file: null`` and ``sign``, which earlier versions had and which had no effect."""
        if isinstance(data, dict) and data.get("file", None) is None:
            return {key: value for key, value in data.items() if key not in ("file", "sign")}
        return data

    @property
    def enabled(self) -> bool:
        """Whether there is an audit log."""
        return self.directory is not None or self.syslog is not None or self.otlp is not None or self.stdout


class ComputeLimits(Section):
    """What one statement may open for the engine, and how many may do so at a time."""

    rows: int = Field(default=500_000, ge=1, description="per statement")
    bytes: Size = 256 << 20
    sessions: int = Field(default=16, ge=1, le=1000, description="of the engine, over all workers")
    timeout: Duration = Field(default=60.0, gt=0, description="per statement, the wait for a session included")


EMBEDDED = "embedded"


def _engine(value: object) -> object:
    if value in ("off", EMBEDDED):
        return value
    if not isinstance(value, str) or not _ENGINE_SOCKET.fullmatch(value):
        refuse("compute.engine is off, embedded, or unix:/directory/.s.PGSQL.PORT, PostgreSQL's name of a socket")
    return value


_ENGINE_SOCKET = re.compile(r"unix:/(?:.*/)?\.s\.PGSQL\.[0-9]{1,5}")
_ENGINE_SCHEMA = WithJsonSchema(
    {"anyOf": [{"enum": ["off", EMBEDDED]}, {"type": "string", "pattern": f"^{_ENGINE_SOCKET.pattern}$"}]}
)
Accepted = Annotated[str, Field(min_length=1, pattern=r"\S")]


class Compute(Section):
    """The trusted engine: a PostgreSQL beside the proxy that computes what the server cannot, over opened rows."""

    engine: Annotated[str, BeforeValidator(_engine), _ENGINE_SCHEMA] = Field(
        default="off", description="embedded: started by the proxy; unix:…: a PostgreSQL of your own, for the proxy alone"
    )
    user: str | None = Field(default=None, min_length=1, description="unix:…: a superuser there; default: phiproxy_engine")
    password: SecretValue | None = Field(default=None, description="unix:…: default: none, as pg_hba.conf has it there")
    binaries: FilePath | None = Field(default=None, description="PostgreSQL's bin directory; default: found, or the extra's")
    directory: FilePath | None = Field(
        default=None, description="where a fresh directory is made and wiped at the end; default: /dev/shm (memory), else $TMPDIR"
    )
    limits: ComputeLimits = ComputeLimits()
    extensions: tuple[Annotated[str, Field(pattern="^[a-z_][a-z0-9_-]{0,62}$")], ...] = Field(
        default=(), description="that a statement may use there: pg_trgm, unaccent …; of the same version in both"
    )
    collation_difference: Accepted = Field(
        default="refuse", description="refuse, or who accepts that another version of the collation orders text, and why"
    )
    allow_version: Accepted | None = Field(default=None, description="who accepts another major version than the server's, and why")

    @model_validator(mode="after")
    def _of_the_engine(self) -> Compute:
        if self.engine != EMBEDDED and (self.binaries is not None or self.directory is not None):
            refuse("compute.binaries and compute.directory belong to compute.engine embedded")
        if not self.engine.startswith("unix:") and (self.user is not None or self.password is not None):
            refuse("compute.user and compute.password belong to compute.engine unix:…")
        return self

    @property
    def socket(self) -> Path | None:
        """The socket of a PostgreSQL of the operator's own."""
        return Path(self.engine.removeprefix("unix:")) if self.engine.startswith("unix:") else None

    @property
    def accepts_collation_difference(self) -> bool:
        """Whether somebody has accepted that text may be ordered by another version of the collation than the server's."""
        return self.collation_difference != "refuse"


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
    telemetry: Telemetry = Telemetry()
    audit: Audit = Audit()
    compute: Compute = Compute()

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
        return absolute(self.keys.kek, self._directory)
