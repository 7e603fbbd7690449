"""What must be equal in server and engine for equal answers: version, encoding, collation; how the two differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from phiproxy.errors import ConfigError
from phiproxy.policy.settings import Compute

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin", "d": "default"}
_QUERY = """
SELECT d.row ->> 'datcollate', d.row ->> 'datctype', coalesce(d.row ->> 'datlocprovider', 'c'),
       coalesce(d.row ->> 'datlocale', d.row ->> 'daticulocale', ''), coalesce(d.row ->> 'daticurules', ''),
       pg_catalog.pg_encoding_to_char(d.encoding), coalesce({version}, ''),
       coalesce((SELECT pg_catalog.max(pg_catalog.pg_collation_actual_version(c.oid)) FROM pg_catalog.pg_collation c
                  WHERE c.collprovider = 'c'), ''),
       coalesce((SELECT pg_catalog.pg_collation_actual_version(c.oid) FROM pg_catalog.pg_collation c
                  WHERE c.collprovider = 'i' AND c.collname = 'und-x-icu' AND c.collnamespace = 11), '')
  FROM (SELECT r.oid, r.encoding, pg_catalog.to_jsonb(r) AS row FROM pg_catalog.pg_database r
         WHERE r.datname = pg_catalog.current_database()) d
"""
# Before version 15 nothing tells the version of a database's own collation but a collation of the same name.
_VERSION_14 = """(SELECT pg_catalog.max(pg_catalog.pg_collation_actual_version(c.oid)) FROM pg_catalog.pg_collation c
                   WHERE c.collprovider = 'c' AND c.collcollate = d.row ->> 'datcollate')"""
_VERSION_15 = "pg_catalog.pg_database_collation_actual_version(d.oid)"


@dataclass(frozen=True, slots=True)
class Identity:
    """One database: ``server_version`` as server_version_num; ``provider`` is libc, icu or builtin, ``locale`` of the last two.

    ``version`` is that of its collation in the library that is there now, empty where the order cannot change (C). ``libc`` and
    ``icu`` are the versions of these libraries, which order what has an explicit COLLATE.
    """

    server_version: int
    collate: str
    ctype: str
    provider: str
    locale: str
    rules: str
    encoding: str
    version: str
    libc: str = ""
    icu: str = ""

    @property
    def major(self) -> int:
        """The major version."""
        return self.server_version // 10000


def identity_query(server_version: int) -> str:
    """Return the query whose one row ``read_identity`` takes."""
    return _QUERY.format(version=_VERSION_14 if server_version < 150000 else _VERSION_15)


def read_identity(server_version: int, row: tuple[Any, ...]) -> Identity:
    """Return what the query told."""
    collate, ctype, provider, locale, *others = row
    return Identity(server_version, collate, ctype, _PROVIDERS[provider], locale, *others)


def database_options(wanted: Identity, engine_version: int) -> list[tuple[str, str]]:
    """Return the options of CREATE DATABASE that make a database like ``wanted``, as an engine of this version spells them.

    ConfigError where that version has no such provider.
    """
    options = [("ENCODING", wanted.encoding), ("LC_COLLATE", wanted.collate), ("LC_CTYPE", wanted.ctype)]
    oldest = {"libc": 14, "icu": 15, "builtin": 17}[wanted.provider]
    major = engine_version // 10000
    if major < oldest:
        raise ConfigError(f"the engine's PostgreSQL {major} has no locale provider {wanted.provider}, as the server's database")
    if major >= 15:
        options.append(("LOCALE_PROVIDER", wanted.provider))
        # Nothing is written to WAL, and the files are in the page cache.
        options.append(("STRATEGY", "file_copy"))
    if wanted.provider != "libc":
        options.append((f"{wanted.provider.upper()}_LOCALE", wanted.locale))
    if wanted.rules:
        options.append(("ICU_RULES", wanted.rules))
    return options


Level = Literal["ok", "warning", "error"]
Library = Literal["default", "libc", "icu"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How engine and server differ: in their locale (then the databases are not alike at all), major version, collations' versions.

    Where nothing does, answers are the same. ``collations``: (whose, text); what depends on the order or case of text under the
    database's default collation, or one of that library, may then be answered in another way than by the server.
    """

    locale: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    collations: tuple[tuple[Library, str], ...] = ()

    def complaints(self, compute: Compute) -> tuple[str, ...]:
        """Return why the engine must not be used at all under these settings; empty where it may."""
        return self.locale + (self.version if compute.allow_version is None else ())

    def orders(self, library: Library, compute: Compute) -> bool:
        """Tell whether what depends on the order or case of text is answered, under a collation of this library that is not C."""
        return compute.accepts_collation_difference or library not in dict(self.collations)

    def findings(self, compute: Compute) -> list[tuple[Level, str]]:
        """Return what ``check`` says: (level, text)."""
        findings: list[tuple[Level, str]] = [("error", f"the engine is not used: {text}") for text in self.locale]
        if compute.allow_version is None:
            hint = "compute.allow_version would accept it"
            findings += [("error", f"the engine is not used: {text}; {hint}") for text in self.version]
        else:
            findings += [("warning", f'{text}; accepted: "{compute.allow_version}"') for text in self.version]
        if compute.accepts_collation_difference:
            findings += [("warning", f'{text}; accepted: "{compute.collation_difference}"') for _, text in self.collations]
        else:
            refused = "what depends on the order or case of such text is refused; compute.collation_difference would accept it"
            findings += [("warning", f"{text}: {refused}") for _, text in self.collations]
        return findings or [("ok", "the engine computes as the server does: version, encoding and collations are the same")]


_ALIKE = {
    "encoding": "encoding",
    "collate": "LC_COLLATE",
    "ctype": "LC_CTYPE",
    "provider": "locale provider",
    "locale": "locale",
    "rules": "ICU rules",
}


def compare(engine: Identity, server: Identity) -> Comparison:
    """Compare the engine's database, which was made to be like the server's, with the server's."""
    pairs = ((said, getattr(engine, name) or "none", getattr(server, name) or "none") for name, said in _ALIKE.items())
    locale = tuple(f"its {said} is {ours}, the server's {theirs}" for said, ours, theirs in pairs if ours != theirs)
    version = (f"it is PostgreSQL {engine.major}, the server PostgreSQL {server.major}",) if engine.major != server.major else ()
    libraries: list[tuple[Library, str, str, str]] = [
        ("default", "the database's collation", engine.version, server.version),
        ("libc", "libc's collations", engine.libc, server.libc),
        ("icu", "ICU's collations", engine.icu, server.icu),
    ]
    collations = tuple(
        (library, f"the version of {what} is {ours or 'unknown'} in the engine and {theirs or 'unknown'} in the server")
        for library, what, ours, theirs in libraries
        if ours != theirs
    )
    return Comparison(locale, version, collations)
