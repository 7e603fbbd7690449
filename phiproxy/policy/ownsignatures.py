"""The queries of which types, casts, functions and operators there are (``signatures``), and what their answers tell."""

from __future__ import annotations

import json

from phiproxy.policy.signatures import Function, Operator, Rows, TypeRow

# 16384 is FirstNormalObjectId: what is below was made by initdb. Row types, their arrays, and what is temporary, are not told of:
# every table would be one more change of the catalogue.
_QUERY = r"""
WITH lasting AS (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\_temp\_%')
SELECT pg_catalog.json_build_array(
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.oid::int8, t.typname, t.typtype, t.typcategory, t.typispreferred,
            CASE WHEN t.typcategory = 'A' THEN t.typelem::int8 ELSE 0 END, t.typbasetype::int8, t.typarray::int8) ORDER BY t.oid)
     FROM pg_catalog.pg_type t JOIN lasting n ON n.oid = t.typnamespace LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
    WHERE t.oid {range} AND t.typtype <> 'c' AND e.typtype IS DISTINCT FROM 'c'),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(c.castsource::int8, c.casttarget::int8, c.castcontext) ORDER BY c.oid)
     FROM pg_catalog.pg_cast c WHERE c.oid {range}),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(p.proname, p.proargtypes::int8[], p.pronargdefaults, p.provariadic::int8,
            p.prokind, p.prorettype::int8) ORDER BY p.oid)
     FROM pg_catalog.pg_proc p JOIN lasting n ON n.oid = p.pronamespace WHERE p.oid {range}),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(o.oprname, o.oprleft::int8, o.oprright::int8, o.oprresult::int8)
            ORDER BY o.oid)
     FROM pg_catalog.pg_operator o WHERE o.oid {range}),
  (SELECT pg_catalog.json_agg(t.typname ORDER BY t.oid)
     FROM pg_catalog.pg_type t JOIN lasting n ON n.oid = t.typnamespace LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
          LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
    WHERE t.oid {range} AND (t.oid < 16384 OR (e.typtype IS DISTINCT FROM 'c' AND (t.typrelid = 0 OR c.relkind = 'c')))),
  (SELECT pg_catalog.json_agg(c.collname ORDER BY c.oid) FROM pg_catalog.pg_collation c WHERE c.oid {range}))::text
"""
OWN, SERVER = _QUERY.format(range=">= 16384"), _QUERY.format(range="< 16384")


def rows(text: str) -> Rows:
    """Return what one answer tells."""
    types, casts, functions, operators, names, collations = (part or () for part in json.loads(text))
    by_name: dict[str, list[Function]] = {}
    for name, arguments, *rest in functions:
        by_name.setdefault(name, []).append(Function(tuple(arguments), *rest))
    by_sign: dict[str, list[Operator]] = {}
    for name, *operator in operators:
        by_sign.setdefault(name, []).append(Operator(*operator))
    return Rows(
        {row[0]: TypeRow(*row) for row in types},
        {(source, target): context for source, target, context in casts},
        {name: tuple(found) for name, found in by_name.items()},
        {name: tuple(found) for name, found in by_sign.items()},
        frozenset(names),
        frozenset(collations),
    )
