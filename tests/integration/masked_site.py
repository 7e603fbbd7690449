"""A clinic with rules about who sees what, and roles that see more or less of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.harness.server import PostgresServer, cheap_verifier
from tests.harness.site import Site, open_site

Connection = psycopg.Connection[tuple[Any, ...]]

POLICY = """\
database: {database}
deployment: masks-test
domains:
  mrn: {type: varchar(12), indexes: [value], distinct: 1000000}
tables:
  public.people:
    columns:
      mrn:   {domain: mrn}
      ssn:   {type: text, indexes: [ssn, "right(ssn, 4)", "left(ssn, 3)"], distinct: 100000000, accept_leakage: "the tests"}
      name:  {type: text, indexes: [name, "lower(name)"], distinct: 1000000}
      born:  {type: date, indexes: [born], distinct: 30000, accept_leakage: "the tests"}
      email: {type: text}
      zip:   {type: char(5)}
      age:   {type: int4}
      seen:  {type: timestamptz}
      token: {type: uuid}
      doc:
        type: jsonb
        fields:
          "$.ssn":         {type: text, indexes: [value], distinct: 100000000}
          "$.born":        {type: date}
          "$.name.given":  {type: text}
          "$.name.family": {type: text, indexes: [value], distinct: 1000000}
          "$.notes[*].is": {type: text}
        others: clear
  public.calls:
    columns:
      mrn:  {domain: mrn}
      note: {type: text}
access:
  rules:
    - {roles: [mask_nurse], columns: [public.people.ssn], show: last(4)}
    - {roles: [mask_nurse], columns: [public.people.born], show: year}
    - {roles: ["mask_res%"], tables: [public.people], show: "null"}
    - {roles: ["mask_res%"], columns: [public.people.name], show: pseudonym}
    - {roles: [mask_safe], columns: [public.people.ssn], show: "partial(1, 2)"}
    - {roles: [mask_safe], columns: [public.people.name], show: fixed(***)}
    - {roles: [mask_safe], columns: [public.people.born, public.people.age], show: age90}
    - {roles: [mask_safe], columns: [public.people.email], show: email}
    - {roles: [mask_safe], columns: [public.people.zip], show: zip3}
    - {roles: [mask_safe], columns: [public.people.seen], show: month}
    - {roles: [mask_safe], columns: [public.people.token], show: pseudonym}
    - {roles: [mask_dba], tables: ["*"], show: deny}
    - {roles: [mask_nurse], fields: {public.people.doc: ["$.ssn"]}, show: last(4)}
    - {roles: [mask_nurse], fields: {public.people.doc: ["$.born"]}, show: year}
    - {roles: [mask_nurse], fields: {public.people.doc: ["$.name.given", "$.notes[*].is"]}, show: "null"}
"""

DDL = """\
CREATE TABLE people (
    id int PRIMARY KEY, mrn varchar(12), ssn text UNIQUE, name text, born date, email text, zip char(5), age int,
    city text, seen timestamptz, token uuid, doc jsonb
);
CREATE TABLE calls (id int PRIMARY KEY, person int REFERENCES people (id), mrn varchar(12), note text);
"""
VIEW = "CREATE VIEW everybody AS SELECT id, ssn, name, city, doc->>'ssn' AS number, doc->'name' AS names FROM people"

_RELOADED = ('"reloaded"', "reload failed")
ROLES = ("mask_safe", "mask_nurse", "mask_research", "mask_dba", "mask_clerk", "mask_team", "mask_pool")


@dataclass
class MaskedSite:
    """The site, and a way to be one of its roles."""

    site: Site
    password: str = "mask"
    _kept: dict[str, Connection] = field(default_factory=dict)

    def dsn(self, role: str) -> str:
        """Return where a role connects through the proxy."""
        return self.site.proxy.dsn(self.site.sealed, role, self.password)

    @contextmanager
    def as_role(self, role: str, **options: Any) -> Iterator[Connection]:
        """Connect as a role, through the proxy."""
        with psycopg.connect(self.dsn(role), autocommit=True, **options) as conn:
            yield conn

    @contextmanager
    def kept(self, role: str) -> Iterator[Connection]:
        """A session of a role that others had before, and forgets what they left in it: a login costs more than most statements."""
        conn = self._kept.pop(role, None) or psycopg.connect(self.dsn(role), autocommit=True)
        try:
            yield conn
            if conn.closed:
                return
            conn.execute("ROLLBACK", prepare=False)
            conn.execute("DISCARD ALL", prepare=False)
            conn._prepared.clear()  # what psycopg has prepared is gone too
        except BaseException:
            conn.close()
            raise
        self._kept[role] = conn

    def close(self) -> None:
        """Close what is kept."""
        for conn in self._kept.values():
            conn.close()

    @contextmanager
    def as_owner(self) -> Iterator[Connection]:
        """Connect as the tables' owner, who sees everything, through the proxy."""
        with psycopg.connect(self.site.proxy_dsn, autocommit=True) as conn:
            yield conn

    def reload(self) -> None:
        """Have the proxy read its files again, and wait until it has said how that went."""
        process, log = self.site.proxy.process, self.site.proxy.log_path
        assert process is not None
        before = sum(log.read_text().count(said) for said in _RELOADED)
        os.kill(process.pid, signal.SIGHUP)
        deadline = time.monotonic() + 240
        while sum(log.read_text().count(said) for said in _RELOADED) == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def admin(self, statement: str, database: str | None = None) -> None:
        """Run a statement as superuser, past the proxy."""
        with self.site.server.connect(database or self.site.sealed) as conn:
            conn.execute(statement.encode())


@contextmanager
def open_masked_site(
    server: PostgresServer,
    directory: Path,
    *,
    policy: str = POLICY,
    ddl: str = DDL,
    settings: str = "",
    view: str = VIEW,
    types: str = "",
) -> Iterator[MaskedSite]:
    """Set up the clinic with its roles: all of them may read and write all tables."""
    with server.connect() as conn:
        for role in ROLES:
            conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
            conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), cheap_verifier("mask")))
        conn.execute("GRANT mask_nurse TO mask_team")
        conn.execute("GRANT mask_nurse, mask_clerk, mask_dba, mask_research TO mask_pool")
    try:
        with open_site(server, directory, policy=policy, ddl=ddl, serve=False, settings=settings, types=types) as site:
            site.cli("keys", "init")
            site.proxy.start()
            masked = MaskedSite(site)
            with masked.as_owner() as conn:
                conn.execute(view.encode())
            names = ", ".join(ROLES)
            masked.admin(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {names}; GRANT ALL ON SCHEMA public TO {names}")
            try:
                yield masked
            finally:
                masked.close()
    finally:
        with server.connect() as conn:
            for role in ROLES:
                conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
