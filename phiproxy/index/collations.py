"""Which family a database's default collation is of, and where it differs: the questions to the server, and what the answers mean.

Knows no connection. ``SUMMARY`` is asked first: one row of digests over all code points, equal to our own where nothing differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from phiproxy.index.characters import ASCII, Characters, CharacterTable, character_table
from phiproxy.index.function_table import depends_on_characters
from phiproxy.index.spelling import Call, Cast, Expression, read

NORMALISER = 1
_SURROGATES = "NOT BETWEEN 55296 AND 57343"
Extent = Literal["all", "assigned"]
EXTENTS: dict[Extent, str] = {
    "all": f"(SELECT pg_catalog.generate_series(1, 1114111)) AS e (i) WHERE i {_SURROGATES}",
    # planes 0 to 3 and what is used of plane 14: all that Unicode has given to characters
    "assigned": "(SELECT pg_catalog.generate_series(1, 262143) UNION ALL SELECT pg_catalog.generate_series(917504, 918015))"
    f" AS e (i) WHERE i {_SURROGATES}",
}
"""Code points that a question is about."""

# What a mapping of single characters does not show: languages with rules for words (Lithuanian, Greek, Turkish).
_PROBES = (
    "I\u0307",
    "J\u0301",
    "\u012e\u0300",
    "i\u0307",
    "\u03b1\u0301",
    "\u0391\u0399\u0308",
    "\u0391\u03a3",
    "\u0391\u03a3'\u0391",
    "\u03a3",
)

IDENTITY = """
SELECT pg_catalog.concat_ws(' ', pg_catalog.getdatabaseencoding(), d.j->>'datlocprovider', d.j->>'datcollate',
                            d.j->>'datctype', d.j->>'datlocale', d.j->>'daticulocale', d.j->>'daticurules',
                            coalesce({version}, pg_catalog.version()))
  FROM (SELECT oid, pg_catalog.to_jsonb(p) AS j FROM pg_catalog.pg_database p WHERE datname = pg_catalog.current_database()) d
"""
"""The collation and its version, as one text: while it stays the same, so do the answers of the rest."""


def _collated(collation: str) -> str:
    return f" COLLATE {collation}" if collation else ""


def identity_query(server_version: int) -> str:
    """Return the question for the collation and its version."""
    actual = "pg_catalog.pg_database_collation_actual_version(d.oid)" if server_version >= 150000 else "NULL"
    return IDENTITY.format(version=actual)


def summary_query(extent: Extent = "all", collation: str = "") -> str:
    """Return the question for digests over code points; of the database's own collation, unless another is named."""
    every = EXTENTS[extent]
    c = _collated(collation)
    quoted = ("'" + probe.replace("'", "''") + "'" for probe in _PROBES)
    probes = ", ".join(f"pg_catalog.lower({p}{c}) || ' ' || pg_catalog.upper({p}{c})" for p in quoted)
    return f"""
SELECT pg_catalog.upper('\u00df'{c}) = 'SS', pg_catalog.lower('\u00c4'{c}) <> '\u00c4',
       pg_catalog.md5(pg_catalog.lower(s{c})), pg_catalog.md5(pg_catalog.upper(s{c})),
       pg_catalog.regexp_replace(s{c}, '\\D+', '', 'g'),
       CASE WHEN pg_catalog.upper('\u00df'{c}) = 'SS' THEN (
         SELECT pg_catalog.md5(pg_catalog.lower(pg_catalog.string_agg(pg_catalog.chr(i) || '\u03a3', '|' ORDER BY i){c})
              || pg_catalog.lower(pg_catalog.string_agg('\u0391' || pg_catalog.chr(i) || '\u03a3', '|' ORDER BY i){c}))
           FROM {every}) END,
       ARRAY[{probes}]
  FROM (SELECT pg_catalog.string_agg(pg_catalog.chr(i), '|' ORDER BY i) AS s FROM {every}) AS every
"""


def detail_query(collation: str = "") -> str:
    """Return the question for all code points that have a case or decide over one, a row each."""
    c = _collated(collation)
    return f"""
SELECT i, lower, upper, cased, behind AND NOT cased FROM (
  SELECT i, pg_catalog.lower(c{c}) AS lower, pg_catalog.upper(c{c}) AS upper, c,
         pg_catalog.right(pg_catalog.lower((c || '\u03a3'){c}), 1) = '\u03c2' AS cased,
         pg_catalog.right(pg_catalog.lower(('\u0391' || c || '\u03a3'){c}), 1) = '\u03c2' AS behind
    FROM (SELECT i, pg_catalog.chr(i) AS c FROM {EXTENTS["all"]}) AS one) AS each
 WHERE lower COLLATE "C" <> c COLLATE "C" OR upper COLLATE "C" <> c COLLATE "C" OR behind
"""


@dataclass(frozen=True, slots=True)
class Summary:
    """What ``summary_query`` answers. ``family``: the one that it looks like; ``same``: all of it is ours."""

    family: str
    same: bool
    digits: frozenset[int]


def summarised(row: Sequence[object], extent: Extent = "all") -> Summary:
    """Compare the answer of this extent with our own tables; the family is empty for rules of a language, which no table holds."""
    full, beyond_ascii, *digests, probes = row
    family = "icu" if full else "simple" if beyond_ascii else "ascii"
    digits = frozenset(map(ord, str(digests[2])))
    characters = Characters(family)
    own = [f"{characters.lower(p.encode()).decode()} {characters.upper(p.encode()).decode()}" for p in _PROBES]
    if probes != own:
        return Summary("", same=False, digits=digits)
    table = character_table(family)
    return Summary(family, digests_of(row) == table.digests[extent] and digits == table.digits, digits)


def digests_of(row: Sequence[object]) -> tuple[str, ...]:
    """Return the digests of an answer: lower case, upper case, and where the family has them words that end with sigma."""
    return tuple(str(row[column]) for column in (2, 3, 5) if row[column] is not None)


def observed(rows: Iterable[Sequence[object]], digits: frozenset[int]) -> CharacterTable:
    """Return the table that the rows of ``detail_query`` tell."""
    lower, upper = {}, {}
    cased, ignorable = set(), set()
    for point, low, high, is_cased, is_ignorable in rows:
        assert isinstance(point, int)
        if low != chr(point):
            lower[point] = str(low)
        if high != chr(point):
            upper[point] = str(high)
        if is_cased:
            cased.add(point)
        if is_ignorable:
            ignorable.add(point)
    return CharacterTable(lower, upper, digits, frozenset(cased), frozenset(ignorable))


def compared(family: str, table: CharacterTable) -> Characters:
    """Return the family with all code points of which the server says otherwise."""
    own = character_table(family)
    differing = {
        point
        for ours, theirs in ((own.lower, table.lower), (own.upper, table.upper))
        for point in {*ours, *theirs}
        if ours.get(point) != theirs.get(point)
    }
    sets = ((own.digits, table.digits), (own.cased, table.cased), (own.ignorable, table.ignorable))
    return Characters(family, frozenset(differing).union(*(ours ^ theirs for ours, theirs in sets)))


@dataclass(frozen=True, slots=True)
class Collation:
    """What the registry records of a database's collation: its identity, which holds its version, and what was found then."""

    identity: str
    characters: Characters
    extent: Extent = "all"
    normaliser: int = NORMALISER

    @property
    def told(self) -> str:
        """What was found, in words."""
        family = self.characters.family or "of a language's own rules"
        differing = len(self.characters.differing)
        return f"family {family}, table {self.normaliser}" + (f", {differing} characters differ" if differing else "")

    def dump(self) -> str:
        """Return it as JSON."""
        characters = self.characters
        return json.dumps(
            {
                "collation": self.identity,
                "family": characters.family,
                "normaliser": self.normaliser,
                "extent": self.extent,
                "differing": sorted(characters.differing),
            }
        )

    @classmethod
    def load(cls, text: str | None) -> Collation | None:
        """Read what ``dump`` wrote; None for None."""
        if text is None:
            return None
        recorded = json.loads(text)
        characters = Characters(recorded["family"], frozenset(recorded["differing"]))
        return cls(recorded["collation"], characters, recorded["extent"], recorded["normaliser"])


def characters_of(recorded: Collation | None, identity: str) -> Characters:
    """Return the characters of a database whose collation has this identity now: ASCII's alone where nothing is known of it."""
    return recorded.characters if recorded is not None and recorded.identity == identity else ASCII


def needs_characters(expression: str, type_name: str) -> bool:
    """Tell whether an index depends on a family: on upper and lower case, or on what a digit is."""
    return "citext" in type_name or _mentions_case(read(expression))


def _mentions_case(expression: Expression) -> bool:
    match expression:
        case Call(arguments=arguments):
            return depends_on_characters(expression) or any(map(_mentions_case, arguments))
        case Cast(argument=argument):
            return _mentions_case(argument)
    return False
