"""``phiproxy recrypt``: which keys are meant, and the job that takes what is under them to the keys that write."""

import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from phiproxy.commands.command_context import load
from phiproxy.commands.dry_run import print_looks
from phiproxy.commands.jobs import job_site, report_end, start
from phiproxy.errors import ConfigError
from phiproxy.jobs.recrypt import Choice, chosen_keys, prepare
from phiproxy.jobs.rewriting_looks import RewritingLook, keys_that_write, look_at_keys, refuse_without_room, tell_room
from phiproxy.jobs.sight import JobSite, looking

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


async def recrypt(
    config: Path, only: str | None, chosen: Mapping[str, Any], options: Mapping[str, Any], *, dry_run: bool, as_json: bool
) -> int:
    """Seal anew what is under the chosen keys, database by database. ``chosen`` as of the command line."""
    configuration = load(config)
    choice = choice_of(chosen)
    # A key belongs to one database; which, nobody is asked to know.
    policies = configuration.policies if only is None and not choice.keys else [configuration.policy_of(only)]
    looks = []
    for policy in policies:
        async with job_site(configuration, policy) as site:
            if dry_run:
                looks.append(await _look(site, choice, options))
                continue
            await refuse_without_room(site, options, partial(_look, site, choice, options))
            keys = await prepare(site, choice)
            if not keys["keys"]:
                if not as_json:
                    sys.stdout.write(f"nothing to do in {policy.database}: no data key is of that kind\n")
                continue
            job = await start(site, "recrypt", " ".join(keys["keys"]), {**options, **keys}, as_json=as_json)
        report_end(job, as_json=as_json)
        if not as_json:
            sys.stdout.write(f"nothing is under {', '.join(keys['keys'])} any more; to end them: phiproxy keys retire ID\n")
    return print_looks(looks, as_json=as_json) if dry_run else 0


async def _look(site: JobSite, choice: Choice, options: Mapping[str, Any]) -> RewritingLook:
    """Look at what is under the keys that are meant."""
    look, keys = RewritingLook(site.policy.database, facts={"keys": []}), await chosen_keys(site.registry, choice)
    if keys:
        keys_that_write(look, keys.values())
        fire_triggers = bool(options["fire_triggers"])
        async with looking(site, fire_triggers=fire_triggers) as sight:
            await look_at_keys(sight, look, await site.registry.layout(), keys, fire_triggers=fire_triggers)
            await tell_room(sight, look, options)
    return look


def choice_of(chosen: Mapping[str, Any]) -> Choice:
    """Return which keys the options of the command line mean; ConfigError for what is none."""
    try:
        keys = tuple(int(key, 16) for key in chosen["keys"])
    except ValueError:
        raise ConfigError("a data key is named by its id in hexadecimal, as `keys list` shows it") from None
    if keys and (chosen["compromised"] or chosen["older"] is not None):
        raise ConfigError("--key names data keys; it goes with neither --compromised nor --older-than")
    older = None
    if chosen["older"] is not None:
        match = re.fullmatch(r"(\d+)([smhd])", chosen["older"])
        if match is None:
            raise ConfigError("--older-than takes an age such as 90d or 12h")
        older = int(match[1]) * _SECONDS[match[2]]
    return Choice(keys, chosen["compromised"], older, chosen["scope"], chosen["tenant"])
