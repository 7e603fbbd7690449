"""The registry's tables as SQL (spec/stored-format 3.6), every name qualified and quoted: no search_path matters; knows no rows."""

from typing import Final, get_args

from psycopg import sql

from phiproxy.crypto.keyring import KeyState
from phiproxy.keys.provider import Purpose
from phiproxy.policy.protection import SlotState

FORMAT: Final = 2
"""Of the tables; ``meta.format``. 1 had no manifests (docs/registry.md)."""

TABLES: Final = (
    "meta", "identity", "column_name", "slot", "root_key", "root_wrap", "data_key",
    "event", "proxy", "announcement", "counter", "manifest", "clear_column", "observation", "job", "job_progress", "hold",
)  # fmt: skip


def _one_of(values: tuple[str, ...]) -> sql.Composable:
    return sql.SQL("({})").format(sql.SQL(", ").join(sql.Literal(v) for v in values))


def table(schema: str, name: str) -> sql.Identifier:
    """Return ``"schema"."name"``, quoted."""
    return sql.Identifier(schema, name)


# Slot state, key state and purpose are those of the code; a number that has no place in the stored format is refused
# here too.
_DDL = """
CREATE TABLE {meta} (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  format integer NOT NULL CHECK (format > 0),
  deployment text NOT NULL CHECK (deployment <> ''),
  epoch bigint NOT NULL DEFAULT 1 CHECK (epoch > 0),
  "collation" text
);
CREATE TABLE {identity} (
  number integer PRIMARY KEY CHECK (number BETWEEN 1 AND 65535),
  identity text NOT NULL UNIQUE CHECK (identity ~ '^[cd]:.'),
  scope text NOT NULL CHECK (scope ~ '^[dt]:.'),
  type text NOT NULL CHECK (type <> '')
);
CREATE TABLE {column_name} (
  "schema" text NOT NULL,
  "table" text NOT NULL,
  "column" text NOT NULL,
  number integer NOT NULL REFERENCES {identity},
  PRIMARY KEY ("schema", "table", "column")
);
CREATE TABLE {slot} (
  number integer NOT NULL REFERENCES {identity},
  slot integer NOT NULL CHECK (slot BETWEEN 0 AND 254),
  expression text NOT NULL CHECK (expression <> ''),
  normaliser integer NOT NULL CHECK (normaliser BETWEEN 1 AND 255),
  family text,
  generation integer NOT NULL CHECK (generation BETWEEN 1 AND 255),
  state text NOT NULL CHECK (state IN {slot_states}),
  PRIMARY KEY (number, slot)
);
CREATE UNIQUE INDEX slot_one_active ON {slot} (number, expression) WHERE state = 'active';
CREATE UNIQUE INDEX slot_one_per_generation ON {slot} (number, expression, generation) WHERE state <> 'dropped';
CREATE TABLE {root_key} (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scope text NOT NULL,
  tenant text NOT NULL,
  purpose text NOT NULL CHECK (purpose IN {purposes}),
  generation integer NOT NULL CHECK (generation > 0),
  state text NOT NULL CHECK (state IN {key_states}),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  format integer NOT NULL CHECK (format >= 2),
  UNIQUE (scope, tenant, purpose, generation)
);
CREATE UNIQUE INDEX root_key_one_active ON {root_key} (scope, tenant, purpose) WHERE state = 'active';
CREATE TABLE {root_wrap} (
  root_id integer NOT NULL REFERENCES {root_key},
  kek_uri text NOT NULL,
  kek_version text NOT NULL,
  blob bytea NOT NULL,
  verified_at timestamptz NOT NULL,
  PRIMARY KEY (root_id, kek_uri, kek_version)
);
CREATE TABLE {data_key} (
  id bigint PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967295),
  root_id integer NOT NULL REFERENCES {root_key},
  generation integer NOT NULL CHECK (generation > 0),
  wrapped bytea NOT NULL CHECK (octet_length(wrapped) = 40 OR state = 'destroyed'),
  state text NOT NULL CHECK (state IN {key_states}),
  used bigint NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND max_uses),
  max_uses bigint NOT NULL CHECK (max_uses > 0),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  mac bytea NOT NULL CHECK (octet_length(mac) = 32),
  format integer NOT NULL CHECK (format >= 2),
  UNIQUE (root_id, generation)
);
CREATE UNIQUE INDEX data_key_one_active ON {data_key} (root_id) WHERE state = 'active';
CREATE TABLE {event} (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  database_user text NOT NULL DEFAULT session_user,
  os_user text NOT NULL,
  what text NOT NULL,
  subject text NOT NULL,
  "from" text,
  "to" text
);
REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM PUBLIC;
REVOKE ALL ON SCHEMA {schema} FROM PUBLIC;
"""


# Of those that serve the database, and of jobs over its tables: a registry that is older than they are gets them at the next
# `keys init`, or with its first job.
_MEMBERS = """
CREATE TABLE IF NOT EXISTS {proxy} (
  id bigint PRIMARY KEY,
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  epoch bigint NOT NULL,
  heard bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS {announcement} (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  names text[] NOT NULL
);
CREATE TABLE IF NOT EXISTS {hold} (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  ends_at timestamptz NOT NULL,
  backend integer NOT NULL DEFAULT pg_backend_pid(),
  names text[] NOT NULL DEFAULT '{{}}',
  confirmed bigint[] NOT NULL DEFAULT '{{}}'
);
CREATE TABLE IF NOT EXISTS {job} (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL CHECK (kind <> ''),
  target text NOT NULL,
  options text NOT NULL,
  state text NOT NULL CHECK (state IN ('running', 'paused', 'done', 'aborted', 'failed')),
  who text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS {job_progress} (
  job integer PRIMARY KEY REFERENCES {job} ON DELETE CASCADE,
  phase text NOT NULL DEFAULT '',
  relation text NOT NULL DEFAULT '',
  "cursor" text[],
  counts text NOT NULL DEFAULT '{{}}',
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


# Of tables that hold plaintext yet. A column is left in clear only where a row of ``clear_column`` says so, which is authenticated:
# whoever changes a column's type past phiproxy does not make proxies send values in clear. What was observed of statements says
# nothing that anybody goes by but people.
_CLEAR = """
CREATE TABLE IF NOT EXISTS {clear_column} (
  "schema" text NOT NULL,
  "table" text NOT NULL,
  "column" text NOT NULL,
  PRIMARY KEY ("schema", "table", "column")
);
CREATE TABLE IF NOT EXISTS {observation} (
  digest bytea PRIMARY KEY CHECK (octet_length(digest) = 16),
  shape text NOT NULL,
  answer text NOT NULL,
  sqlstate text NOT NULL,
  reason text NOT NULL,
  hint text NOT NULL,
  indexes text[] NOT NULL,
  columns text[] NOT NULL,
  sent bigint NOT NULL CHECK (sent > 0),
  first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


# What authenticates the rows. Keys of format 1 have no place in a manifest: its programs cannot insert any from then on, since they
# give no value to ``format``, and do not seal under keys that nobody believes.
_MANIFESTS = """
CREATE TABLE {counter} (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  value bigint NOT NULL CHECK (value > 0),
  groups bytea NOT NULL,
  mac bytea NOT NULL CHECK (octet_length(mac) = 32)
);
CREATE TABLE {manifest} (
  group_name text PRIMARY KEY,
  counter bigint NOT NULL CHECK (counter > 0),
  entries bytea NOT NULL,
  mac bytea NOT NULL CHECK (octet_length(mac) = 32)
);
"""

_UPGRADE = """
ALTER TABLE {root_key} DROP CONSTRAINT root_key_purpose_check, ADD CONSTRAINT root_key_purpose_check CHECK (purpose IN {purposes}),
  ADD COLUMN format integer NOT NULL DEFAULT 2 CHECK (format >= 2);
ALTER TABLE {root_key} ALTER COLUMN format DROP DEFAULT;
ALTER TABLE {data_key} ADD COLUMN format integer NOT NULL DEFAULT 2 CHECK (format >= 2);
ALTER TABLE {data_key} ALTER COLUMN format DROP DEFAULT;
ALTER TABLE {meta} ADD COLUMN IF NOT EXISTS "collation" text;
UPDATE {meta} SET format = 2 WHERE format = 1;
"""


def _statements(text: str, schema: str) -> sql.Composed:
    return sql.SQL(text).format(
        schema=sql.Identifier(schema),
        slot_states=_one_of(get_args(SlotState)),
        key_states=_one_of(get_args(KeyState)),
        purposes=_one_of(get_args(Purpose)),
        **{name: table(schema, name) for name in TABLES},
    )


def upgrade_tables(schema: str) -> sql.Composed:
    """Return the statements that make the tables of format 1 those of format 2."""
    return _statements(_MANIFESTS + _UPGRADE, schema)


def create_members(schema: str) -> sql.Composed:
    """Return the statements that make the tables that a registry of an older version lacks, where they are not there."""
    return _statements(_MEMBERS + _CLEAR, schema)


def create_schema(schema: str) -> sql.Composed:
    """Return the statement that makes the registry's schema, for when it does not exist."""
    return _statements("CREATE SCHEMA {schema}", schema)


def create_tables(schema: str) -> sql.Composed:
    """Return the statements, separated by semicolons, that make all tables and take every privilege from PUBLIC."""
    return _statements(_MEMBERS + _MANIFESTS + _CLEAR + _DDL, schema)


# Objects of the registry on which a role other than their owner has a privilege, or which another role owns: rows of
# (name, role).
FOREIGN_PRIVILEGES: Final = """
SELECT o.name, pg_catalog.pg_get_userbyid(o.owner) AS role
  FROM (SELECT nspname AS name, nspowner AS owner FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s
        UNION ALL
        SELECT c.relname, c.relowner FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = %(schema)s) o
 WHERE pg_catalog.pg_get_userbyid(o.owner) <> current_user
UNION ALL
SELECT o.name, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(a.grantee) END
  FROM (SELECT nspname AS name, nspowner AS owner, nspacl AS acl FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s
        UNION ALL
        SELECT c.relname, c.relowner, c.relacl FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(schema)s) o,
       LATERAL pg_catalog.aclexplode(o.acl) a
 WHERE a.grantee <> o.owner
"""
