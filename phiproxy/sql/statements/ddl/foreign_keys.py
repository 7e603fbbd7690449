"""Foreign keys between protected columns of one domain, over generated columns with their tags (spec/stored-format 1.2)."""

import hashlib
from collections.abc import Collection

from phiproxy.index.spelling import IDENTITY
from phiproxy.policy.catalog import CatalogIndex, Relation
from phiproxy.policy.identifiers import quote_ident, shorten
from phiproxy.policy.physical_columns import hidden_column, hidden_name
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.physical_form import Definition
from phiproxy.sql.statements.ddl.unique_keys import Columns, chosen, slot_of
from phiproxy.sql.table_names import protected_table, target_relation, will_mean
from phiproxy.sql.text.parse import Node, location, strings

KEY_PREFIX = "phi_tag_key_"
_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


# A column of one side of a foreign key, and the protected column that it is.
_Named = tuple[str, ProtectedColumn | None]


def concerns(a: Analysis, constraint: Node, names: list[str], columns: Columns) -> bool:
    """Tell whether a FOREIGN KEY refers from or to a protected column."""
    other = constraint["pktable"]
    tables = a.context.protection.tables
    referenced = [t for t in tables if t.name == other["relname"] and other.get("schemaname", t.schema) == t.schema]
    theirs = strings(constraint.get("pk_attrs"))
    return any(n in columns for n in names) or any(n in t.columns for t in referenced for n in theirs)


def hidden_columns(relation: Relation, column: ProtectedColumn) -> list[tuple[str, int]]:
    """Return the generated columns with a column's tags that a table has, with the slot numbers."""
    names = ((hidden_name(column, slot.number), slot.number) for slot in column.slots)
    return [(name, number) for name, number in names if relation.column(name) is not None]


def key_indexes(relation: Relation, columns: Columns, names: Collection[str]) -> list[str]:
    """Return the unique indexes on generated columns that foreign keys to these columns use."""
    tags = {name: {hidden for hidden, _ in hidden_columns(relation, columns[name])} for name in names if name in columns}
    indexes = (i for i in relation.indexes if i.unique and i.name.startswith(KEY_PREFIX) and len(i.columns) == len(names))
    return [i.name for i in indexes if all(any(c in tags.get(name, {name}) for c in i.columns) for name in names)]


def keys_behind(relation: Relation, columns: Columns, index: CatalogIndex) -> list[str]:
    """Return the indexes on generated columns that are not needed once a unique index is dropped.

    None while another one is on the columns. Foreign keys depend on them: the server refuses to drop them, or drops both.
    """
    others = (i for i in relation.indexes if i.unique and i.name != index.name)
    last = all(set(i.columns) != set(index.columns) for i in others)
    return key_indexes(relation, columns, index.columns) if last else []


def foreign_key(
    definition: Definition, columns: Columns, own: Relation, constraint: Node, names: list[str], taken: Collection[str]
) -> list[str]:
    """Return the statements that replace a FOREIGN KEY of table ``own``, which may not exist yet.

    ALTER TABLE patients ADD FOREIGN KEY (mrn) REFERENCES members (mrn)
    → ALTER TABLE public.members ADD COLUMN phi_tag_mrn_0 bytea GENERATED ALWAYS AS (tag(mrn)) STORED; ALTER TABLE
      public.patients ADD COLUMN phi_tag_mrn_0 …; CREATE UNIQUE INDEX phi_tag_key_members_mrn ON public.members
      (phi_tag_mrn_0); ALTER TABLE public.patients ADD CONSTRAINT patients_mrn_fkey FOREIGN KEY (phi_tag_mrn_0) REFERENCES
      public.members (phi_tag_mrn_0) …
    """
    a, other = definition.a, constraint["pktable"]
    definition.edits = [e for e in definition.edits if (e.start, e.end) != (location(other), location(other))]
    theirs = strings(constraint.get("pk_attrs"))
    referenced = own if not own.oid and will_mean(a, other, (own.schema, own.name)) else target_relation(a, other)
    table = protected_table(a, referenced)
    if len(names) != len(theirs):
        raise a.refuse("a foreign key over a protected column names the columns of both sides", constraint, hint="Write them out.")
    sides: tuple[list[_Named], list[_Named]] = ([], [])
    for name, their in zip(names, theirs, strict=True):
        mine, yours = columns.get(name), table.columns.get(their) if table is not None else None
        if (mine and mine.identity) != (yours and yours.identity):
            text = f"a foreign key from {name} to {referenced.qualified}.{their} joins protected values to others"
            raise a.refuse(text, constraint, hint="Put both columns into one domain in the policy.")
        sides[0].append((their, yours))
        sides[1].append((name, mine))
    _check_actions(a, constraint)
    if not any(i.unique and set(i.columns) == set(theirs) for i in referenced.indexes):
        over = f"{', '.join(theirs)} of {referenced.qualified}"
        text = f"there is no unique constraint over {over} alone that this statement could see"
        listed = ", ".join(map(quote_ident, theirs))
        raise a.refuse(text, constraint, hint=f"UNIQUE ({listed}) first, in a statement of its own.")
    return _statements(a, (referenced, own), sides, constraint, taken)


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
    a: Analysis,
    tables: tuple[Relation, Relation],
    named: tuple[list[_Named], list[_Named]],
    constraint: Node,
    taken: Collection[str],
) -> list[str]:
    (referenced, own), statements, sides = tables, list[str](), []
    for relation, columns in zip(tables, named, strict=True):
        keys = []
        for name, column in columns:
            if column is None:
                keys.append(quote_ident(name))
                continue
            slot = slot_of(a, column, IDENTITY, constraint)
            keys.append(quote_ident(hidden_name(column, slot.number)))
            if relation.column(hidden_name(column, slot.number)) is None:
                statements.append(f"ALTER TABLE {_full(relation)} ADD COLUMN {hidden_column(column, slot)}")
        sides.append(", ".join(keys))
    statements = list(dict.fromkeys(statements))
    digest = hashlib.sha256(repr((referenced.name, sides[0])).encode()).hexdigest()[:8]
    key = shorten(f"{KEY_PREFIX}{referenced.name}_{'_'.join(their for their, _ in named[0])}", digest)
    if referenced.index(key) is None:
        statements.append(f"CREATE UNIQUE INDEX {quote_ident(key)} ON {_full(referenced)} ({sides[0]})")
    name = constraint.get("conname") or chosen(own.name, [n for n, _ in named[1]], "fkey", taken)
    text = f"ALTER TABLE {_full(own)} ADD CONSTRAINT {quote_ident(name)} FOREIGN KEY ({sides[1]})"
    text += f" REFERENCES {_full(referenced)} ({sides[0]})"
    text += " MATCH FULL" if constraint.get("fk_matchtype") == "f" else ""
    text += (
        f" ON DELETE {_ACTIONS[constraint.get('fk_del_action', 'a')]} ON UPDATE {_ACTIONS[constraint.get('fk_upd_action', 'a')]}"
    )
    text += " DEFERRABLE" if constraint.get("deferrable") else ""
    text += " INITIALLY DEFERRED" if constraint.get("initdeferred") else ""
    return [*statements, text + (" NOT VALID" if constraint.get("skip_validation") and own.oid else "")]


def _full(relation: Relation) -> str:
    return f"{quote_ident(relation.schema)}.{quote_ident(relation.name)}"
