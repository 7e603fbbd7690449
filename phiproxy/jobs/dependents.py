"""What hangs on columns that are to be converted, and goes with them: dropped before names are swapped, and made again then."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from phiproxy.jobs.converted_indexes import told
from phiproxy.jobs.physical_definitions import Converter
from phiproxy.jobs.relations import Connection, Part, TableName, rows_of
from phiproxy.plan.stored_query import StoredQuery
from phiproxy.policy.identifiers import literal, quote_ident

Q = quote_ident


@dataclass(frozen=True, slots=True)
class Dependent:
    """A definition over columns that are to be converted. ``label`` is its name in messages; ``owner`` may drop and make it.

    ``create`` are statements with definitions as the server prints them now, behind the ``view`` where it is one; ``same`` are
    those that read the same afterwards: comments, privileges. ``validated``: schema, table and name of a constraint whose rows are
    looked at after the switch.
    """

    label: str
    owner: str
    drop: tuple[str, ...]
    create: tuple[str, ...]
    same: tuple[str, ...] = ()
    validated: tuple[str, str, str] | None = None
    view: StoredQuery | None = None


def spelled(name: TableName) -> str:
    """Return ``"schema".table`` as SQL."""
    return ".".join(map(Q, name))


_DEFAULTS: Final = """
SELECT a.attname::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
 WHERE d.adrelid = %s::oid AND a.attname = ANY (%s) AND a.attgenerated = '' ORDER BY a.attnum
"""
_CHECKS: Final = r"""
SELECT k.conname::text, pg_catalog.pg_get_constraintdef(k.oid), k.convalidated, pg_catalog.obj_description(k.oid, 'pg_constraint')
  FROM pg_catalog.pg_constraint k
 WHERE k.conrelid = %s::oid AND k.contype = 'c' AND k.coninhcount = 0 AND k.conname NOT LIKE 'phi\_%%'
   AND EXISTS (SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) AND a.attname = ANY (%s))
 ORDER BY k.conname
"""


async def definitions_over(conn: Connection, family: Sequence[Part], columns: Collection[str]) -> list[Dependent]:
    """Return the defaults and CHECK constraints of columns, of each relation of a table's family; psycopg.Error."""
    names = sorted(columns)
    found: list[Dependent] = []
    for part in family:
        for column, expression in await rows_of(conn, _DEFAULTS, part.oid, names):
            if expression.upper().partition("::")[0] == "NULL":
                continue
            alter = f"ALTER TABLE ONLY {part.label} ALTER COLUMN {Q(column)}"
            label = f"DEFAULT of {part.label}.{Q(column)}"
            found.append(Dependent(label, part.owner, (f"{alter} DROP DEFAULT",), (f"{alter} SET DEFAULT {expression}",)))
        for name, definition, validated, comment in await rows_of(conn, _CHECKS, part.oid, names):
            found.append(_check(part, name, definition.removesuffix(" NOT VALID"), comment, validated=validated))
    return found


def _check(part: Part, name: str, definition: str, comment: str | None, *, validated: bool) -> Dependent:
    """Return a CHECK constraint, whose rows nobody looks at under the lock: they satisfied it, or nobody had asked."""
    create = f"ALTER TABLE {part.label} ADD CONSTRAINT {Q(name)} {definition} NOT VALID"
    return Dependent(
        f"CHECK constraint {name} of {part.label}",
        part.owner,
        (f"ALTER TABLE {part.label} DROP CONSTRAINT {Q(name)}",),
        (create,),
        () if comment is None else (f"COMMENT ON CONSTRAINT {Q(name)} ON {part.label} IS {literal(comment)}",),
        (*part.name, name) if validated else None,
    )


def refusals(dependents: Iterable[Dependent], converter: Converter) -> dict[str, str]:
    """Say of each definition that cannot be converted, by its label, why, and what to do."""
    obstacles = {}
    for dependent in dependents:
        refused = next((r for text in dependent.create if (r := converter.refusal(text)) is not None), None)
        if refused is not None:
            obstacles[dependent.label] = f"{dependent.label}: {told(refused.message, refused.hint, 'or drop it')}"
    return obstacles


async def converted(dependents: Iterable[Dependent], converter: Converter) -> list[tuple[Dependent, list[str]]]:
    """Return the statements that make each definition again; PhiproxyError."""
    made = []
    for each in dependents:
        statements = [] if each.view is None else [await converter.view(each.view)]
        statements += [await converter.definition(text) for text in each.create]
        made.append((each, [*statements, *each.same]))
    return made
