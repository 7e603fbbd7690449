"""``phiproxy respond``: a key or a KEK that somebody may have is answered, to the end, with an incident file."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from phiproxy.commands.command_context import Configuration, closing, database, load
from phiproxy.commands.dry_run import print_looks
from phiproxy.commands.jobs import job_site, report_end, start
from phiproxy.errors import ConfigError
from phiproxy.jobs.records import OPEN, list_jobs
from phiproxy.jobs.recrypt import columns_of, count_subjects
from phiproxy.jobs.reindex import look
from phiproxy.jobs.respond import ENDED, indexes_under, keys_of, prepare_kek, prepare_key
from phiproxy.jobs.rewriting_looks import (
    RewritingLook,
    keys_that_write,
    look_at_keys,
    look_at_slots,
    refuse_without_room,
    tell_room,
)
from phiproxy.jobs.sight import JobSite, looking
from phiproxy.keys import open_provider
from phiproxy.keys.local import add_kek
from phiproxy.keys.registry import record_event
from phiproxy.keys.rewrap import rewrap
from phiproxy.keys.serving_proxies import live_proxies
from phiproxy.keys.slots import following_slot
from phiproxy.keys.tenant_keks import kek_of
from phiproxy.policy.kek_uris import absolute, complaint
from phiproxy.policy.model import Policy
from phiproxy.policy.setting_values import read_secret


async def respond(
    config: Path,
    only: str | None,
    key: str | None,
    kek: str | None,
    options: Mapping[str, Any],
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Answer the compromise of a data key, or of a KEK; ``options`` have its ``reason`` and the directory of the ``report``."""
    configuration = load(config)
    if (key is None) == (kek is None):
        raise ConfigError("name what was compromised: --key ID or --kek URI")
    policy = configuration.policy_of(only)
    if key is not None:
        try:
            key_id = int(key, 16)
        except ValueError:
            raise ConfigError("a data key is named by its id in hexadecimal, as `keys list` shows it") from None
        async with job_site(configuration, policy) as site:
            target, about = f"data key {key_id:08x}", await prepare_key(site.registry, key_id)
            if dry_run:
                return print_looks([await look_at_compromise(site, target, about, options)], as_json=as_json)
            await refuse_without_room(site, options, partial(look_at_compromise, site, target, about, options))
            return await _run(site, target, {**options, **about}, as_json=as_json)
    assert kek is not None
    if (wrong := complaint(kek)) is not None:
        raise ConfigError(f"--kek: {wrong}")
    given = absolute(kek, configuration.settings.directory)
    async with closing(await open_provider(given, read_secret)) as provider, job_site(configuration, policy, provider) as site:
        if dry_run:
            return print_looks([await _look_at_kek(site, provider.uri, options)], as_json=as_json)
        await _refuse_open(site, f"KEK {provider.uri}")
        await refuse_without_room(site, options, partial(_look_at_kek, site, provider.uri, options))
    uri = await _turned_over(configuration, policy, given)
    if uri is None:
        return 1
    async with job_site(configuration, policy) as site:
        chosen = {**options, **await prepare_kek(site.registry, uri)}
        layout = await site.registry.layout()
        for identity in layout.identities.values():
            if identity.scope in chosen["scopes"] and any(s.state == "active" for s in identity.slots):
                await look(site, identity.identity)  # before anything is begun
        return await _run(site, f"KEK {uri}", chosen, as_json=as_json)


async def _refuse_open(site: JobSite, target: str) -> None:
    """ConfigError where the answer to the same compromise was begun, and is to be gone on with."""
    for job in await list_jobs(site.registry):
        if (job.kind, job.target) == ("respond", target) and job.state in (*OPEN, "failed"):
            raise ConfigError(f"{job.subject} is not at its end", hint=f"phiproxy jobs resume {job.id}")


async def _look_at_kek(site: JobSite, uri: str, options: Mapping[str, Any]) -> RewritingLook:
    return await look_at_compromise(site, f"KEK {uri}", await prepare_kek(site.registry, uri), options)


async def look_at_compromise(site: JobSite, target: str, about: Mapping[str, Any], options: Mapping[str, Any]) -> RewritingLook:
    """Look at what the answer to a compromise would do; ``about`` as of ``prepare_key`` or ``prepare_kek``."""
    seen, fire = RewritingLook(site.policy.database), bool(options["fire_triggers"])
    await seen.names(_refuse_open(site, target))
    layout, roots = await site.registry.layout(), await site.registry.roots(frozenset(about["roots"]))
    if "kek" in about and (wrapping := await _wrapping(site, about["kek"])):
        try:
            _refuse_elsewhere(site, wrapping, about["kek"])
            seen.done.append("the KEK's file gets another key; while proxies are at work these are given the file first")
        except ConfigError as error:
            seen.named(error)
    for root in sorted(roots, key=lambda root: root.id):
        of = root.scope + (f", tenant {root.tenant}" if root.tenant else "")
        seen.done.append(f"{root.purpose} root key of {of}, generation {root.generation}, is wrapped anew, followed, and retired")
    seen.facts["roots"] = [[root.scope, root.tenant, root.purpose, root.generation] for root in roots]
    keys = await keys_of(site.registry, about)
    keys = {key: (row, root) for key, (row, root) in keys.items() if row.state not in ENDED}
    keys_that_write(seen, keys.values())
    seen.done += [f"data key {key:08x} is marked compromised, and retired once nothing is under it" for key in keys]
    async with looking(site, fire_triggers=fire) as sight:
        await look_at_keys(sight, seen, layout, keys, fire_triggers=fire)
        subjects = await count_subjects(sight, layout, await columns_of(sight, layout, about["scopes"]), keys)
        seen.done += [f"persons whose rows these are: {count} of {by}" for by, count in subjects.items()]
        for identity, slot in indexes_under(layout, roots):
            following, _ = following_slot(identity, slot.expression)
            await look_at_slots(sight, seen, layout, identity, [following], {**options, "clear": True})
        await tell_room(sight, seen, options)
    seen.facts["subjects"] = subjects
    seen.done.append(f"the incident file is written into {options['directory']}")
    return seen


async def _run(site: JobSite, target: str, options: dict[str, Any], *, as_json: bool) -> int:
    await _refuse_open(site, target)
    directory = Path(options.pop("directory"))
    name = f"incident-{datetime.now(UTC):%Y%m%d-%H%M%S}.md"
    options["report"] = str((directory / name).absolute())
    job = await start(site, "respond", target, options, as_json=as_json)
    report_end(job, as_json=as_json)
    if not as_json:
        sys.stdout.write(f"the incident file: {options['report']}\n")
    return 0


async def _turned_over(configuration: Configuration, policy: Policy, uri: str) -> str | None:
    """Return a KEK as wraps name it, once what wraps now is another one or a later version of it.

    A key is added to a local file; None then, where proxies must get that file first. ConfigError where only its provider can.
    """
    settings, schema = configuration.settings, configuration.settings.service.schema_
    async with closing(await open_provider(uri, read_secret)) as compromised:
        async with job_site(configuration, policy, compromised) as site:
            wrapping = await _wrapping(site, compromised.uri)
            if not wrapping:
                # A later version of the same KEK opens what is there, and the job is yet to find out what was under this one.
                if kek_of(site.kek, "").uri != compromised.uri:
                    await rewrap(site.registry, site.kek, policy.deployment, older=compromised)
                return compromised.uri
            _refuse_elsewhere(site, wrapping, compromised.uri)
        added = await add_kek(settings.kek_uri, read_secret)
        async with database(settings, policy) as conn:
            change = (f"version {wrapping}", f"version {added}")
            await record_event(conn, schema, "KEK rotated", compromised.uri, change)
            proxies = await live_proxies(conn, schema)
        if not proxies:
            return compromised.uri
    sys.stderr.write(
        f"phiproxy: the KEK file's current key is version {added} now; give the file to all proxies, send each a SIGHUP,"
        " and run this again\n"
    )
    return None


def _refuse_elsewhere(site: JobSite, wrapping: str, uri: str) -> None:
    """ConfigError where a KEK by whose current version root keys are wrapped is not phiproxy's own to turn over."""
    if not (kek_of(site.kek, "").uri == uri and site.settings.kek_uri.startswith("local:")):
        raise ConfigError(
            f"root keys are wrapped under the current version {wrapping} of {uri}",
            hint="rotate this KEK where it lives, or configure another one, then run this again",
        )


async def _wrapping(site: JobSite, uri: str) -> str:
    """Return the version of a KEK under which root keys are wrapped, and would still be; "" where another one wraps them now."""
    for root in await site.registry.all_roots():
        provider = kek_of(site.kek, root.tenant)
        if provider.uri == uri and root.state not in ENDED:
            version = await provider.version()
            if any((wrap.kek_uri, wrap.kek_version) == (uri, version) for wrap in root.wraps):
                return version
    return ""
