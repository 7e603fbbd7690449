"""Where a value meets a protected column: conditions by their operator, and statements by what stands in them.

In a template ``{c}`` is the protected column, ``{v}`` a value (each time another one), ``{a}`` an array of values, ``{t}`` a
type of the right side, ``{p}`` an unprotected column of such a type, ``{d}`` another protected column, ``{col}`` the bare name of
the protected column, ``{dcol}`` of another one, ``{cond}`` a condition.
"""

from __future__ import annotations

from dataclasses import dataclass

# Of each operator several spellings; a condition over the columns of m.
CONDITIONS: dict[str, tuple[str, ...]] = {
    "=": ("{c} = {v}", "{v} = {c}", "{c} = {v} AND {c} = {v}"),
    "<>": ("{c} <> {v}", "{v} != {c}", "NOT {c} = {v}"),
    "<": ("{c} < {v}", "{c} >= {v}", "{v} < {c}"),
    "IN": ("{c} IN ({v}, {v})", "{c} IN ({v})", "{c} IN ({v}, {v}, {v})", "{v} IN ({c}, {v})"),
    "NOT IN": ("{c} NOT IN ({v}, {v})", "{c} NOT IN ({v})", "{c} NOT IN ({v}, {v}, {v})"),
    "= ANY": ("{c} = ANY ({a})", "{c} = SOME ({a})", "{v} = ANY (ARRAY[{c}])"),
    "<> ALL": ("{c} <> ALL ({a})", "NOT {c} = ANY ({a})"),
    "IN (VALUES)": ("{c} IN (VALUES ({v}), ({v}))", "{c} = ANY (VALUES ({v}), ({v}))", "{c} IN (VALUES ({v}))"),
    "NOT IN (VALUES)": ("{c} NOT IN (VALUES ({v}), ({v}))", "{c} <> ALL (VALUES ({v}), ({v}))"),
    "IN (SELECT)": (
        "{c} IN (SELECT {v})",
        "{c} IN (SELECT x FROM (VALUES ({v}), ({v})) y (x))",
        "{c} IN (SELECT unnest({a}))",
        "{c} IN (SELECT {v} UNION SELECT {v})",
        "{c} IN (SELECT x FROM unnest({a}) x)",
        "{c} IN (SELECT {p} FROM p)",
        "{c} IN (SELECT n.{col} FROM n)",
    ),
    "DISTINCT FROM": ("{c} IS DISTINCT FROM {v}", "{c} IS NOT DISTINCT FROM {v}", "{v} IS NOT DISTINCT FROM {c}"),
    "BETWEEN": ("{c} BETWEEN {v} AND {v}", "{c} NOT BETWEEN {v} AND {v}"),
    "LIKE": ("{c} LIKE {v}", "{c} NOT LIKE {v}"),
    "nullif": ("nullif({c}, {v}) IS NULL", "nullif({v}, {c}) IS NULL", "{c} = nullif({v}, {v})"),
    "||": ("{c} || {v} = {v}", "{c} = {v} || {v}"),
    "coalesce": ("coalesce({c}, {v}) = {v}", "{c} = coalesce({v}, {v})", "{c} = coalesce({v}, {c})"),
    "CASE": (
        "CASE {c} WHEN {v} THEN true WHEN {v} THEN false END",
        "{c} = CASE WHEN m.id < 4 THEN {v} ELSE {v} END",
        "CASE WHEN m.id < 4 THEN {c} ELSE {v} END = {v}",
        "CASE {v} WHEN {c} THEN true ELSE false END",
    ),
    "greatest": ("{c} = greatest({v}, {v})", "least({c}, {v}) = {v}"),
    "row": ("({c}, m.id) = ({v}, 1)", "({c}, m.id) IN (({v}, 1), ({v}, 2))", "({c}, m.id) <> ({v}, 1)", "ROW({c}) = ROW({v})"),
    "subselect": ("{c} = (SELECT {v})", "{c} = (SELECT x FROM (SELECT {v} AS x) y)", "(SELECT {c}) = {v}"),
    "cast": ("{c}::text = {v}", "{c}::{t} = {v}", "CAST({c} AS {t}) IN ({v}, {v})"),
    "null": ("{c} = NULL", "NULL = {c}", "{c} = NULL::{t}", "{c} <> NULL", "{c} IN (NULL, {v})", "{c} IS NULL"),
    "column": ("{c} = {p}", "{c} = {d}", "{c} IN ({d}, {v})", "{c} <> {p}", "nullif({c}, {d}) IS NULL"),
    "truth": ("{c}", "NOT {c}", "{c} IS TRUE", "coalesce({c}, {v})", "{v} AND {c} = {v}"),
    "op()": ("{c} OPERATOR(pg_catalog.=) {v}", "({c}) = ({v})"),
}


@dataclass(frozen=True)
class Context:
    """A statement around a value or a condition. ``weight``: how often it is drawn."""

    name: str
    templates: tuple[str, ...]
    since: int = 0
    weight: int = 1


READS = (
    Context("WHERE", ("SELECT m.id FROM m WHERE {cond}", "SELECT id FROM m WHERE {cond} OR id = 1"), weight=6),
    Context("WHERE, shown", ("SELECT m.id, {c} FROM m WHERE {cond}",), weight=2),
    Context("select list", ("SELECT m.id, {cond} FROM m", "SELECT m.id, ({cond}) IS NOT TRUE AS x FROM m"), weight=3),
    Context("CASE WHEN", ("SELECT m.id, CASE WHEN {cond} THEN 1 ELSE 2 END FROM m",), weight=2),
    Context("FILTER", ("SELECT count(*) FILTER (WHERE {cond}) FROM m", "SELECT sum(id) FROM m WHERE {cond}")),
    Context(
        "JOIN ON", ("SELECT m.id, p.id FROM m JOIN p ON m.id = p.id AND {cond}", "SELECT m.id, p.id FROM m LEFT JOIN p ON {cond}")
    ),
    Context("CTE", ("WITH w AS (SELECT m.id, {c} AS x FROM m WHERE {cond}) SELECT w.id, w.x FROM w",)),
    Context("EXISTS", ("SELECT p.id FROM p WHERE EXISTS (SELECT FROM m WHERE m.id = p.id AND {cond})",)),
    Context("GROUP BY condition", ("SELECT {cond} AS x, count(*) FROM m GROUP BY 1",)),
    Context("shown", ("SELECT m.id, {c} FROM m", "SELECT {c}::{t} FROM m", "SELECT {c} AS x, {v} AS y FROM m"), weight=2),
    Context(
        "coalesce",
        ("SELECT m.id, coalesce({c}, {v}) FROM m", "SELECT coalesce({v}, {c}) FROM m", "SELECT coalesce({c}, {v}, {v}) FROM m"),
        weight=3,
    ),
    Context(
        "CASE result",
        (
            "SELECT m.id, CASE WHEN m.id < 4 THEN {c} ELSE {v} END FROM m",
            "SELECT m.id, CASE WHEN m.id < 4 THEN {v} ELSE {c} END FROM m",
            "SELECT m.id, CASE m.id WHEN 1 THEN {v} WHEN 2 THEN {v} ELSE {c} END FROM m",
        ),
        weight=3,
    ),
    Context("nullif", ("SELECT m.id, nullif({c}, {v}) FROM m", "SELECT m.id, nullif({v}, {c}) FROM m"), weight=3),
    Context("greatest", ("SELECT m.id, greatest({c}, {v}) FROM m", "SELECT m.id, least({v}, {c}) FROM m")),
    Context(
        "UNION",
        (
            "SELECT {c} FROM m UNION ALL SELECT {v}",
            "SELECT {v} UNION ALL SELECT {c} FROM m",
            "SELECT {c} FROM m UNION SELECT {v}",
            "SELECT {c} FROM m UNION ALL SELECT {v} UNION ALL SELECT {v}",
            "SELECT {c} FROM m UNION ALL VALUES ({v}), ({v})",
            "SELECT {c} FROM m UNION ALL SELECT {p} FROM p",
            "SELECT {c} FROM m UNION ALL SELECT {d} FROM m",
        ),
        weight=4,
    ),
    Context(
        "INTERSECT",
        (
            "SELECT {c} FROM m INTERSECT SELECT {v}",
            "SELECT {c} FROM m EXCEPT SELECT {v}",
            "SELECT {v} EXCEPT SELECT {c} FROM m",
            "SELECT {c} FROM m INTERSECT ALL VALUES ({v}), ({v})",
            "SELECT {c} FROM m EXCEPT SELECT {d} FROM m",
            "SELECT {c} FROM m INTERSECT SELECT n.{col} FROM n",
        ),
        weight=2,
    ),
    Context(
        "UNION below",
        (
            "SELECT x FROM (SELECT {c} FROM m UNION ALL SELECT {v}) y (x) WHERE x = {v}",
            "WITH w (x) AS (SELECT {c} FROM m UNION ALL SELECT {v}) SELECT x, count(*) FROM w GROUP BY x",
            "SELECT count(*) FROM (SELECT {c} AS x FROM m UNION SELECT {v}) y",
        ),
    ),
    Context(
        "JOIN (VALUES)",
        (
            "SELECT m.id, y.k FROM m JOIN (VALUES ({v}, 1), ({v}, 2)) y (x, k) ON {c} = y.x",
            "SELECT m.id, y.x FROM m JOIN (VALUES ({v}), ({v})) y (x) ON y.x = {c}",
            "SELECT m.id FROM m, (VALUES ({v}), ({v})) y (x) WHERE {c} = y.x",
            "SELECT m.id FROM m JOIN (VALUES ({v}), ({v})) y ({col}) USING ({col})",
            "SELECT m.id, {col} FROM m LEFT JOIN (SELECT {v} AS {col}) y USING ({col})",
            "SELECT m.id FROM m JOIN (SELECT {v} AS x UNION ALL SELECT {v}) y ON {c} IS NOT DISTINCT FROM y.x",
        ),
        weight=3,
    ),
    Context(
        "JOIN unnest",
        (
            "SELECT m.id FROM m JOIN unnest({a}) y (x) ON {c} = y.x",
            "SELECT m.id, y.o FROM m JOIN unnest({a}) WITH ORDINALITY y (x, o) ON y.x = {c}",
        ),
        weight=2,
    ),
    Context(
        "JOIN column",
        (
            "SELECT m.id, n.id FROM m JOIN n USING ({col})",
            "SELECT m.id, n.id FROM m JOIN n ON {c} = n.{dcol}",
            "SELECT m.id, p.id FROM m JOIN p ON {c} = {p}",
            "SELECT m.id, n.id FROM m LEFT JOIN n ON {c} = n.{col} AND n.{dcol} = {v}",
            "SELECT {col} FROM m NATURAL JOIN (SELECT n.{col} FROM n) y",
        ),
    ),
    Context("aggregate", ("SELECT count({c}) FROM m", "SELECT count(DISTINCT {c}) FROM m", "SELECT count(*) FROM m WHERE {cond}")),
    Context(
        "GROUP BY",
        (
            "SELECT {c}, count(*) FROM m GROUP BY {c}",
            "SELECT count(*) FROM m GROUP BY {c} HAVING {c} = {v}",
            "SELECT {c}, count(*) FROM m WHERE {cond} GROUP BY 1",
        ),
    ),
    Context(
        "DISTINCT",
        ("SELECT DISTINCT {c} FROM m", "SELECT DISTINCT {c}, {v} AS y FROM m", "SELECT DISTINCT coalesce({c}, {v}) FROM m"),
    ),
    Context(
        "subselect",
        (
            "SELECT p.id, (SELECT {c} FROM m WHERE m.id = p.id) FROM p",
            "SELECT x FROM (SELECT {c} AS x FROM m) y WHERE x = {v}",
            "SELECT y.x FROM m, LATERAL (SELECT {c} AS x) y WHERE y.x IN ({v}, {v})",
        ),
        weight=2,
    ),
    Context("row and array", ("SELECT ARRAY[{c}, {v}] FROM m", "SELECT ROW({c}, {v}) FROM m", "SELECT {c} || {v} FROM m")),
)

WRITES = (
    Context(
        "INSERT VALUES",
        (
            "INSERT INTO m (id, {col}) VALUES (100, {v})",
            "INSERT INTO m (id, {col}) VALUES (100, {v}), (101, {v})",
            "INSERT INTO m (id, {col}) VALUES (100, {v}) RETURNING {col}",
            "INSERT INTO m (id, {col}, {dcol}) VALUES (100, {v}, {v})",
            "INSERT INTO m (id, {col}) VALUES (100, coalesce({v}, {v}))",
            "INSERT INTO m (id, {col}) VALUES (100, (SELECT {v}))",
            "INSERT INTO m (id, {col}) VALUES (100, CASE WHEN true THEN {v} ELSE {v} END)",
            "INSERT INTO m (id, {col}) VALUES (100, nullif({v}, {v}))",
        ),
        weight=4,
    ),
    Context(
        "INSERT SELECT",
        (
            "INSERT INTO m (id, {col}) SELECT 100, {v}",
            "INSERT INTO m (id, {col}) SELECT 100, {v} UNION ALL SELECT 101, {v}",
            "INSERT INTO m (id, {col}) SELECT k, x FROM (VALUES (100, {v}), (101, {v})) y (k, x)",
            "INSERT INTO m (id, {col}) SELECT 99 + o, x FROM unnest({a}) WITH ORDINALITY y (x, o)",
            "INSERT INTO m (id, {col}) SELECT 100 + row_number() OVER (), unnest({a})",
            "INSERT INTO m (id, {col}) SELECT id + 100, {c} FROM m",
            "INSERT INTO m (id, {col}) SELECT id + 100, {d} FROM m",
            "INSERT INTO m (id, {col}) SELECT id + 100, coalesce({c}, {v}) FROM m RETURNING id, {col}",
            "INSERT INTO m (id, {col}) SELECT id + 100, {p} FROM p",
            "WITH w (x) AS (SELECT {v}) INSERT INTO m (id, {col}) SELECT 100, x FROM w",
        ),
        weight=4,
    ),
    Context(
        "UPDATE SET",
        (
            "UPDATE m SET {col} = {v} WHERE id < 4",
            "UPDATE m SET {col} = {v} WHERE {cond}",
            "UPDATE m SET ({col}, {dcol}) = ({v}, {v}) WHERE id = 1",
            "UPDATE m SET {col} = coalesce({c}, {v})",
            "UPDATE m SET {col} = coalesce({v}, {v}) WHERE id = 1",
            "UPDATE m SET {col} = CASE WHEN id < 4 THEN {v} ELSE {c} END",
            "UPDATE m SET {col} = CASE id WHEN 1 THEN {v} WHEN 2 THEN {v} END WHERE id < 4",
            "UPDATE m SET {col} = nullif({c}, {v})",
            "UPDATE m SET {col} = (SELECT {v}) WHERE id = 2 RETURNING {col}",
            "UPDATE m SET {col} = y.x FROM (VALUES (1, {v}), (2, {v})) y (k, x) WHERE m.id = y.k",
            "UPDATE m SET {col} = y.x FROM (SELECT 1 AS k, {v} AS x) y WHERE m.id = y.k RETURNING m.id, {col}",
            "UPDATE m SET {col} = {d}",
            "UPDATE m SET {col} = n.{col} FROM n WHERE n.id = m.id AND n.{col} = {v}",
        ),
        weight=5,
    ),
    Context(
        "UPDATE WHERE",
        ("UPDATE m SET id = id + 100 WHERE {cond}", "UPDATE m SET id = id + 100 WHERE {cond} RETURNING id, {c}"),
        weight=2,
    ),
    Context(
        "DELETE",
        (
            "DELETE FROM m WHERE {cond}",
            "DELETE FROM m WHERE {cond} RETURNING {c}",
            "DELETE FROM m USING (VALUES ({v}), ({v})) y (x) WHERE {c} = y.x",
        ),
        weight=3,
    ),
    Context(
        "RETURNING",
        (
            "DELETE FROM m WHERE id < 6 RETURNING id, {cond}",
            "UPDATE m SET id = id + 100 RETURNING coalesce({c}, {v})",
            "INSERT INTO m (id, {col}) VALUES (100, {v}) RETURNING nullif({col}, {v})",
        ),
    ),
    Context(
        "ON CONFLICT",
        (
            "INSERT INTO m (id, {col}) VALUES (1, {v}) ON CONFLICT (id) DO UPDATE SET {col} = excluded.{col}",
            "INSERT INTO m (id, {col}) VALUES (1, {v}) ON CONFLICT (id) DO UPDATE SET {col} = {v}",
            "INSERT INTO m (id, {col}) VALUES (1, {v}) ON CONFLICT (id) DO UPDATE SET {col} = coalesce({c}, {v}) WHERE {cond}",
            "INSERT INTO m (id, {col}) VALUES (1, {v}) ON CONFLICT (id) DO NOTHING",
        ),
        weight=2,
    ),
    Context(
        "MERGE",
        (
            "MERGE INTO m USING p ON m.id = p.id WHEN MATCHED THEN UPDATE SET {col} = {v}",
            "MERGE INTO m USING (VALUES (1, {v}), (100, {v})) y (k, x) ON m.id = y.k"
            " WHEN MATCHED THEN UPDATE SET {col} = y.x WHEN NOT MATCHED THEN INSERT (id, {col}) VALUES (y.k, y.x)",
            "MERGE INTO m USING p ON m.id = p.id AND {cond} WHEN MATCHED THEN DELETE",
            "MERGE INTO m USING (SELECT 100 AS k) y ON m.id = y.k WHEN NOT MATCHED THEN INSERT (id, {col}) VALUES (y.k, {v})",
        ),
        since=15,
        weight=2,
    ),
    Context(
        "elsewhere",
        (
            "INSERT INTO p (id) SELECT m.id + 100 FROM m WHERE {cond}",
            "UPDATE p SET id = p.id + 100 FROM m WHERE m.id = p.id AND {cond}",
            "DELETE FROM p USING m WHERE m.id = p.id AND {cond}",
        ),
    ),
)
CONTEXTS = tuple(c for c in (*READS, *WRITES) for _ in range(c.weight))
WRITING = frozenset(c.name for c in WRITES)
# Of equal values that are not the same, one is shown.
MERGING = frozenset(("UNION", "UNION below", "INTERSECT", "GROUP BY", "DISTINCT"))
