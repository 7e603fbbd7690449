"""Small policies, layouts and catalogues that fit together, for tests that change one thing."""

from dataclasses import replace
from typing import Any

from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.model import Policy
from phiproxy.policy.protection import Slot
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity
from phiproxy.sql.values.index_spelling import spell


def make_policy(tables: dict[str, dict[str, Any]], subjects: dict[str, str] | None = None, **more: Any) -> Policy:
    """``{"public.patients": {"ssn": {"type": "text"}}}``; every place in it is ``policy.yaml``."""
    data = {
        "database": "clinic",
        "deployment": "clinic-test",
        "tables": {name: {"columns": columns, "subject": (subjects or {}).get(name)} for name, columns in tables.items()},
        **more,
    }
    policy = Policy.model_validate(data, context={"base": "."}).spelled_by(spell)
    assert policy.complaints() == []
    return policy.located("policy.yaml", {})


def make_layout(policy: Policy) -> Layout:
    """What ``keys init`` registers for a policy of empty tables."""
    identities, columns = {}, {}
    for number, wanted in enumerate(policy.wanted_identities(), start=1):
        slots = tuple(Slot(i, e, 1, "active") for i, e in enumerate(wanted.expressions))
        identities[number] = RegisteredIdentity(number, wanted.identity, wanted.scope, wanted.type_name, slots)
        columns.update(dict.fromkeys(wanted.columns, number))
    return Layout(policy.deployment, 1, identities, columns)


def make_catalog(policy: Policy, type_oid: int = 17) -> Catalog:
    """The tables of a policy, each with an ``id`` and its protected columns, of one type."""
    tables: dict[tuple[str, str], list[CatalogColumn]] = {}
    for column in policy.columns():
        own = tables.setdefault((column.schema, column.table), [CatalogColumn("id", 1, 23, -1, not_null=True)])
        own.append(CatalogColumn(column.name, len(own) + 1, type_oid, -1))
    relations = (Relation(16384 + i, schema, name, "r", tuple(own)) for i, ((schema, name), own) in enumerate(tables.items()))
    return Catalog(1, 150000, tuple(relations))


def changed(catalog: Catalog, **fields: Any) -> Catalog:
    """The catalogue with its first relation changed."""
    first, *others = catalog.relations
    return replace(catalog, relations=(replace(first, **fields), *others))
