"""Indexes over columns that are to be converted: each is built beside them by what it will go by, and takes the old one's name.

On the way in that is what ``CREATE INDEX`` through the proxy makes of the server's own definition; on the way back tags become the
expressions that they are of.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from phiproxy.documents.field_paths import ELEMENTS, parse_path
from phiproxy.jobs.index_settings import TABLESPACE, TARGETS, Targets
from phiproxy.jobs.physical_definitions import Converter
from phiproxy.jobs.relations import Connection, Part, TableName, rows_of
from phiproxy.jobs.renamed_columns import renamed_columns
from phiproxy.policy.condition_sql import expression_sql
from phiproxy.policy.identifiers import quote_ident, shorten, shown_expression
from phiproxy.policy.physical_columns import shadow_name, tag
from phiproxy.policy.physical_documents import bare_path, indexable, member
from phiproxy.policy.protection import ProtectedColumn, Slot, answering_slots

IDENTITY: Final = "@"
PRIMARY, UNIQUE = "phiproxy: PRIMARY KEY", "phiproxy: UNIQUE"
"""How the comment of a tag index begins that stands for such a constraint: the way back makes it one again."""
_OWN: Final = ("phi_todo_", "phi_next_")
OF_TAGS: Final = "phi_tag_idx_"


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """An index as the server prints it. ``constraint`` is the type of the constraint that it belongs to: p, u, x, or empty.

    ``parent`` is the index of the partitioned table that it is attached to. ``identity``: it is the table's replica identity.
    ``simple``: it is a btree over one key, over all rows. ``targets`` are those of its expressions for statistics, and
    ``tablespace`` is where it is, empty for the database's default; ``owner`` who may not make another one there.
    """

    name: str
    definition: str
    columns: frozenset[str]
    unique: bool
    constraint: str
    deferrable: bool
    parent: str | None
    comment: str | None
    identity: bool
    clustered: bool
    simple: bool
    targets: Targets = ()
    tablespace: str = ""
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class ConvertedIndex:
    """An index that is to be there after the switch, with its definition under its final name.

    ``beside`` is the same over the hidden columns, so that it can be built before. ``replaces``: an index of this name goes.
    """

    name: str
    definition: str
    beside: str
    replaces: StoredIndex | None = None
    parent: str | None = None
    comment: str | None = None
    targets: Targets = ()

    @property
    def tablespace(self) -> str | None:
        """Where it is: where the index is that it replaces."""
        return None if self.replaces is None else self.replaces.tablespace

    @property
    def unique(self) -> bool:
        """Whether it keeps values unique."""
        return self.definition.startswith("CREATE UNIQUE")


_INDEXES: Final = f"""
SELECT c.relname::text, pg_catalog.pg_get_indexdef(i.indexrelid),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = i.indrelid AND a.attnum > 0 AND (a.attnum = ANY (i.indkey) OR EXISTS (
                SELECT FROM pg_catalog.pg_depend p WHERE p.classid = 1259 AND p.objid = i.indexrelid
                   AND p.refclassid = 1259 AND p.refobjid = i.indrelid AND p.refobjsubid = a.attnum))),
       i.indisunique, coalesce(k.contype::text, ''), NOT i.indimmediate,
       (SELECT p.relname::text FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class p ON p.oid = h.inhparent
         WHERE h.inhrelid = i.indexrelid),
       coalesce(pg_catalog.obj_description(k.oid, 'pg_constraint'), pg_catalog.obj_description(i.indexrelid, 'pg_class')),
       i.indisreplident, i.indisclustered, m.amname = 'btree' AND i.indnatts = 1 AND i.indpred IS NULL AND i.indisvalid,
       {TARGETS}, {TABLESPACE},
       CASE WHEN c.reltablespace <> 0 AND NOT pg_catalog.has_tablespace_privilege(c.relowner, c.reltablespace, 'CREATE')
            THEN pg_catalog.pg_get_userbyid(c.relowner)::text END
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam
  LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
 WHERE i.indrelid = %s::oid ORDER BY c.relname
"""


async def indexes_over(conn: Connection, part: Part, columns: Collection[str]) -> list[StoredIndex]:
    """Return the indexes of a relation that touch one of these columns, but for those that a job has made; psycopg.Error."""
    wanted = set(columns)
    indexes = [StoredIndex(n, d, frozenset(c), *rest) for n, d, c, *rest in await rows_of(conn, _INDEXES, part.oid)]
    return [index for index in indexes if wanted & index.columns and not index.name.startswith(_OWN)]


def over_shadows(definition: str, columns: Iterable[ProtectedColumn]) -> str:
    """Return a definition in physical form over the columns beside: tags of ``ssn`` become those of ``phi_new_ssn``."""
    documents = []
    for column in columns:
        for each in indexable(column):
            shadow = each.named(shadow_name(column.name))
            for slot in each.slots:
                definition = definition.replace(tag(each, slot), tag(shadow, slot))
        documents += [column.name] if column.document is not None else []
    return _over_shadows_of(definition, documents)


def _over_shadows_of(definition: str, documents: Sequence[str]) -> str:
    """Return the definition of an index with these columns, of which the server reads what is in clear, as the hidden ones."""
    head, using, keys = definition.partition(" USING ")
    return head + using + renamed_columns(keys, {name: shadow_name(name) for name in documents}) if using else definition


async def tag_indexes(
    conn: Connection,
    family: Sequence[Part],
    columns: Sequence[ProtectedColumn],
    expressions: Mapping[str, Sequence[str]],
    converter: Converter,
    obstacles: list[str],
    resealed: Mapping[str, ProtectedColumn] = MappingProxyType({}),
) -> dict[TableName, tuple[ConvertedIndex, ...]]:
    """Return the indexes of a table's family on tags: those in place of plain ones, and one for each other blind index.

    ``expressions`` are those that the policy lists, by identity. Why one cannot be converted is added to ``obstacles``.
    ``resealed`` are documents that are sealed already, as they are, by their names: their indexes on tags go, and are made again
    over what will be there.
    """
    converted: dict[TableName, list[ConvertedIndex]] = {}
    parents, made = await partitioned_parents(conn, family), _OwnIndexes()
    for part in from_above(family, parents):
        own = converted.setdefault(part.name, [])
        there: dict[str, StoredIndex] = {}
        for stored in await indexes_over(conn, part, [c.name for c in columns]):
            if stored.columns <= set(resealed) and made.is_one(part, stored, parents):
                there[stored.name] = stored
                continue
            obstacles += _unplaced(part, stored)
            index = _with_opened(stored, columns, resealed)
            why = _unlike_a_tag_index(index) or _said(converter, index)
            if why is None:
                own.append(await _converted(index, columns, converter))
            else:
                what = f"{_KINDS.get(index.constraint, 'index')} {index.name} of {part.label}"
                obstacles.append(f"{what} cannot work on encrypted values: {why}")
        above = parents.get(part.name)
        for column in [each for protected in columns for each in indexable(protected)]:
            for slot in answering_slots(column.slots, expressions[column.identity]).values():
                name = None if above is None else _first_name(above, column, slot)
                of_parent = name if above is not None and any(index.name == name for index in converted[above.name]) else None
                if of_parent is not None or not any(_answers(index, column, slot) for index in own):
                    first = _first(part, column, slot, of_parent, columns)
                    own.append(replace(first, replaces=there.get(first.name)))
    return {name: tuple(indexes) for name, indexes in converted.items()}


class _OwnIndexes:
    """The indexes that only phiproxy has made; of a partition that was made since, the server has named what it has from above."""

    def __init__(self) -> None:
        self._found: set[tuple[TableName, str]] = set()

    def is_one(self, part: Part, index: StoredIndex, parents: Mapping[TableName, Part]) -> bool:
        """Tell it of an index of a relation; those of the tables above are to be asked for before."""
        above = parents.get(part.name)
        handed_down = above is not None and index.parent is not None and (above.name, index.parent) in self._found
        if handed_down or index.name.startswith(OF_TAGS):
            self._found.add((part.name, index.name))
        return (part.name, index.name) in self._found


def _unplaced(part: Part, index: StoredIndex) -> list[str]:
    """Say that none can be built where an index is."""
    if index.owner is None:
        return []
    may = f"{index.owner} may not make indexes in its tablespace: GRANT CREATE ON TABLESPACE {quote_ident(index.tablespace)}"
    return [f"index {index.name} of {part.label}: {may} TO {quote_ident(index.owner)}"]


def _with_opened(index: StoredIndex, columns: Iterable[ProtectedColumn], resealed: Mapping[str, ProtectedColumn]) -> StoredIndex:
    """Return an index as it reads when fields of documents, whose tags it has, are in clear."""
    definition = index.definition
    for column in [column for column in columns if column.name in resealed]:
        stays = {field.path for field in column.with_fields}
        opened = [field for field in resealed[column.name].with_fields if field.path not in stays]
        definition = opened_fields(definition, column, opened)
    return replace(index, definition=definition)


async def _converted(index: StoredIndex, columns: Sequence[ProtectedColumn], converter: Converter) -> ConvertedIndex:
    definition = await converter.definition(index.definition)
    comment = index.comment
    if index.constraint:
        kind = PRIMARY if index.constraint == "p" else UNIQUE
        comment = f"{kind}; {comment}" if comment else kind
    return ConvertedIndex(index.name, definition, over_shadows(definition, columns), index, index.parent, comment, index.targets)


def _first(
    part: Part, column: ProtectedColumn, slot: Slot, parent: str | None, columns: Sequence[ProtectedColumn]
) -> ConvertedIndex:
    name = _first_name(part, column, slot)
    only = "" if part.stores else "ONLY "
    definition = f"CREATE INDEX {quote_ident(name)} ON {only}{part.label} (({tag(column, slot)}))"
    return ConvertedIndex(name, definition, over_shadows(definition, columns), parent=parent)


_KINDS: Final = {"p": "PRIMARY KEY", "u": "UNIQUE constraint", "x": "EXCLUDE constraint"}


def _unlike_a_tag_index(index: StoredIndex) -> str | None:
    if index.constraint == "x":
        return "it excludes by operators that only plain values have; drop it"
    if index.deferrable:
        return "it is DEFERRABLE, and a unique index on tags is not; make it NOT DEFERRABLE, or drop it"
    if index.identity:
        return "it is the replica identity, which an index on tags cannot be; ALTER TABLE … REPLICA IDENTITY chooses another one"
    return None


def _said(converter: Converter, index: StoredIndex) -> str | None:
    refused = converter.refusal(index.definition)
    return None if refused is None else told(refused.message, refused.hint)


def told(message: str, hint: str | None, instead: str = "") -> str:
    """Return a refusal, its hint, and what else could be done, as one line; a hint that only says it again is left out."""
    parts = [message, hint or "", instead]
    if hint and hint[1:2].islower():
        parts[1] = hint[0].lower() + hint[1:]
    return "; ".join(dict.fromkeys(part.removesuffix(".") for part in parts if part))


def _answers(index: ConvertedIndex, column: ProtectedColumn, slot: Slot) -> bool:
    """Tell whether an index answers equality of a slot by itself."""
    old = index.replaces
    return old is not None and old.simple and old.columns == {column.name} and tag(column, slot) in index.definition


def _first_name(part: Part, column: ProtectedColumn, slot: Slot) -> str:
    digest = hashlib.sha256(repr((*part.name, column.name + column.path, slot.number)).encode()).hexdigest()[:8]
    return shorten(f"phi_tag_idx_{part.name[1]}_{column.name}{bare_path(column)}_{slot.number}", digest)


_PARENT: Final = """
SELECT h.inhparent::int8 FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class c ON c.oid = h.inhparent
 WHERE h.inhrelid = %s::oid AND c.relkind = 'p'
"""


async def partitioned_parents(conn: Connection, family: Iterable[Part]) -> dict[TableName, Part]:
    """Return of each partition the partitioned table that it is of; psycopg.Error."""
    by_oid = {part.oid: part for part in family}
    parents = {}
    for part in by_oid.values():
        for (oid,) in await rows_of(conn, _PARENT, part.oid):
            if oid in by_oid:
                parents[part.name] = by_oid[oid]
    return parents


def from_above(family: Iterable[Part], parents: Mapping[TableName, Part]) -> list[Part]:
    """Return the relations of a family, partitioned tables before their partitions."""

    def depth(part: Part) -> int:
        above = parents.get(part.name)
        return 0 if above is None else 1 + depth(above)

    return sorted(family, key=depth)


_COLUMN: Final = re.compile(r'\(*(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")\)*')
"""A column, for which the server gathers statistics with the table's."""


async def plain_indexes(
    conn: Connection, family: Sequence[Part], columns: Sequence[ProtectedColumn], obstacles: list[str]
) -> dict[TableName, tuple[ConvertedIndex, ...]]:
    """Return the indexes of a table's family on plain values, in place of those on tags of them.

    Those that only phiproxy has made, for equality, are not among them: they go with the sealed column.
    """
    converted: dict[TableName, tuple[ConvertedIndex, ...]] = {}
    parents, made = await partitioned_parents(conn, family), _OwnIndexes()
    for part in from_above(family, parents):
        own = []
        for index in await indexes_over(conn, part, [c.name for c in columns]):
            if made.is_one(part, index, parents):
                continue
            obstacles += _unplaced(part, index)
            definition = _plain(index.definition, columns, shadow=False)
            if definition is None or index.identity:
                obstacles.append(f"index {index.name} of {part.label} is over more than tags that are listed; drop it")
                continue
            beside = _plain(index.definition, columns, shadow=True) or ""
            targets = [each for each in index.targets if not _COLUMN.fullmatch(plain_text(each[2], columns) or "")]
            own.append(ConvertedIndex(index.name, definition, beside, index, index.parent, index.comment, targets))
        converted[part.name] = tuple(own)
    return converted


def _plain(definition: str, columns: Iterable[ProtectedColumn], *, shadow: bool) -> str | None:
    """Return the definition of an index with what its tags are of in their place; None where that is not all.

    ``… USING btree ("substring"(ssn, 13, 16))`` becomes ``… USING btree ((ssn))``.
    """
    head, _, keys = definition.partition(" USING ")
    plain = plain_text(keys, columns, shadow=shadow)
    return None if plain is None else f"{head} USING {plain}"


def plain_text(text: str, columns: Iterable[ProtectedColumn], *, shadow: bool = False) -> str | None:
    """Return a text with what its tags are of in their place; None where a sealed column is named beside them."""
    columns, expressions = list(columns), list[str]()
    documents = [column.name for column in columns if column.document is not None]
    for column in columns:
        text = opened_fields(text, column, column.with_fields[1:])
    columns = [column for column in columns if column.document is None]
    for column in columns:
        name = re.escape(quote_ident(column.name))
        over = quote_ident(shadow_name(column.name) if shadow else column.name)
        for slot in column.slots:
            tags = rf'"?substring"?\({name}, {13 + 16 * slot.number}, 16\)'
            pattern = re.compile(rf"NULLIF\({tags}, '\\x0{{32}}'::bytea\)|{tags}")
            text = pattern.sub(lambda _: f"\0{len(expressions)}\0", text)
            expressions.append(f"({expression_sql(slot.expression, over)})")
    if any(re.search(rf"(?<![\w\"]){re.escape(quote_ident(c.name))}(?![\w\"])", text) for c in columns):
        return None
    text = re.sub("\0(\\d+)\0", lambda match: expressions[int(match[1])], text)
    # What an index or a statistics object has of a document in clear it has of it afterwards too.
    return renamed_columns(text, {name: shadow_name(name) for name in documents}) if shadow and documents else text


def opened_fields(text: str, column: ProtectedColumn, fields: Iterable[ProtectedColumn]) -> str:
    """Return a text, as the server prints it, with what the tags of fields of a document are of in their place."""
    for field in fields:
        path = parse_path(field.path)
        for slot in field.slots if ELEMENTS not in path else ():
            printed = tag(field.named(column.name), slot).replace("pg_catalog.", "").replace("substring(", '"substring"(')
            value = f"({member(quote_ident(column.name), path)})"
            cast = f"{value}::numeric" if field.type.family == "numeric" else value
            text = text.replace(printed, f"({expression_sql(slot.expression, cast)})")
    return text


def told_of_index(index: ConvertedIndex, columns: Iterable[ProtectedColumn]) -> str:
    """Say what an index is, and what of the one that it replaces it has not."""
    what = "unique index" if index.unique else "index"
    tags = ", ".join(
        shown_expression(slot.expression, each.name + each.path)
        for column in columns
        for each in indexable(column)
        for slot in each.slots
        if tag(each, slot) in index.definition
    )
    instead = ", in place of that on plain values" if index.replaces is not None and not index.name.startswith(OF_TAGS) else ""
    return f"{what} {index.name} on the tags of {tags}{instead}{_not_kept(index)}"


def told_of_plain(index: ConvertedIndex) -> str:
    """Say what an index on plain values is, and what of the one on tags it has not."""
    lost = index.replaces is not None and len(index.replaces.targets) > len(index.targets)
    return f"index {index.name} on the plain values{': its SET STATISTICS for a column alone is not kept' if lost else ''}"


def _not_kept(index: ConvertedIndex) -> str:
    """Say what an index has for plain values that it has not on tags, nor after ``decrypt``."""
    keys = "" if index.replaces is None else index.replaces.definition.partition(" USING ")[2].partition(" WHERE ")[0]
    return ": its order, operator class or COLLATE is not kept, nor given back by decrypt" if _FOR_PLAIN.search(keys) else ""


_FOR_PLAIN: Final = re.compile(r" DESC\b| NULLS (?:FIRST|LAST)\b| COLLATE |_ops\b")


def beside_name(part: Part, index: ConvertedIndex) -> str:
    """Return the name under which an index is built before the switch: its own, where there is none of it yet."""
    if index.replaces is None:
        return index.name
    digest = hashlib.sha256(repr((*part.name, index.name)).encode()).hexdigest()[:8]
    return shorten(f"phi_next_{part.name[1]}_{index.name}", digest)


def build_beside(part: Part, index: ConvertedIndex) -> str:
    """Return the statement that builds an index over the hidden columns; nobody is kept out meanwhile."""
    head, rest = index.beside.split(f" INDEX {quote_ident(index.name)} ON ", 1)
    return f"{head} INDEX CONCURRENTLY {quote_ident(beside_name(part, index))} ON {rest}"
