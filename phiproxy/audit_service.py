"""The audit log of one process, put together: its keys, its files and other destinations, and the trails of its sessions."""

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib.util import find_spec
from itertools import count
from typing import Any

from phiproxy import __version__
from phiproxy.audit.audit_keys import AuditKeys
from phiproxy.audit.destinations import SyslogTarget
from phiproxy.audit.group_commit import AuditLog
from phiproxy.audit.sealed_subjects import SubjectSeals
from phiproxy.audit.session_trail import Done, SessionTrail, Who
from phiproxy.audit.writer import Start
from phiproxy.audit_root import audit_keys
from phiproxy.errors import ConfigError
from phiproxy.keys.events import Event
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings
from phiproxy.session.startup_message import Admission

SUPERVISOR = "supervisor"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


class AuditService:
    """The audit log, and what the rest of the process says to it."""

    def __init__(self, audit_log: AuditLog, keys: AuditKeys, facts: Mapping[str, str], subjects: int) -> None:
        self.log = audit_log
        self.keys = keys
        self._facts = dict(facts)
        self._events: dict[str, int] = {}
        self._sessions = count(1)
        self._spelled: dict[object, Done] = {}
        self._seals = SubjectSeals(keys, subjects)

    @classmethod
    async def open(cls, settings: Settings, policies: Sequence[Policy], number: str = "0") -> "AuditService":
        """Open the log of one process, which writes as ``number``, and sign its beginning.

        ConfigError when a file cannot be written, ProviderError when the audit key cannot be had.
        """
        audit = settings.audit
        keys = await audit_keys(settings, policies)
        proxy = proxy_name(settings)
        facts = {"proxy": proxy, "writer": number}
        start = Start(
            proxy=proxy,
            number=number,
            host=socket.gethostname(),
            key_name=keys.signer.name,
            seed=keys.seed.hex(),
            directory=str(audit.directory) if audit.directory is not None else None,
            max_file=audit.max_file,
            compress=audit.compress,
            stdout=audit.stdout and number != SUPERVISOR,
            syslog=_syslog(settings) if number != SUPERVISOR else None,
            otlp=_otlp(settings) if number != SUPERVISOR else None,
            anchor=_anchor(settings),
            facts={"checkpoint_seconds": round(audit.checkpoint), "key": keys.signer.verifier.text},
        )
        audit_log = AuditLog(start, on_failure=audit.on_failure, interval=audit.checkpoint, facts=facts)
        service = cls(audit_log, keys, facts, audit.subjects)
        try:
            service._events.update(await audit_log.open({"policies": digests(policies), "version": __version__}))
        except OSError as error:
            await audit_log.close()
            raise ConfigError(f"audit: {error.strerror or error}") from None
        return service

    def trail(self, admission: Admission, client: str, tenant: str) -> SessionTrail:
        """Return what one session records by."""
        number = f"{self._facts['writer']}-{next(self._sessions)}"
        who = Who(number, admission.database, tenant, admission.user, client)
        return SessionTrail(self.log, who, self._facts, self._spelled, self._seals)

    def login_refused(self, user: str, database: str, client: str, outcome: str) -> None:
        """Record a login that the proxy itself has refused."""
        self.log.event("login", {"client": client, "database": database, "login": user, "outcome": outcome})

    def policies_taken(self, policies: Sequence[Policy]) -> None:
        """Record that policies were read again and are gone by from now on."""
        self.log.event("policy.loaded", {"policies": digests(policies)})

    def last_event(self, database: str) -> int:
        """Return the number of the registry's event that was recorded last."""
        return self._events.get(database, 0)

    def key_events(self, database: str, events: Sequence[Event]) -> None:
        """Record what was done with keys."""
        for event in events:
            fields = {
                "at": event.at.isoformat(), "database": database, "event": event.number, "from": event.before,
                "login": event.database_user, "os_user": event.os_user, "subject": event.subject, "to": event.after,
                "what": event.what,
            }  # fmt: skip
            self.log.event("key", fields)
            self._events[database] = event.number
        self.log.facts({"events": self._events})

    def heads(self, heads: Sequence[Mapping[str, Any]]) -> None:
        """Record how far the files of workers go: the supervisor signs that."""
        if heads:
            self.log.event("log.heads", {"heads": list(heads)})

    async def close(self) -> None:
        """End the log."""
        await self.log.close()


def proxy_name(settings: Settings) -> str:
    """Return what the proxy is called in the log."""
    return settings.audit.proxy or _NOT_IN_NAMES.sub("-", socket.gethostname()) or "phiproxy"


def digests(policies: Sequence[Policy]) -> dict[str, str]:
    """Return the SHA-256 of each policy as it is understood, by its database."""
    return {policy.database: sha256(policy.model_dump_json(by_alias=True).encode()).hexdigest() for policy in policies}


def _syslog(settings: Settings) -> dict[str, Any] | None:
    syslog = settings.audit.syslog
    if syslog is None:
        return None
    address, ca_file = syslog.address, str(syslog.ca_file) if syslog.ca_file is not None else None
    tls = syslog.tls != "disable"
    return asdict(SyslogTarget(address.host, address.port, address.path, tls, ca_file, syslog.timeout))


def _otlp(settings: Settings) -> dict[str, Any] | None:
    otlp = settings.audit.otlp
    if otlp is None:
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.proto") is None:
        raise ConfigError("audit.otlp needs opentelemetry-proto", hint="pip install 'phiproxy[otel]'")
    return {"endpoint": otlp.endpoint, "ca_file": str(otlp.ca_file) if otlp.ca_file is not None else None, "timeout": otlp.timeout}


def _anchor(settings: Settings) -> dict[str, Any] | None:
    anchor = settings.audit.anchor
    if anchor is None:
        return None
    if anchor.tsa is not None and find_spec("rfc3161_client") is None:
        raise ConfigError("audit.anchor.tsa needs rfc3161-client", hint="pip install 'phiproxy[audit]'")
    if anchor.kms is not None and find_spec("boto3") is None:
        raise ConfigError("audit.anchor.kms needs boto3", hint="pip install 'phiproxy[aws]'")
    return anchor.model_dump()
