"""Make the tables of phiproxy/index/data from a server: python tools/character_tables.py DSN ascii=COLLATION simple=… icu=….

Only for a new normaliser version: the tables of a released one are never changed, because tags in databases were made by them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import psycopg

from phiproxy.index.characters import write_table
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


if __name__ == "__main__":
    main(*sys.argv[1:])
