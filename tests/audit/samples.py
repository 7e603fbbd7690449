"""One record of each kind, for what is made of them."""

from typing import Any

BASE: dict[str, Any] = {
    "application": "ward", "client": "10.0.0.7:53412", "database": "clinic", "login": "app", "proxy": "one", "sequence": 7,
    "session": "0-1", "tenant": "", "time": "2026-11-27T18:45:00.000001Z", "v": 1, "writer": "0",
}  # fmt: skip
READ = {
    **BASE, "kind": "execution", "columns": {"public.patients.ssn": {"opened": 3, "searched": True}}, "keys": {"5fc3a911": "used"},
    "execution": None, "outcome": "00000", "phase": "whole", "role": "nurse", "rows": 3,
    "statement": {"fingerprint": "00", "text": "SELECT ssn FROM patients WHERE ssn = ?"},
}  # fmt: skip
RECORDS = {
    "read": READ,
    "asserted": {**READ, "user": {"name": "dr.who", "how": "asserted"}},
    "stored": {**READ, "columns": {"public.patients.ssn": {"stored": 1}}, "statement": {"fingerprint": "0", "text": "INSERT x"}},
    "refused": {**BASE, "kind": "refused", "outcome": "0A000", "columns": {}, "statement": {"text": "", "fingerprint": ""}},
    "failed": {**READ, "outcome": "57P03", "rows": None},
    "login": {**BASE, "kind": "login", "outcome": "28P01"},
    "key": {**BASE, "kind": "key", "what": "data key made", "subject": "data key 1", "os_user": "root", "login": "phiproxy"},
    "start": {"kind": "proxy.started", "proxy": "a_" * 40, "sequence": 1, "time": BASE["time"], "v": 1, "writer": "0"},
}
