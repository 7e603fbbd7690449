"""What a statement of a string means for those behind it: against what they are analysed, or why they are refused."""

from __future__ import annotations

import dataclasses

from phiproxy.errors import StatementRefused
from phiproxy.plan.search_path import set_path
from phiproxy.policy.boundary import with_refused
from phiproxy.policy.catalog import ANYTHING
from phiproxy.sql.context import Context
from phiproxy.sql.result import Answered


def context_behind(context: Context, answer: Answered, *, path_set: bool) -> Context:
    """Return what the statements behind one of the same text are analysed against; ``path_set``: the path was set before."""
    effects = answer.effects
    # DDL may also have dropped or renamed the temporary table that hides a protected one.
    taken_back = (effects.transaction and path_set) or (effects.catalog_changed and bool(context.temporary))
    if not (effects.path_unknown or effects.catalog_changed or taken_back):
        return context
    replaced = {(r.schema, r.name) for r in effects.relations}
    others = tuple(r for r in context.catalog.relations if (r.schema, r.name) not in replaced)
    # What reaches a protected table from now on is known, as what it is, from the next text on.
    reaching = {**context.catalog.reaching, **dict.fromkeys(effects.reaches, "made before it in the same string")}
    setters = context.catalog.setters
    if effects.code and effects.catalog_changed:
        setters = setters.union(effects.created, (ANYTHING,))
    catalog = dataclasses.replace(context.catalog, relations=(*others, *effects.relations), reaching=reaching, setters=setters)
    path = set_path(context.path, effects.path) if effects.path_unknown else None if taken_back else context.path
    protection = with_refused(context.protection, catalog) if effects.relations else context.protection
    created = context.created.union(effects.created)
    return dataclasses.replace(context, protection=protection, catalog=catalog, path=path, created=created)


def behind_ddl(position: int | None) -> StatementRefused:
    """Return the refusal of a statement, at ``position``, whose tables one before it changes."""
    return StatementRefused(
        "a statement before this one in the same string changes a protected table", hint="Send them one by one.", position=position
    )


def behind_role(position: int | None) -> StatementRefused:
    """Return the refusal of a statement, at ``position``, which may be run by another role than the session's."""
    return StatementRefused(
        "a statement before this one in the same string may change whose role it is run by, and so what is shown",
        hint="Send them one by one.",
        position=position,
    )
