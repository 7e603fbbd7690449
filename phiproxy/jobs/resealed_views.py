"""The sealed rests of views over expressions: they are sealed anew where they stand, in the stored queries of these views.

A rest names, by digests of what they are sealed as, the rests of the views that its own view reads (``ViewRest.over``). So those
that name one that is sealed anew are sealed anew too, and all of them are put in place together.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from phiproxy.errors import ConfigError, SealError
from phiproxy.jobs.dependents import spelled
from phiproxy.jobs.relations import Connection, TableName, may_act_as, rows_of
from phiproxy.jobs.running import Run
from phiproxy.jobs.sealed_values import SealedValues, key_id_of
from phiproxy.jobs.short_locks import with_short_lock
from phiproxy.jobs.stored_columns import StoredColumn
from phiproxy.policy.identifiers import literal, quote_ident
from phiproxy.policy.registry_layout import Layout
from phiproxy.policy.view_rests import SEALED, SEALED_PATH, ViewRest, digest_of, read_rest, sealed_in

_VIEWS: Final = """
SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text, coalesce(c.reloptions, '{}')::text[],
       pg_catalog.pg_get_viewdef(c.oid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'v' AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = %s)
 ORDER BY 1, 2
"""
_ANEW: Final = "drop the view, and create it again through the proxy"


@dataclass(frozen=True)
class _View:
    """A view as the server has it, and the rest that stands in it."""

    name: TableName
    owner: str
    options: tuple[str, ...]
    query: str
    sealed: bytes
    column: StoredColumn | None
    rest: ViewRest | None

    @property
    def label(self) -> str:
        return spelled(self.name)

    def with_rest(self, sealed: bytes) -> str:
        """Return what replaces it by the same view with the same rest, sealed otherwise."""
        given = ", ".join(f"{quote_ident(key)} = {literal(value)}" for key, _, value in (o.partition("=") for o in self.options))
        options = f" WITH ({given})" if given else ""
        return f"CREATE OR REPLACE VIEW {self.label}{options} AS {self.query.replace(self.sealed.hex(), sealed.hex())}"


async def renew_views(run: Run, values: SealedValues, keys: Collection[int]) -> None:
    """Seal the rests anew that are under these keys, and those that are over them.

    ConfigError where the service role may not alter one of the views, or one does not open.
    """
    views = await _views(run, values, await run.site.registry.layout())
    new: dict[bytes, bytes] = {}
    replaced: list[_View] = []
    for view in _inner_first(views):
        if key_id_of(view.sealed) in keys or (view.rest is not None and not new.keys().isdisjoint(view.rest.over)):
            new[digest_of(view.sealed)] = await _anew(values, view, new)
            replaced.append(view)
    if not replaced:
        return
    for view in replaced:
        if not await may_act_as(run.conn, view.owner):
            raise ConfigError(
                f"what view {view.label} computes by is under a key that is to go, and the service role may not alter the view",
                hint=f"for the time of the job: GRANT {quote_ident(view.owner)} TO {quote_ident(run.site.settings.service.user)}",
            )
    work = partial(_put_in_place, run, [(view, new[digest_of(view.sealed)]) for view in replaced])
    await with_short_lock(run.conn, replaced[0].owner, f"view {replaced[0].label}", work, told=run.display.waits)


async def views_under(conn: Connection, keys: Collection[int]) -> list[tuple[str, str]]:
    """Return the views over expressions whose rests are under these keys, with their owners."""
    listed = [(spelled((schema, name)), owner, sealed_in(q)) for schema, name, owner, _, q in await rows_of(conn, _VIEWS, SEALED)]
    return [(label, owner) for label, owner, sealed in listed if sealed is not None and key_id_of(sealed) in keys]


async def _views(run: Run, values: SealedValues, layout: Layout) -> list[_View]:
    """Return the views over expressions of this deployment's columns, as far as they open with their rests."""
    views = []
    for schema, name, owner, options, query in await rows_of(run.conn, _VIEWS, SEALED):
        sealed = sealed_in(query)
        if sealed is None:
            continue
        identity = layout.identities.get(int.from_bytes(sealed[9:11]))
        column = StoredColumn("", identity, None, path=SEALED_PATH) if identity is not None else None
        rest = None
        if column is not None:
            try:
                rest = read_rest(await (await values.of_key(key_id_of(sealed))).open(column, sealed))
            except (SealError, ValueError, KeyError, TypeError):
                rest = None  # the proxy refuses it
        views.append(_View((schema, name), owner, tuple(options), query, sealed, column, rest))
    return views


def _inner_first(views: Sequence[_View]) -> list[_View]:
    """Return views in such an order that each is behind those that it reads."""
    by_rest = {digest_of(view.sealed): view for view in views}
    ordered: dict[TableName, _View] = {}

    def add(view: _View) -> None:
        for over in view.rest.over if view.rest is not None else ():
            if over in by_rest and by_rest[over].name not in ordered:
                add(by_rest[over])
        ordered.setdefault(view.name, view)

    for view in views:
        add(view)
    return list(ordered.values())


async def _anew(values: SealedValues, view: _View, new: dict[bytes, bytes]) -> bytes:
    rest, column = view.rest, view.column
    if rest is None or column is None:
        raise ConfigError(f"what view {view.label} computes by is under a key that is to go, and does not open", hint=_ANEW)
    own = await values.of_key(key_id_of(view.sealed))
    renewed = replace(rest, over=tuple(digest_of(new[over]) if over in new else over for over in rest.over))
    record = await own.record(column.identity.scope)
    return await own.reseal(column, view.sealed, record, changed=lambda _: renewed.written())


async def _put_in_place(run: Run, views: Sequence[tuple[_View, bytes]], conn: Connection) -> None:
    """Replace views, all or none; ConfigError where one was replaced by somebody since it was read.

    All are locked before they are read once more, each by what changes nothing: LOCK would lock the tables that it reads too.
    """
    for view, _ in views:
        await conn.execute(f"SET LOCAL ROLE {quote_ident(view.owner)}".encode())
        await conn.execute(f"ALTER VIEW {view.label} OWNER TO {quote_ident(view.owner)}".encode())
    now = {(schema, name): query for schema, name, _, _, query in await rows_of(conn, _VIEWS, SEALED)}
    for view, sealed in views:
        if now.get(view.name) != view.query:
            raise ConfigError(f"view {view.label} was changed meanwhile", hint=f"phiproxy jobs resume {run.job.id} goes on")
        await conn.execute(f"SET LOCAL ROLE {quote_ident(view.owner)}".encode())
        await conn.execute(view.with_rest(sealed).encode())
