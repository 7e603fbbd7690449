"""Make the tables of phiproxy/index/data from a server: python tools/character_tables.py DSN ascii=COLLATION simple=… icu=….

Only for a new normaliser version: the tables of a released one are never changed, because tags in databases were made by them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import psycopg

from phiproxy.index.characters import CharacterTable
from phiproxy.index.collations import EXTENTS, detail_query, digests_of, observed, summary_query

_DATA = Path(__file__).parent.parent / "phiproxy" / "index" / "data"


def main(dsn: str, *families: str) -> None:
    """Write one file per ``family=collation``."""
    with psycopg.connect(dsn) as conn:
        (version,) = conn.execute("SELECT version()").fetchone() or ("",)
        for family, _, collation in (f.partition("=") for f in families):
            quoted = '"' + collation + '"'
            answers = {e: conn.execute(summary_query(e, quoted).encode()).fetchall()[0] for e in EXTENTS}
            rows = conn.execute(detail_query(quoted).encode()).fetchall()
            table = observed(rows, frozenset(map(ord, answers["all"][4])))
            table = replace(table, digests={e: digests_of(answer) for e, answer in answers.items()})
            head = f"# collation {collation} of {version.split(' on ')[0]}, by tools/character_tables.py; tags depend on it: never changed\n"
            (_DATA / f"{family}-1.txt").write_text(head + write_table(table), encoding="ascii")


def write_table(table: CharacterTable) -> str:
    """Write the form of the data files."""
    lines = [
        " ".join([kind, f"{point:04X}", *(f"{ord(c):04X}" for c in mapped)])
        for kind, mapping in (("lower", table.lower), ("upper", table.upper))
        for point, mapped in sorted(mapping.items())
    ]
    lines += [" ".join(["digest", extent, *digests]) for extent, digests in table.digests.items()]
    for kind, points in (("digits", table.digits), ("cased", table.cased), ("ignorable", table.ignorable)):
        ranges = _ranges(points)
        lines += [" ".join([kind, *ranges[start : start + 16]]) for start in range(0, len(ranges), 16)]
    return "\n".join(lines) + "\n"


def _ranges(points: frozenset[int]) -> list[str]:
    """Write ``0030-0039`` for neighbours."""
    runs: list[list[int]] = []
    for point in sorted(points):
        if runs and point == runs[-1][1] + 1:
            runs[-1][1] = point
        else:
            runs.append([point, point])
    return [f"{first:04X}" if first == last else f"{first:04X}-{last:04X}" for first, last in runs]


if __name__ == "__main__":
    main(*sys.argv[1:])
