"""``phiproxy reindex``: the job that fills a new slot of a blind index, and has it take over."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from phiproxy.commands.command_context import load
from phiproxy.commands.dry_run import print_looks
from phiproxy.commands.jobs import job_site, report_end, start
from phiproxy.errors import ConfigError
from phiproxy.jobs.reindex import identity_of, look, waiting
from phiproxy.jobs.rewriting_looks import RewritingLook, look_at_slots, refuse_without_room, tell_room
from phiproxy.jobs.sight import JobSite, looking
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.protection import Slot


def index_of(policy: Policy, index: str) -> tuple[PolicyColumn, str | None]:
    """Find ``schema.table.column`` or ``schema.table.column:expression`` (as the registry spells it) in a policy.

    Of a field of a document its path follows: ``public.charts.doc$.ssn``.

    The schema may be left out where it is public. ConfigError where no column or index is called so.
    """
    for column in policy.columns_and_fields():
        for full in (column.label, column.label.removeprefix("public.")):
            if index == full:
                return column, None
            if index.startswith(f"{full}:"):
                expression = index.removeprefix(f"{full}:")
                if expression not in column.expressions:
                    names = ", ".join(column.expressions) or "none"
                    raise ConfigError(f"{full} has no index {expression} (its indexes, @ for the column: {names})")
                return column, expression
    raise ConfigError(
        f"no protected column is named {index.partition(':')[0]}",
        hint="write schema.table.column, of a field of a document with its path, and :EXPRESSION for an index of it",
    )


async def reindex(
    config: Path, only: str | None, target: str, options: Mapping[str, Any], *, dry_run: bool, as_json: bool
) -> int:
    """Fill the slots of a column that answer nothing yet, or are to follow others, until they take over."""
    configuration = load(config)
    policy = configuration.policy_of(only)
    column, expression = index_of(policy, target)
    async with job_site(configuration, policy) as site:
        slots = waiting(identity_of(await site.registry.layout(), column.identity), expression)
        if dry_run:
            return await looked_at(site, column, slots, options, as_json=as_json)
        await refuse_room(site, column, slots, options)
        return await reindexed(site, column, expression, options, as_json=as_json)


async def looked_at(
    site: JobSite, column: PolicyColumn, slots: Sequence[Slot], options: Mapping[str, Any], *, as_json: bool
) -> int:
    """Print what it takes that these slots of a column are searched; 1 where something keeps it from being done."""
    _refuse_idle(column, slots, options)
    return print_looks([await _looked(site, column, slots, options)], as_json=as_json)


async def refuse_room(site: JobSite, column: PolicyColumn, slots: Sequence[Slot], options: Mapping[str, Any]) -> None:
    """ConfigError where there is no room for what it takes that these slots are searched."""
    await refuse_without_room(site, options, partial(_looked, site, column, slots, options))


async def _looked(site: JobSite, column: PolicyColumn, slots: Sequence[Slot], options: Mapping[str, Any]) -> RewritingLook:
    look, layout = RewritingLook(site.policy.database, facts={"slots": []}), await site.registry.layout()
    async with looking(site, fire_triggers=bool(options["fire_triggers"])) as sight:
        await look_at_slots(sight, look, layout, identity_of(layout, column.identity), slots, options)
        await tell_room(sight, look, options)
    return look


def _refuse_idle(column: PolicyColumn, slots: Sequence[Slot], options: Mapping[str, Any]) -> None:
    """ConfigError where there is nothing to fill, and nothing to clear."""
    if not slots and not options.get("clear"):
        hint = "for another index key: phiproxy keys rotate --index"
        raise ConfigError(f"{column.label}: no index waits for values to be rewritten", hint=hint)


async def reindexed(
    site: JobSite, column: PolicyColumn, expression: str | None, options: Mapping[str, Any], *, as_json: bool
) -> int:
    """Start the job, and see it to its end."""
    await look(site, column.identity)
    slots = waiting(identity_of(await site.registry.layout(), column.identity), expression)
    _refuse_idle(column, slots, options)
    target = column.label + (f":{expression}" if expression is not None else "")
    chosen = {**options, "identity": column.identity, "expression": expression}
    job = await start(site, "reindex", target, chosen, as_json=as_json)
    report_end(job, as_json=as_json)
    if not as_json:
        for slot in slots:
            sys.stdout.write(f"{column.label}: index {slot.expression} is searched by slot {slot.number}\n")
    return 0
