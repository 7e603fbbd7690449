"""The StartupMessage: which database, which protocol version, and what goes on to the server.

The version forwarded is min(client's, 3.2) with known ``_pq_.`` options only, so that the server cannot choose what the proxy
cannot read; a client that asked for more gets exactly one NegotiateProtocolVersion (spec/protocol 2; libpq 19 asks for 3.9999).
"""

import re
from dataclasses import dataclass

from phiproxy.effects import PURPOSE, TAKEN, is_purpose
from phiproxy.errors import StatementRefused, WireError
from phiproxy.wire.messages import PROTOCOL_3_0, PROTOCOL_3_2, Startup, encode_startup, negotiate_protocol_version


class GivenAtStart(StatementRefused):
    """A setting that the proxy takes, in the StartupMessage (0A000)."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a StartupMessage asks for: ``packet`` is for the server, ``negotiation`` for the client before authentication."""

    database: str
    version: int
    replication: bool
    packet: bytes
    negotiation: bytes | None
    user: str = ""
    parameters: tuple[tuple[bytes, bytes], ...] = ()

    def setting(self, name: str) -> str | None:
        """Return a run-time parameter that the message sets, as itself or in ``options``, or None; the last one counts.

        PostgreSQL reads ``options`` first, so a parameter of its own overrides it; names are compared without case.
        """
        setting: str | None = None
        for key, value in self.parameters:
            if key == b"options":
                setting = _option(value.decode("utf-8", "replace"), name) or setting
        for key, value in self.parameters:
            if key.decode("utf-8", "replace").lower() == name.lower():
                setting = value.decode("utf-8", "replace")
        return setting

    def check_taken(self) -> None:
        """Refuse a setting that the proxy takes, which the server would be told here; a purpose is a code, and passes.

        In ``options`` a name is looked for wherever it stands: PostgreSQL reads ``-ec name=value`` too.
        """
        names = {key.decode("utf-8", "replace").lower() for key, _ in self.parameters}
        options = " ".join(value.decode("utf-8", "replace") for key, value in self.parameters if key == b"options")
        options = _ESCAPED.sub(r"\1", options).replace("-", "_").lower()
        for name in sorted(TAKEN):
            if (name in names or name in options) and not (name == PURPOSE and is_purpose(self.setting(name) or "")):
                raise GivenAtStart(f"{name} cannot be given when connecting", hint=f"SET {name} = '…' once you are connected.")


def admit(startup: Startup, newest: int = PROTOCOL_3_2) -> Admission:
    """Read a StartupMessage; WireError when it is another packet or names are not UTF-8.

    ``newest`` is below 3.2 where it is known already that the server speaks no more.
    """
    if startup.code >> 16 != PROTOCOL_3_0 >> 16:
        raise WireError("not a startup message")
    name = startup.get(b"database") or startup.get(b"user") or b""
    try:
        database = name.decode("utf-8")
    except UnicodeDecodeError:
        raise WireError("the database name is not valid UTF-8") from None
    replication = startup.get(b"replication") not in (None, b"false", b"off", b"no", b"0")
    unknown = [n for n, _ in startup.parameters if n.startswith(b"_pq_.")]
    version = min(startup.code, newest)
    user = (startup.get(b"user") or b"").decode("utf-8", "replace")
    told = tuple(startup.parameters)
    if not unknown and version == startup.code:
        return Admission(database, version, replication, startup.body, None, user, told)
    accepted = [(n, v) for n, v in startup.parameters if not n.startswith(b"_pq_.")]
    packet, answer = encode_startup(version, accepted), negotiate_protocol_version(version, unknown)
    return Admission(database, version, replication, packet, answer, user, told)


def _option(options: str, name: str) -> str | None:
    """Return what ``-c name=value`` or ``--name=value`` sets in an ``options`` parameter (pg_split_opts: a backslash escapes)."""
    words = [_ESCAPED.sub(r"\1", word) for word in _WORDS.findall(options)]
    last: str | None = None
    for before, word in zip(["", *words], words, strict=False):
        text = word[2:] if word.startswith(("-c", "--")) and len(word) > 2 else word if before == "-c" else ""
        setting, equals, value = text.partition("=")
        if equals and setting.strip().replace("-", "_").lower() == name.lower():
            last = value
    return last


_WORDS = re.compile(r"(?:\\.|[^\s\\])+")
_ESCAPED = re.compile(r"\\(.)")
