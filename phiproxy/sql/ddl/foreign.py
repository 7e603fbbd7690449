"""Foreign keys between protected columns of one domain: over generated columns that hold their tags (crypto.md section 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from phiproxy.index.spelling import IDENTITY
from phiproxy.policy.catalog import Relation
from phiproxy.policy.guards import hidden_column, hidden_name
from phiproxy.policy.names import quote_ident, shorten
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.definition import Definition
from phiproxy.sql.ddl.keys import Columns, slot_of
from phiproxy.sql.ddl.names import chosen
from phiproxy.sql.parse import Node, location, strings

_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


def concerns(a: Analysis, constraint: Node, names: list[str], columns: Columns) -> bool:
    """Tell whether a FOREIGN KEY refers from or to a protected column."""
    other = constraint["pktable"]
    tables = a.context.protection.tables
    referenced = [t for t in tables if t.name == other["relname"] and other.get("schemaname", t.schema) == t.schema]
    theirs = strings(constraint.get("pk_attrs"))
    return any(n in columns for n in names) or any(n in t.columns for t in referenced for n in theirs)


def hidden_columns(relation: Relation, column: ProtectedColumn) -> list[tuple[str, int]]:
    """Return the generated columns of a column's tags that a table has, and which tags these are."""
    names = ((hidden_name(column, slot.number), slot.number) for slot in column.slots)
    return [(name, number) for name, number in names if relation.column(name) is not None]


def foreign_key(
    definition: Definition, columns: Columns, own: Relation, constraint: Node, names: list[str], taken: Collection[str]
) -> list[str]:
    """Return the statements that stand for a FOREIGN KEY of table ``own``, which may have no columns yet."""
    a, other = definition.a, constraint["pktable"]
    definition.edits = [e for e in definition.edits if (e.start, e.end) != (location(other), location(other))]
    theirs = strings(constraint.get("pk_attrs"))
    if (other["relname"], other.get("schemaname", own.schema)) == (own.name, own.schema) and not own.columns:
        raise a.refuse("a table with a foreign key to itself is not in this version", constraint, hint="Add it by ALTER TABLE.")
    found = a.target_relation(other)
    table = a.protected(found)
    if len(names) != 1 or len(theirs) != 1:
        raise a.refuse(
            "a foreign key over a protected column has one column on each side, written out", constraint, hint="Write them out."
        )
    mine, yours = columns.get(names[0]), table.columns.get(theirs[0]) if table is not None else None
    if mine is None or yours is None or mine.identity != yours.identity:
        text = f"a foreign key from {names[0]} to {found.qualified}.{theirs[0]} joins protected values to others"
        raise a.refuse(text, constraint, hint="Put both columns into one domain in the policy.")
    _check_actions(a, constraint)
    if not any(i.unique and i.columns == (yours.name,) for i in found.indexes):
        text = f"there is no unique constraint over {yours.label} alone that this statement could see"
        raise a.refuse(text, constraint, hint=f"UNIQUE ({quote_ident(yours.name)}) first, in a statement of its own.")
    return _statements(a, (own, mine), (found, yours), constraint, taken)


def _check_actions(a: Analysis, constraint: Node) -> None:
    delete, update = (_ACTIONS[constraint.get(key, "a")] for key in ("fk_del_action", "fk_upd_action"))
    if delete.startswith("SET") or update not in ("NO ACTION", "RESTRICT"):
        text = f"a foreign key over a protected column cannot have ON DELETE {delete} ON UPDATE {update}"
        raise a.refuse(text, constraint, hint="NO ACTION and RESTRICT, and ON DELETE CASCADE, work.")


def _statements(
    a: Analysis,
    mine: tuple[Relation, ProtectedColumn],
    yours: tuple[Relation, ProtectedColumn],
    constraint: Node,
    taken: Collection[str],
) -> list[str]:
    made: list[str] = []
    hidden = []
    for relation, column in (yours, mine):
        slot = slot_of(a, column, IDENTITY, constraint)
        name = hidden_name(column, slot.number)
        hidden.append(quote_ident(name))
        if relation.column(name) is None:
            made.append(f"ALTER TABLE {_full(relation)} ADD COLUMN {hidden_column(column, slot)}")
    if mine[0].oid == yours[0].oid and mine[1] == yours[1]:
        del made[1:]
    digest = hashlib.sha256(repr((yours[1].table, hidden[0])).encode()).hexdigest()[:8]
    key = shorten(f"phi_tag_key_{yours[0].name}_{yours[1].name}", digest)
    if yours[0].index(key) is None:
        made.append(f"CREATE UNIQUE INDEX {quote_ident(key)} ON {_full(yours[0])} ({hidden[0]})")
    name = constraint.get("conname") or chosen(mine[0].name, [mine[1].name], "fkey", taken)
    text = f"ALTER TABLE {_full(mine[0])} ADD CONSTRAINT {quote_ident(name)} FOREIGN KEY ({hidden[1]})"
    text += f" REFERENCES {_full(yours[0])} ({hidden[0]})"
    text += (
        f" ON DELETE {_ACTIONS[constraint.get('fk_del_action', 'a')]} ON UPDATE {_ACTIONS[constraint.get('fk_upd_action', 'a')]}"
    )
    text += " DEFERRABLE" if constraint.get("deferrable") else ""
    text += " INITIALLY DEFERRED" if constraint.get("initdeferred") else ""
    return [*made, text + (" NOT VALID" if constraint.get("skip_validation") and mine[0].oid else "")]


def _full(relation: Relation) -> str:
    return f"{quote_ident(relation.schema)}.{quote_ident(relation.name)}"
