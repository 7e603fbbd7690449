"""A server that speaks Vault's HTTP API: tokens with lives, AppRole, Kubernetes logins, and the transit engine behind them.

It stands in where no Vault or OpenBao can be had (no registry ships the binary); ``VAULT_ADDR`` and ``VAULT_TOKEN`` in the
environment of the tests name a real one instead, and the same contract runs against it. ``tests/containers`` runs it against both
where Docker is.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

from tests.keys.providers.transit import Refused, Transit

ENVELOPE = {
    "auth": None,
    "lease_duration": 0,
    "lease_id": "",
    "renewable": False,
    "request_id": "0",
    "warnings": None,
    "wrap_info": None,
}


@dataclass
class Token:
    """``life`` seconds from each renewal, never past ``max_life`` from the first; 0 is for ever."""

    life: float = 0.0
    max_life: float = 1e9
    renewable: bool = False
    made: float = field(default_factory=monotonic)
    renewed: float = field(default_factory=monotonic)

    def left(self) -> float:
        return min(self.renewed + self.life, self.made + self.max_life) - monotonic()


class VaultServer:
    """One server on loopback. ``delay`` seconds are waited before each answer, ``status`` is answered instead of working."""

    def __init__(self) -> None:
        self.transit = Transit()
        self.tokens: dict[str, Token] = {"root": Token()}
        self.token_life = Token(life=3600.0, renewable=True)
        self.role_id, self.secret_id = str(uuid4()), str(uuid4())
        self.service_account = str(uuid4())
        self.delay = 0.0
        self.status: int | None = None
        self.forbidden: set[str] = set()
        self.failing: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, token: str, request: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
        """Return (status, body) of one call; ``path`` is below /v1/."""
        with self._lock:
            self.calls.append((method, path))
            if self.status is not None:
                return self.status, {"errors": ["Vault is sealed"] if self.status == 503 else ["internal error"]}
            try:
                data, auth = self._answer(method, path, token, request)
            except Refused as refused:
                return refused.status, {"errors": refused.errors}
        return 200, {**ENVELOPE, "data": data, "auth": auth}

    def _answer(self, method: str, path: str, token: str, request: dict[str, Any]) -> tuple[Any, Any]:
        if path == "auth/approle/login":
            if (request.get("role_id"), request.get("secret_id")) != (self.role_id, self.secret_id):
                raise Refused("invalid role or secret ID")
            return None, self._new_token()
        if path == "auth/kubernetes/login":
            if request.get("jwt") != self.service_account or request.get("role") != "phiproxy":
                raise Refused("permission denied", 403)
            return None, self._new_token()
        held = self.tokens.get(token)
        if held is None or (held.life and held.left() <= 0):
            raise Refused("permission denied", 403)
        if path == "auth/token/lookup-self":
            return {"ttl": int(held.left()) if held.life else 0, "renewable": held.renewable}, None
        if path == "auth/token/renew-self":
            if not held.renewable:
                raise Refused("lease is not renewable")
            held.renewed = monotonic()
            return None, {"client_token": token, "lease_duration": int(held.left()), "renewable": True}
        if path == "sys/mounts/transit":
            return None, None
        mount, _, below = path.partition("/")
        if mount != "transit":
            raise Refused(None, 404)
        if below in self.failing:
            raise Refused("internal error", 503)
        if below in self.forbidden:
            raise Refused("permission denied", 403)
        return self.transit.handle(method, below, request), None

    def _new_token(self) -> dict[str, Any]:
        name = f"hvs.{uuid4()}"
        model = self.token_life
        self.tokens[name] = Token(model.life, model.max_life, model.renewable)
        return {"client_token": name, "lease_duration": int(model.life), "renewable": model.renewable}

    def _handler(self) -> Callable[..., BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                request = json.loads(self.rfile.read(length) or b"{}") or {}
                if server.delay:
                    sleep(server.delay)
                method = "LIST" if self.path.endswith("?list=true") else "POST" if self.command == "PUT" else self.command
                path = self.path.removeprefix("/v1/").partition("?")[0]
                status, body = server.answer(method, path, self.headers.get("X-Vault-Token", ""), request)
                payload = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _serve  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                return None

        return Handler


def real_vault() -> tuple[str, str] | None:
    """Return (address, token) of a real server, where the environment names one."""
    address, token = os.environ.get("VAULT_ADDR"), os.environ.get("VAULT_TOKEN")
    return (address, token) if address and token else None
