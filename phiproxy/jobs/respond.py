"""``respond``: what a key that somebody may have has protected is taken from under it, to the end, and it is put down what was.

A data key: it is marked, values are sealed anew, and it is retired. A KEK: who has it and a copy of the registry has every root key
that was wrapped by it, so all of these are followed by others, with the data keys and the index keys under them.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from phiproxy.errors import ConfigError
from phiproxy.jobs.incident import Incident, write_incident
from phiproxy.jobs.records import write_progress
from phiproxy.jobs.recrypt import columns_of, count_by_column, count_subjects, seal_anew
from phiproxy.jobs.reindex import bring, clear, fill_together
from phiproxy.jobs.running import JobSite, Run, Undone
from phiproxy.keys.compromise_retire import compromise, retire
from phiproxy.keys.key_rows import DataKeyRow, RootRow
from phiproxy.keys.key_state_changes import announce, set_root_state
from phiproxy.keys.registry import Registry
from phiproxy.keys.rewrap import rewrap
from phiproxy.keys.rotation import rotate_root
from phiproxy.keys.slots import ensure_index_root, next_slot
from phiproxy.keys.tenant_keks import kek_of
from phiproxy.policy.protection import Slot
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity

ENDED: Final = ("retired", "destroyed")
UNDER: Final = "under {}"
ROWS: Final = "rows of {}"
SUBJECTS: Final = "subjects of {}"


async def prepare_key(registry: Registry, key_id: int) -> dict[str, object]:
    """Return the options of a job about one data key; ConfigError when there is no such key, or it has ended."""
    for root in await registry.all_roots():
        if root.purpose == "data":
            for row in await registry.keys_of(root.id):
                if row.id == key_id and row.state not in ENDED:
                    return {"keys": [f"{key_id:08x}"], "roots": [], "scopes": [root.scope], "from": _made(row.age)}
    raise ConfigError(f"the registry has no data key {key_id:08x} that opens anything", hint="phiproxy keys list shows them")


async def prepare_kek(registry: Registry, kek_uri: str) -> dict[str, object]:
    """Return the options of a job about a KEK: the root keys that it has wrapped. ConfigError when there is none."""
    roots = [root for root in await registry.all_roots() if any(wrap.kek_uri == kek_uri for wrap in root.wraps)]
    roots = [root for root in roots if root.state not in ENDED]
    if not roots:
        raise ConfigError(f"no root key is wrapped under {kek_uri}", hint="phiproxy keys list shows under which KEK each is")
    scopes = sorted({root.scope for root in roots if root.purpose == "data"})
    oldest = _made(max(root.age for root in roots))
    return {"keys": [], "roots": [root.id for root in roots], "scopes": scopes, "from": oldest, "kek": kek_uri}


def _made(age: float) -> str:
    return datetime.fromtimestamp(time.time() - age, UTC).isoformat(timespec="seconds")


async def run(run: Run) -> None:
    """Do whatever is left to do; each step looks for itself at what is done already.

    Undone at the end, where rows could not be done: what is under the keys beside these is not any more.
    """
    site, options = run.site, run.job.options
    undone: dict[str, str] = {}
    if options["roots"]:
        run.display.phase("new root keys", 0)
        await _follow_roots(site, options)
    keys = await keys_of(site.registry, options)
    await _note_what_is_under(run, keys)
    run.display.phase("marking keys compromised", 0)
    for row, _ in keys.values():
        if row.state not in ("compromised", *ENDED):
            await _compromise(site, row.id, options["reason"])
    names = await _follow_indexes(run) if options["roots"] else []
    with _kept(undone):
        await fill_together(run, names)
    with _kept(undone):
        await seal_anew(run, frozenset(keys), options["scopes"])
    if options["roots"]:
        await _bring_indexes(run, names, undone)
    run.display.phase("retiring keys", 0)
    await _retire(run, keys, undone)
    if undone:
        raise Undone("what is under a key that is compromised", undone)
    report = Path(options["report"])
    run.display.phase(f"writing {report.name}", 0)
    await write_incident(report, await Incident.of(run, keys))


@contextmanager
def _kept(undone: dict[str, str]) -> Iterator[None]:
    """Keep which rows cannot be done, and go on with all else."""
    try:
        yield
    except Undone as error:
        undone |= {**error.rows, **undone}


async def _follow_roots(site: JobSite, options: object) -> None:
    """Wrap what is there under the KEK of now only, and give each data root the next one."""
    assert isinstance(options, dict)
    registry, deployment = site.registry, site.policy.deployment
    await rewrap(registry, site.kek, deployment, drop_old=True)
    max_uses = site.settings.keys.rotation.data_key.max_uses
    for root in await registry.all_roots():
        if root.id in options["roots"] and root.purpose == "data" and root.state == "active":
            await rotate_root(registry, site.kek, deployment, (root.scope, root.tenant, "data"), root, max_uses)


async def keys_of(registry: Registry, options: Mapping[str, Any]) -> dict[int, tuple[DataKeyRow, RootRow]]:
    """Return the data keys that a job with these options is about, ended ones too."""
    named, roots = {int(key, 16) for key in options["keys"]}, set(options["roots"])
    keys = {}
    for root in await registry.all_roots():
        if root.purpose == "data":
            for row in await registry.keys_of(root.id):
                if row.id in named or root.id in roots:
                    keys[row.id] = row, root
    return keys


async def _note_what_is_under(run: Run, keys: Iterable[int]) -> None:
    """Count, once and before anything is moved, what is under the keys."""
    if any(name.startswith(UNDER.format("")) for name in run.progress.counts):
        return
    layout = await run.site.registry.layout()
    tables = await columns_of(run, layout, run.job.options["scopes"])
    wanted = frozenset(keys)
    (counted, rows), subjects = await count_by_column(run, tables, wanted), await count_subjects(run, layout, tables, wanted)
    run.progress.counts.update({UNDER.format(label): count for label, count in counted.items()})
    run.progress.counts.update({ROWS.format(label): count for label, count in rows.items()})
    run.progress.counts.update({SUBJECTS.format(by): count for by, count in subjects.items()})
    await write_progress(run.asking, run.site.schema, run.job.id, run.progress)


async def _compromise(site: JobSite, key_id: int, reason: str) -> None:
    max_uses = site.settings.keys.rotation.data_key.max_uses
    (row,) = await site.registry.data_keys(frozenset({key_id}))
    (root,) = await site.registry.roots(frozenset({row.root_id}))
    await compromise(site.registry, kek_of(site.kek, root.tenant), site.policy.deployment, key_id, reason, max_uses)


async def _follow_indexes(run: Run) -> list[str]:
    """Make the slot of another key for each index under the roots; return the identities whose indexes those are.

    It is done before values are sealed anew for their data keys: they get its tags in the same go.
    """
    site = run.site
    layout, roots = await site.registry.layout(), await _index_roots(run)
    for identity, slot in indexes_under(layout, roots):
        await next_slot(site.registry, kek_of(site.kek, ""), site.policy.deployment, identity.identity, slot.expression)
    scopes = {root.scope for root in roots}
    return [i.identity for i in layout.identities.values() if i.scope in scopes and _is_used(layout, i.number)]


def indexes_under(layout: Layout, roots: Iterable[RootRow]) -> list[tuple[RegisteredIdentity, Slot]]:
    """Return the indexes of columns that go by keys under index roots, with the slots that are searched."""
    generations = {(root.scope, root.generation) for root in roots if root.purpose == "index"}
    used = [identity for identity in layout.identities.values() if _is_used(layout, identity.number)]
    searched = [(identity, slot) for identity in used for slot in identity.slots if slot.state == "active"]
    return [(identity, slot) for identity, slot in searched if (identity.scope, slot.generation) in generations]


async def _bring_indexes(run: Run, names: Sequence[str], undone: dict[str, str]) -> None:
    """Have each index go by its new key, clear the tags of the old ones, and retire the index roots.

    An index over a row that cannot be done goes by its old key, until the job is resumed.
    """
    while True:
        for name in names:
            with _kept(undone):
                await bring(run, name, None)
        if undone or not await _is_used_by_an_index(run):
            break
        names = await _follow_indexes(run)  # one that was made meanwhile
    with _kept(undone):
        await clear(run, names)
    await _retire_index_roots(run.site, await _index_roots(run))


async def _is_used_by_an_index(run: Run) -> bool:
    """Tell whether an index goes, or is to go, by a key under the roots."""
    layout, generations = await run.site.registry.layout(), await _generations(run)
    used = [identity for identity in layout.identities.values() if _is_used(layout, identity.number)]
    return any((i.scope, slot.generation) in generations and slot.state != "dropped" for i in used for slot in i.slots)


async def _index_roots(run: Run) -> list[RootRow]:
    roots = await run.site.registry.roots(frozenset(run.job.options["roots"]))
    return [root for root in roots if root.purpose == "index"]


async def _generations(run: Run) -> set[tuple[str, int]]:
    return {(root.scope, root.generation) for root in await _index_roots(run)}


def _is_used(layout: Layout, number: int) -> bool:
    return number in layout.columns.values()


async def _retire_index_roots(site: JobSite, old: Iterable[RootRow]) -> None:
    """Retire index roots that no slot goes by, and let the next generation be the one that new slots are under."""
    layout = await site.registry.layout()
    live = {(i.scope, s.generation) for i in layout.identities.values() for s in i.slots if s.state != "dropped"}
    for root in old:
        if (root.scope, root.generation) in live or root.state in ENDED:
            continue
        provider, own = kek_of(site.kek, root.tenant), (root.scope, root.tenant)
        following = await ensure_index_root(site.registry, provider, site.policy.deployment, own, root.generation + 1)
        async with site.registry.changing() as change:
            await set_root_state(change, root, "retired")
            if root.state == "active" and following.state in ("pending", "decrypt_only"):
                await set_root_state(change, following, "active")
            await announce(change.conn, change.schema)


async def _retire(run: Run, keys: Iterable[int], undone: dict[str, str]) -> None:
    """Verify that nothing is under the keys, and end them; what is left is sealed anew once more, or cannot be."""
    site, options = run.site, run.job.options
    for key_id in keys:
        while True:
            (row,) = await site.registry.data_keys(frozenset({key_id}))
            if row.state in ENDED:
                break
            (root,) = await site.registry.roots(frozenset({row.root_id}))
            layout = await site.registry.layout()
            columns = layout.sealed_under(root.scope)
            kek = kek_of(site.kek, root.tenant)
            if not await retire(site.registry, kek, site.policy.deployment, key_id, columns):
                break
            with _kept(undone):
                await seal_anew(run, frozenset({key_id}), options["scopes"])
                continue
            break
