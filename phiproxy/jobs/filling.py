"""Sealing the rows of a table that is being encrypted, and looking at each again: does what was sealed open to what is there?

``batches`` goes through the rows.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from phiproxy.errors import KeyNeeded, SealError, ValueRefused
from phiproxy.jobs.conversion import ConvertedColumn, ConvertedTable
from phiproxy.jobs.conversion_sql import wanted
from phiproxy.jobs.relations import Part, as_part
from phiproxy.jobs.row_sql import VERSION, Done, Read, Row, Scan
from phiproxy.jobs.sealed_values import TenantValues
from phiproxy.long_values import LONG_VALUE
from phiproxy.plan.document_ciphers import of_binary
from phiproxy.plan.sealed_columns import column_store
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.types.codecs import codec
from phiproxy.types.styles import Styles

_HEX: Final = b"\0\\x"
"""Behind a zero byte, which no value has: what begins so may be what is stored already, and is looked at by itself."""


def canonical(declared: DeclaredType) -> Callable[[str], bytes]:
    """Return what brings a value, as the server prints it in a job's session, into the form in which it is sealed; ValueRefused.

    ``canonical(numeric(5, 2))("1.50")`` is ``b"1.50"``.
    """
    if declared.is_text:
        return str.encode
    own, typmod = codec(declared), declared.typmod
    return lambda text: own.assign(own.from_text(text.encode(), Styles.CANONICAL), typmod)


def fill_scan(table: ConvertedTable, part: Part) -> Scan:
    """Return the rows that are to be sealed: only their keys, and the values, are read."""
    condition = as_part(wanted(table.columns))
    reads = _sealed(table) if table.opening else _plain(table)
    reads = (*VERSION, *reads, *_tenant(table))
    return Scan(part, reads, _shadows(table), condition, remembered=_remembered(table, part), set_types=_set_types(table))


def verify_scan(table: ConvertedTable, part: Part) -> Scan:
    """Return all rows, with plain and sealed values."""
    any_filled = " OR ".join(f"t.{quote_ident(c.shadow)} IS NOT NULL" for c in table.columns)
    reads = (*VERSION, *_plain(table), *_sealed(table), *_tenant(table))
    remembered = _remembered(table, part)
    return Scan(part, reads, _shadows(table), as_part(any_filled), remembered=remembered, set_types=_set_types(table))


def _plain(table: ConvertedTable) -> tuple[Read, ...]:
    names = [c.shadow if table.opening else c.column.name for c in table.columns]
    return tuple(_text(name) for name in names)


def _sealed(table: ConvertedTable) -> tuple[Read, ...]:
    names = {c.column.name if table.opening else c.shadow: c.sealed_type for c in table.columns}
    return tuple(
        Read(f"t.{quote_ident(name)}", "bytea", same=False)
        if type_name == "bytea"
        else _text(name)
        for name, type_name in names.items()
    )


def _text(name: str) -> Read:
    return Read(f"(t.{quote_ident(name)})::text", "text", same=False, what=name)


def _tenant(table: ConvertedTable) -> tuple[Read, ...]:
    """Return what says whose a row is, where that is to be read (``tenant_rows``)."""
    return () if table.tenant_by is None else (Read(f"({table.tenant_by})::text", "text", same=False, what="its tenant"),)


def _set_types(table: ConvertedTable) -> tuple[str, ...]:
    if table.opening:
        return tuple(c.plain_type for c in table.columns)
    types = tuple(c.sealed_type for c in table.columns)
    return types if "jsonb" in types else ()


def _shadows(table: ConvertedTable) -> tuple[str, ...]:
    return tuple(c.shadow for c in table.columns)


def _remembered(table: ConvertedTable, part: Part) -> bool:
    """Tell whether a row's key may be in the registry, and in messages: not where it is of a column of the policy."""
    return not any(table.listed & set(key.columns) for key in part.key)


class Filling:
    """Seals the values of rows."""

    def __init__(self, table: ConvertedTable, values: TenantValues) -> None:
        self._columns = [c.column.bare for c in table.columns]
        self._canonical = [_canonical(table, column) for column in self._columns]
        self._opened = [_as_it_is(values, c) for c in table.columns]
        self._as_texts = bool(_set_types(table))
        self._values = values
        stores = [column_store(values.ciphers, column, canonical=True) for column in self._columns]
        at_once = table.decode is None and not (self._as_texts or any(self._opened))
        self._stores = [store for store in stores if store is not None] if at_once and all(stores) else []

    async def __call__(self, rows: Sequence[Row]) -> list[Done]:
        """Return the envelopes of each row, or why one of its values cannot be sealed."""
        if not rows:
            return []
        if self._stores and len(rows) <= self._values.most_rows:
            done = await self._at_once(rows)
            if done is not None:
                return done
        return await self._one_by_one(rows)

    async def _at_once(self, rows: Sequence[Row]) -> list[Done] | None:
        """Return what becomes of rows, column by column; None where a value is long, or it must be said why it is refused."""
        values = self._values
        by_column = [*zip(*(row.values[len(VERSION) :] for row in rows), strict=True)]
        macs = await values.do(lambda: values.ciphers.macs(self._columns))
        ready: list[tuple[list[int] | None, list[bytes], list[bytes]]] = []
        for texts, to_canonical, store, own_macs in zip(by_column, self._canonical, self._stores, macs, strict=True):
            places = [at for at, text in enumerate(texts) if text is not None] if None in texts else None
            try:
                given = [*map(to_canonical, texts if places is None else (texts[at] for at in places))]
                if given and (max(map(len, given)) > LONG_VALUE or _HEX in b"\0" + b"\0".join(given) or not store.takes(given)):
                    return None
                ready.append((places, given, store.slots(given, own_macs)))
            except ValueRefused:
                return None
        keys = {scope: await values.row_keys(scope, len(rows)) for scope in {c.scope for c in self._columns}}
        sealed: list[Sequence[bytes | None]] = []
        for column, store, (places, given, slots) in zip(self._columns, self._stores, ready, strict=True):
            own = keys[column.scope]
            envelopes = store.seal(given, own if places is None else own.of(places), slots)
            if places is None:
                sealed.append(envelopes)
                continue
            by_row: list[bytes | None] = [None] * len(rows)
            for at, envelope in zip(places, envelopes, strict=True):
                by_row[at] = envelope
            sealed.append(by_row)
        return [*zip(*sealed, strict=True)]

    async def _one_by_one(self, rows: Sequence[Row]) -> list[Done]:
        values = self._values
        stores = await values.do(lambda: values.ciphers.stores(self._columns))
        records = {scope: await values.records(scope, len(rows)) for scope in {c.scope for c in self._columns}}
        plain = [row.values[len(VERSION) :] for row in rows]
        sealed: list[list[bytes | str | None]] = []
        done: list[Done] = [None] * len(rows)
        for n, column in enumerate(self._columns):
            to_canonical, store, opened = self._canonical[n], stores[column], self._opened[n]
            sealed.append([])
            add = sealed[n].append
            for at, (texts, record) in enumerate(zip(plain, records[column.scope], strict=True)):
                text = texts[n]
                if text is None:
                    add(None)
                    continue
                try:
                    if opened is not None:
                        text = await opened(text)
                    new = store(to_canonical(text), record)
                    add(as_text(column, new) if self._as_texts else new)
                except (ValueRefused, SealError) as error:
                    add(None)
                    done[at] = done[at] or SealError(f"{column.label}: {error.message}")
        return [wrong or new for wrong, new in zip(done, zip(*sealed, strict=True), strict=True)]


def _as_it_is(values: TenantValues, column: ConvertedColumn) -> Callable[[str], Awaitable[str]] | None:
    """Return what opens a document of which other fields are sealed than will be; None for a column in clear. SealError."""
    if column.source is None:
        return None
    open_value = opener(values, column.source.bare)

    async def opened(text: str) -> str:
        return (await open_value(text)).decode()

    return opened


def as_text(column: ProtectedColumn, sealed: bytes) -> str:
    """Return a sealed value as the server reads it from a text: of a document with sealed fields its JSON."""
    return f"\\x{sealed.hex()}" if column.document is None else of_binary(sealed).decode("ascii")


def _canonical(table: ConvertedTable, column: ProtectedColumn) -> Callable[[str], bytes]:
    """Return ``canonical`` of a column, behind what decodes the values of another scheme."""
    to_canonical, decode = canonical(column.type), table.decode
    return to_canonical if decode is None else lambda text: to_canonical(decode(text))


class Opening:
    """Opens the values of rows, for good."""

    def __init__(self, table: ConvertedTable, values: TenantValues) -> None:
        self._columns = [c.column.bare for c in table.columns]
        self._open = [opener(values, column) for column in self._columns]

    async def __call__(self, rows: Sequence[Row]) -> list[Done]:
        """Return the plain values of each row as texts, or why one does not open."""
        return [await self._row(row) for row in rows]

    async def _row(self, row: Row) -> Done:
        plain: list[str | None] = []
        for column, open_value, envelope in zip(self._columns, self._open, row.values[len(VERSION) :], strict=True):
            try:
                plain.append(None if envelope is None else (await open_value(envelope)).decode())
            except SealError as error:
                return SealError(f"{column.label}: {error.message}")
        return plain


def opener(values: TenantValues, column: ProtectedColumn) -> Callable[[bytes | str], Awaitable[bytes]]:
    """Return what gives the plaintext of a stored value, of a document with sealed fields of its text; SealError."""
    open_value = values.ciphers.open(column)

    async def opened(sealed: bytes | str) -> bytes:
        envelope = sealed if isinstance(sealed, bytes) else sealed.encode()
        try:
            return open_value(envelope)
        except KeyNeeded:
            return await values.do(lambda: open_value(envelope))

    return opened


class Verifying:
    """Opens what is sealed and compares it; what differs is emptied, and ``differing`` counts it."""

    def __init__(self, table: ConvertedTable, values: TenantValues) -> None:
        self._columns = [
            (_as_it_is(values, c), _canonical(table, c.column.bare), opener(values, c.column.bare)) for c in table.columns
        ]
        self._opening = table.opening
        self._as_texts = bool(_set_types(table)) and not table.opening
        self.differing = 0

    async def __call__(self, rows: Sequence[Row]) -> list[Done]:
        """Return None for a row whose sealed values are its plain ones, else what of it is right."""
        return [await self._row(row) for row in rows]

    async def _row(self, row: Row) -> Done:
        count = len(self._columns)
        texts, sealed = row.values[len(VERSION) : len(VERSION) + count], row.values[len(VERSION) + count :]
        right: list[bytes | str | None] = []
        for (as_it_is, to_canonical, open_value), text, envelope in zip(self._columns, texts, sealed, strict=True):
            same = False
            if envelope is not None and text is not None:
                try:
                    plain = text if as_it_is is None else await as_it_is(text)
                    same = await open_value(envelope) == to_canonical(plain)
                except (SealError, ValueRefused):
                    same = False
            right.append((text if self._opening else envelope) if same else None)
        if right == list(texts if self._opening else sealed):
            return None
        self.differing += 1
        return [f"\\x{value.hex()}" if self._as_texts and isinstance(value, bytes) else value for value in right]
