"""Logging in to Vault by a token, AppRole or Kubernetes; a login is renewed before it expires.

A proxy that stops working when its token runs out is the best known failure in this field. So two thirds into a token's life it is
renewed; where it cannot be, or has reached its maximum, the login is made anew; and a call that is forbidden logs in once more
before it takes no for an answer. A token from a file is read again each time, since an agent may keep it fresh.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, Literal

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.parsed_kek_uri import KekUri

Method = Literal["token", "approle", "kubernetes"]
SERVICE_ACCOUNT_TOKEN: Final = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path
# What is left of a token's life when it is renewed.
RENEW_AT: Final = 1 / 3


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the login's secrets come from; each is read when it is used."""

    method: Method
    token: Callable[[], str]
    role: str
    secret: Callable[[], str]
    mount: str


def credentials(uri: KekUri) -> Credentials:
    """Return how to log in, from a URI's options and Vault's own environment variables.

    ``auth=token`` (VAULT_TOKEN or ``token=``), ``approle`` (VAULT_ROLE_ID and VAULT_SECRET_ID, or ``role_id=`` and ``secret_id=``),
    ``kubernetes`` (``role=NAME``, the pod's service account). Without ``auth``: kubernetes where a role is given, AppRole where a
    role id is, else the token. Raises ProviderMisconfigured for another word, ConfigError where a secret cannot be read.
    """

    def secret(option: str, variable: str) -> Callable[[], str]:
        return lambda: uri.secret(option) or uri.secrets(f"env:{variable}")

    has_role_id = "role_id" in uri.options or "VAULT_ROLE_ID" in os.environ
    default = "kubernetes" if "role" in uri.options else "approle" if has_role_id else "token"
    method = uri.options.get("auth", default)
    mount = uri.options.get("auth_mount", method)
    if method == "token":
        return Credentials("token", secret("token", "VAULT_TOKEN"), "", lambda: "", "")
    if method == "approle":
        return Credentials(
            "approle", lambda: "", secret("role_id", "VAULT_ROLE_ID")(), secret("secret_id", "VAULT_SECRET_ID"), mount
        )
    if method == "kubernetes":
        path = Path(uri.options.get("jwt", SERVICE_ACCOUNT_TOKEN))
        if "role" not in uri.options:
            raise ProviderMisconfigured("keys.kek: vault with auth=kubernetes needs role=NAME")
        return Credentials("kubernetes", lambda: "", uri.options["role"], lambda: _read(path), mount)
    raise ProviderMisconfigured("keys.kek: vault logs in with auth=token, approle or kubernetes")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ProviderMisconfigured(f"{path}: {error.strerror}") from None


class Login:
    """The token of one client, made and kept; on the provider's threads."""

    def __init__(self, client: Any, how: Credentials, clock: Callable[[], float] = monotonic) -> None:
        self._client = client
        self._how = how
        self._clock = clock
        self._lock = threading.Lock()
        self._renewable = False
        self._life = 0.0
        self._expires: float | None = None

    def renew_in(self) -> float | None:
        """Return in how many seconds the token must be renewed; None when it does not expire, or there is none yet."""
        return None if self._expires is None else max(self._expires - self._life * RENEW_AT - self._clock(), 0.0)

    def ensure(self) -> str:
        """Log in unless there is a token, and return it. Raises what the client raises."""
        with self._lock:
            if not self._client.token:
                self._log_in()
            return str(self._client.token)

    def again(self, refused: str) -> bool:
        """Log in anew after a call under this token was forbidden; False when that gives no other token."""
        with self._lock:
            if self._client.token == refused:
                self._log_in()
            return bool(self._client.token != refused)

    def renew(self) -> None:
        """Prolong the token, or log in anew where that does not carry it further."""
        with self._lock:
            before = self._expires
            if self._renewable:
                told = self._client.auth.token.renew_self()
                self._note(told["auth"]["lease_duration"], told["auth"]["renewable"])
                if before is None or self._expires is None or self._expires > before:
                    return
            self._log_in()

    def _log_in(self) -> None:
        how = self._how
        if how.method == "token":
            self._client.token = how.token()
            told = self._client.auth.token.lookup_self()["data"]
            self._note(told["ttl"], told.get("renewable", False))
            return
        if how.method == "approle":
            told = self._client.auth.approle.login(how.role, how.secret(), use_token=False, mount_point=how.mount)
        else:
            told = self._client.auth.kubernetes.login(how.role, how.secret(), use_token=False, mount_point=how.mount)
        self._client.token = told["auth"]["client_token"]
        self._note(told["auth"]["lease_duration"], told["auth"]["renewable"])

    def _note(self, seconds: int, renewable: bool) -> None:  # noqa: FBT001 - Vault's own answer
        self._life = float(seconds)
        self._expires = self._clock() + seconds if seconds else None
        self._renewable = renewable
