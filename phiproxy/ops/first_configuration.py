"""The files that ``phiproxy init`` writes: phiproxy.yaml, policy.yaml with the reasons, and SQL for the proxy's role."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from phiproxy.ops.likely_columns import Proposal, shown
from phiproxy.policy.identifiers import quote_ident, yaml_text
from phiproxy.policy.setting_values import Address

ROLE = "phiproxy"
SCHEMA = "phiproxy"
PASSWORD_FILE = "service.password"  # noqa: S105 - the name of a file

_SETTINGS = """\
# yaml-language-server: $schema={schema}
# How this proxy runs. Every key, with its default: {example}
# Relative paths are relative to this file. Secrets never stand here: env:NAME or file:path.

listen: {listen}  # where applications connect, instead of to PostgreSQL

upstream:
  address: {upstream}
  tls: {tls}{tls_comment}

service:                              # the proxy's own login: made by role.sql, owns the key registry
  user: {role}
  password: file:{password_file}

keys:
  # The key that all others are wrapped with. A file is enough to try it; for patients' data take a key service:
  #   awskms:ARN | vault:MOUNT/KEY | pkcs11:token=LABEL;object=LABEL | rsa:PUBLIC.pem
  # Whoever has the file and the database can read all: keep them, and their backups, apart.
  kek: local:kek.json

policies: [policy.yaml]               # one file for each database

# A certificate lets clients use TLS (PEM files; SIGHUP reads them again):
# tls: {{mode: require, certificate: tls/server.pem, private_key: tls/server.key}}

metrics: {{listen: 127.0.0.1:9187}}     # /metrics /livez /readyz
"""

_POLICY = """\
# yaml-language-server: $schema={schema}
# What is protected in the database {database}. Written by `phiproxy init` from names and types of columns: names only suggest.
# Read every line, and delete, add or uncomment before `phiproxy keys init`:
# - Without an index a column can be stored and read, not searched. Each index is one expression that = IN and joins can ask for.
#   Indexes are chosen before the first load; `distinct` is how many different values are expected.
# - Of each index a thief of the database learns which rows are equal: `phiproxy check` says how much that is.
# - `pad` rounds lengths up, so that they tell less.
database: {quoted}
deployment: {quoted}  # bound into every stored value: it never changes, also if the database is renamed
"""


def _yaml_address(address: Address) -> str:
    text = str(address)
    return text if re.fullmatch(r"[\w.:/-]+", text) else json.dumps(text, ensure_ascii=False)


def _comment(text: str) -> str:
    """Return a text on one line, whatever a name in it holds."""
    return " ".join(text.split())


def settings_text(*, listen: Address, upstream: Address, tls: str, tls_comment: str, schemas: Path) -> str:
    """Return phiproxy.yaml; ``schemas`` is the directory of examples and schemas that are installed."""
    return _SETTINGS.format(
        schema=schemas / "phiproxy.schema.json",
        example=schemas / "phiproxy.example.yaml",
        listen=_yaml_address(listen),
        upstream=_yaml_address(upstream),
        tls=tls,
        tls_comment=tls_comment,
        role=ROLE,
        password_file=PASSWORD_FILE,
    )


def policy_text(database: str, proposals: Sequence[Proposal], schemas: Path) -> str:
    """Return policy.yaml: what may be protected at once, and as comments what cannot, or is the reader's to decide."""
    schema = schemas / "policy.schema.json"
    lines = [_POLICY.format(schema=schema, database=json.dumps(database), quoted=yaml_text(database)).rstrip()]
    domains: dict[str, list[Proposal]] = {}
    for proposal in proposals:
        if proposal.domain is not None:
            domains.setdefault(proposal.domain, []).append(proposal)
    if domains:
        mark = "" if any(members[0].obstacle is None for members in domains.values()) else "# "
        lines.append(f"{mark}domains:  # one thing that several tables hold: only columns of one domain can be compared and joined")
    for name, members in domains.items():
        mark = "" if members[0].obstacle is None else "# "
        lines.append("  # " + _comment(", ".join(f"{m.column.table}.{m.column.name}" for m in members)))
        lines.append(f"  {mark}{yaml_text(name)}: {_body(members[0], 'value')}")
    lines.append("tables:" if any(p.obstacle is None for p in proposals) else "tables: {}")
    tables: dict[tuple[str, str], list[Proposal]] = {}
    for proposal in proposals:
        tables.setdefault((proposal.column.schema, proposal.column.table), []).append(proposal)
    for (namespace, table), group in tables.items():
        lines += _table(f"{quote_ident(namespace)}.{quote_ident(table)}", group)
    return "\n".join(lines) + "\n"


def _table(name: str, proposals: list[Proposal]) -> list[str]:
    column = proposals[0].column
    filled = "holds rows already" + (f", about {column.rows}" if column.rows else "") if column.filled else "empty"
    active = [p for p in proposals if p.obstacle is None]
    mark = "" if active else "# "
    lines = [f"  {mark}{yaml_text(name)}:  # {filled}", f"  {mark}  columns:"]
    for proposal in proposals:
        sealed = proposal.obstacle is None
        why = proposal.reason if sealed else f"{proposal.reason}; not protected: {proposal.obstacle}"
        body = f"{{domain: {yaml_text(proposal.domain)}}}" if proposal.domain is not None else _body(proposal, proposal.column.name)
        off = "" if sealed or mark else "# "
        lines += [f"  {mark}    # {_comment(why)}", f"  {mark}    {off}{yaml_text(quote_ident(proposal.column.name))}: {body}"]
    return lines


def _body(proposal: Proposal, column: str) -> str:
    parts = [f"type: {yaml_text(proposal.type)}"]
    if proposal.indexes:
        parts.append(f"indexes: [{', '.join(yaml_text(shown(index, column)) for index in proposal.indexes)}]")
        parts.append(f"distinct: {proposal.kind.distinct}")
    elif proposal.kind.pad is not None:
        parts.append(f"pad: {proposal.kind.pad}")
    return f"{{{', '.join(parts)}}}"


def role_text(database: str, proposals: Iterable[Proposal], password_file: Path) -> str:
    """Return the SQL that a superuser runs with psql: the proxy's role, and what it must be allowed, each with its reason."""
    role, columns = quote_ident(ROLE, always=True), [p.column for p in proposals if p.obstacle is None]
    tables = sorted({(c.schema, c.table) for c in columns})
    lines = [
        "-- The proxy's own role. Run by a superuser with psql, in the protected database; read it first.",
        f"\\set secret `cat {_shell(password_file)}`",
        f"SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{ROLE}') AS missing \\gset",
        "\\if :missing",
        f"CREATE ROLE {role} LOGIN;",
        "\\endif",
        f"ALTER ROLE {role} PASSWORD :'secret';",
        "-- it makes the schema of the key registry, and owns it",
        f"GRANT CONNECT, CREATE ON DATABASE {quote_ident(database, always=True)} TO {role};",
        "-- keys init locks the tables against writers while it looks whether they are empty; check counts distinct tags",
    ]
    lines += [f"GRANT USAGE ON SCHEMA {quote_ident(s, always=True)} TO {role};" for s in sorted({s for s, _ in tables})]
    lines += [f"GRANT SELECT, UPDATE ON {quote_ident(s, always=True)}.{quote_ident(t, always=True)} TO {role};" for s, t in tables]
    if any(c.row_security for c in columns):
        lines += ["-- some of the tables have row-level security", f"ALTER ROLE {role} BYPASSRLS;"]
    return "\n".join(lines) + "\n"


def _shell(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"
