"""The queries of which types, casts, functions and operators there are (``signatures``), and what their answers tell."""

import json

from phiproxy.policy.signatures import Function, Operator, Rows, TypeRow

# 16384 is FirstNormalObjectId: what is below was made by initdb. Row types, their arrays, and what is temporary, are not told of:
# every table would be one more change of the catalogue.
_QUERY = r"""
WITH lasting AS (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\_temp\_%')
SELECT pg_catalog.json_build_array(
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.oid::int8, t.typname, t.typtype, t.typcategory, t.typispreferred,
            CASE WHEN t.typcategory = 'A' THEN t.typelem::int8 ELSE 0 END, t.typbasetype::int8, t.typarray::int8{of_type})
            ORDER BY t.oid)
     FROM pg_catalog.pg_type t JOIN lasting n ON n.oid = t.typnamespace LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
    WHERE t.oid {range} AND t.typtype <> 'c' AND e.typtype IS DISTINCT FROM 'c'),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(c.castsource::int8, c.casttarget::int8, c.castcontext) ORDER BY c.oid)
     FROM pg_catalog.pg_cast c WHERE c.oid {range}),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(p.proname, p.proargtypes::int8[], p.pronargdefaults, p.provariadic::int8,
            p.prokind, p.prorettype::int8, p.provolatile, p.proretset{of_function}) ORDER BY p.oid)
     FROM pg_catalog.pg_proc p JOIN lasting n ON n.oid = p.pronamespace WHERE p.oid {range}),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(o.oprname, o.oprleft::int8, o.oprright::int8,
            o.oprresult::int8{of_operator}) ORDER BY o.oid)
     FROM pg_catalog.pg_operator o WHERE o.oid {range}),
  (SELECT pg_catalog.json_agg(t.typname ORDER BY t.oid)
     FROM pg_catalog.pg_type t JOIN lasting n ON n.oid = t.typnamespace LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
          LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
    WHERE t.oid {range} AND (t.oid < 16384 OR (e.typtype IS DISTINCT FROM 'c' AND (t.typrelid = 0 OR c.relkind = 'c')))),
  (SELECT pg_catalog.json_agg(c.collname ORDER BY c.oid) FROM pg_catalog.pg_collation c WHERE c.oid {range}))::text
"""
# The extension that something belongs to: fixed oids of pg_type, pg_proc, pg_operator and pg_extension.
_EXTENSION = """, coalesce((SELECT x.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
              WHERE d.classid = {} AND d.objid = {}.oid AND d.refclassid = 3079 AND d.deptype = 'e'), '')"""
_EXTENSIONS = {
    "of_type": _EXTENSION.format(1247, "t"),
    "of_function": _EXTENSION.format(1255, "p"),
    "of_operator": _EXTENSION.format(2617, "o"),
}
OWN = _QUERY.format(range=">= 16384", **_EXTENSIONS)
SERVER = _QUERY.format(range="< 16384", **dict.fromkeys(_EXTENSIONS, ""))


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
        {name: tuple(group) for name, group in by_name.items()},
        {name: tuple(group) for name, group in by_sign.items()},
        frozenset(names),
        frozenset(collations),
    )
