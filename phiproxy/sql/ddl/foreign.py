"""Foreign keys between protected columns of one domain: over generated columns that hold their tags (crypto.md section 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from phiproxy.index.spelling import IDENTITY
from phiproxy.policy.catalog import CatalogIndex, Relation
from phiproxy.policy.guards import hidden_column, hidden_name
from phiproxy.policy.names import quote_ident, shorten
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.definition import Definition
from phiproxy.sql.ddl.keys import Columns, slot_of
from phiproxy.sql.ddl.names import chosen
from phiproxy.sql.parse import Node, location, strings

KEY_PREFIX = "phi_tag_key_"
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


def key_indexes(relation: Relation, columns: Columns, names: Collection[str]) -> list[str]:
    """Return the unique indexes over generated columns that foreign keys to these columns of a table were given."""
    tags = {name: {hidden for hidden, _ in hidden_columns(relation, columns[name])} for name in names if name in columns}
    found = (i for i in relation.indexes if i.unique and i.name.startswith(KEY_PREFIX) and len(i.columns) == len(names))
    return [i.name for i in found if all(any(c in tags.get(name, {name}) for c in i.columns) for name in names)]


def keys_behind(relation: Relation, columns: Columns, index: CatalogIndex) -> list[str]:
    """Return the indexes that are needed no more once a unique index is dropped; none where another one is over the same columns.

    On these, foreign keys depend: the server refuses to drop them, or drops the keys too.
    """
    others = (i for i in relation.indexes if i.unique and i.name != index.name)
    last = all(set(i.columns) != set(index.columns) for i in others)
    return key_indexes(relation, columns, index.columns) if last else []


def foreign_key(
    definition: Definition, columns: Columns, own: Relation, constraint: Node, names: list[str], taken: Collection[str]
) -> list[str]:
    """Return the statements that stand for a FOREIGN KEY of table ``own``, which may have no columns yet."""
    a, other = definition.a, constraint["pktable"]
    definition.edits = [e for e in definition.edits if (e.start, e.end) != (location(other), location(other))]
    theirs = strings(constraint.get("pk_attrs"))
    found = own if not own.oid and a.will_mean(other, (own.schema, own.name)) else a.target_relation(other)
    table = a.protected(found)
    if len(names) != len(theirs):
        raise a.refuse("a foreign key over a protected column names the columns of both sides", constraint, hint="Write them out.")
    pairs = []
    for name, their in zip(names, theirs, strict=True):
        mine, yours = columns.get(name), table.columns.get(their) if table is not None else None
        if (mine and mine.identity) != (yours and yours.identity):
            text = f"a foreign key from {name} to {found.qualified}.{their} joins protected values to others"
            raise a.refuse(text, constraint, hint="Put both columns into one domain in the policy.")
        pairs.append(_Pair(name, their, mine, yours))
    _check_actions(a, constraint)
    if not any(i.unique and set(i.columns) == set(theirs) for i in found.indexes):
        text = f"there is no unique constraint over {', '.join(theirs)} of {found.qualified} alone that this statement could see"
        listed = ", ".join(map(quote_ident, theirs))
        raise a.refuse(text, constraint, hint=f"UNIQUE ({listed}) first, in a statement of its own.")
    return _statements(a, own, found, pairs, constraint, taken)


@dataclass(frozen=True, slots=True)
class _Pair:
    """One column of a foreign key and the one it refers to, by name, and where they are protected."""

    name: str
    their: str
    mine: ProtectedColumn | None
    yours: ProtectedColumn | None


def _check_actions(a: Analysis, constraint: Node) -> None:
    delete, update = (_ACTIONS[constraint.get(key, "a")] for key in ("fk_del_action", "fk_upd_action"))
    if delete.startswith("SET") or update not in ("NO ACTION", "RESTRICT"):
        hint = "NO ACTION and RESTRICT, and ON DELETE CASCADE, work."
        if delete.startswith("SET"):
            hint += (
                " The key is over generated columns, which nobody can set: let the application UPDATE the rows before it deletes."
            )
        text = f"a foreign key over a protected column cannot have ON DELETE {delete} ON UPDATE {update}"
        raise a.refuse(text, constraint, hint=hint)


def _statements(
    a: Analysis, own: Relation, found: Relation, pairs: list[_Pair], constraint: Node, taken: Collection[str]
) -> list[str]:
    made: list[str] = []
    sides = []
    for relation, columns in ((found, [(p.their, p.yours) for p in pairs]), (own, [(p.name, p.mine) for p in pairs])):
        keys = []
        for name, column in columns:
            if column is None:
                keys.append(quote_ident(name))
                continue
            slot = slot_of(a, column, IDENTITY, constraint)
            keys.append(quote_ident(hidden_name(column, slot.number)))
            if relation.column(hidden_name(column, slot.number)) is None:
                made.append(f"ALTER TABLE {_full(relation)} ADD COLUMN {hidden_column(column, slot)}")
        sides.append(", ".join(keys))
    made = list(dict.fromkeys(made))
    digest = hashlib.sha256(repr((found.name, sides[0])).encode()).hexdigest()[:8]
    key = shorten(f"{KEY_PREFIX}{found.name}_{'_'.join(p.their for p in pairs)}", digest)
    if found.index(key) is None:
        made.append(f"CREATE UNIQUE INDEX {quote_ident(key)} ON {_full(found)} ({sides[0]})")
    name = constraint.get("conname") or chosen(own.name, [p.name for p in pairs], "fkey", taken)
    text = f"ALTER TABLE {_full(own)} ADD CONSTRAINT {quote_ident(name)} FOREIGN KEY ({sides[1]})"
    text += f" REFERENCES {_full(found)} ({sides[0]})"
    text += " MATCH FULL" if constraint.get("fk_matchtype") == "f" else ""
    text += (
        f" ON DELETE {_ACTIONS[constraint.get('fk_del_action', 'a')]} ON UPDATE {_ACTIONS[constraint.get('fk_upd_action', 'a')]}"
    )
    text += " DEFERRABLE" if constraint.get("deferrable") else ""
    text += " INITIALLY DEFERRED" if constraint.get("initdeferred") else ""
    return [*made, text + (" NOT VALID" if constraint.get("skip_validation") and own.oid else "")]


def _full(relation: Relation) -> str:
    return f"{quote_ident(relation.schema)}.{quote_ident(relation.name)}"
