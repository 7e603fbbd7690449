"""``phiproxy respond``: a key or a KEK that somebody may have is answered, to the end, with an incident file."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phiproxy.commands.command_context import Configuration, closing, database, load
from phiproxy.commands.jobs import job_site, report_end, start
from phiproxy.errors import ConfigError
from phiproxy.jobs.records import OPEN, list_jobs
from phiproxy.jobs.reindex import look
from phiproxy.jobs.respond import ENDED, prepare_kek, prepare_key
from phiproxy.jobs.running import JobSite
from phiproxy.keys import open_provider
from phiproxy.keys.local import add_kek
from phiproxy.keys.registry import record_event
from phiproxy.keys.rewrap import rewrap
from phiproxy.keys.serving_proxies import live_proxies
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
            return await _run(
                site, f"data key {key_id:08x}", {**options, **await prepare_key(site.registry, key_id)}, as_json=as_json
            )
    assert kek is not None
    if (wrong := complaint(kek)) is not None:
        raise ConfigError(f"--kek: {wrong}")
    given = absolute(kek, configuration.settings.directory)
    async with closing(await open_provider(given, read_secret)) as provider, job_site(configuration, policy, provider) as site:
        await _refuse_open(site, f"KEK {provider.uri}")
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
            shared = kek_of(site.kek, "").uri == compromised.uri
        if not (shared and settings.kek_uri.startswith("local:")):
            raise ConfigError(
                f"root keys are wrapped under the current version {wrapping} of {compromised.uri}",
                hint="rotate this KEK where it lives, or configure another one, then run this again",
            )
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


async def _wrapping(site: JobSite, uri: str) -> str:
    """Return the version of a KEK under which root keys are wrapped, and would still be; "" where another one wraps them now."""
    for root in await site.registry.all_roots():
        provider = kek_of(site.kek, root.tenant)
        if provider.uri == uri and root.state not in ENDED:
            version = await provider.version()
            if any((wrap.kek_uri, wrap.kek_version) == (uri, version) for wrap in root.wraps):
                return version
    return ""
