"""Sealing stored values anew with a tag in each slot that is registered: those of columns, and the fields of documents."""

from collections.abc import Sequence

from phiproxy.crypto.seal import Record
from phiproxy.documents.field_paths import spell_path
from phiproxy.documents.stored_leaves import stored_leaves, with_leaves
from phiproxy.errors import KeyNeeded, PhiproxyError, SealError
from phiproxy.jobs.identity_tables import Tagged
from phiproxy.jobs.row_sql import Done, Row
from phiproxy.jobs.sealed_values import SealedValues, TenantValues, key_id_of
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.types.json_types import canonical, parse

Records = dict[tuple[str, str], Record]
"""The record key of a row for each tenant and scope: all its values are under one salt."""


class Tagging:
    """Seals the values of the columns of one relation anew, in their order."""

    def __init__(self, values: SealedValues, columns: Sequence[Tagged]) -> None:
        self._values = values
        self._columns = columns
        self._bare: dict[tuple[str, str], ProtectedColumn] = {}
        self._as_texts = any(column.fields for column in columns)

    async def __call__(self, rows: Sequence[Row]) -> list[Done]:
        """Return the new values of each row, or why one of them does not open or has no tag."""
        done: list[Done] = []
        for row in rows:
            try:
                done.append(await self._row(row))
            except SealError as error:
                done.append(error)
        return done

    async def _row(self, row: Row) -> list[bytes | str | None]:
        new: list[bytes | str | None] = []
        records: Records = {}
        for tagged, value in zip(self._columns, row.values, strict=True):
            if value is None:
                new.append(None)
            elif tagged.fields:
                new.append(await self._document(tagged, value, records))
            else:
                sealed = await self._anew(tagged.column, value, tagged.column.scope, records)
                new.append(f"\\x{sealed.hex()}" if self._as_texts else sealed)
        return new

    async def _document(self, tagged: Tagged, text: str, records: Records) -> str:
        """Return a document whose fields of this identity have all their tags; the rest of it stays."""
        document = parse(text.encode())
        fields = {field.path: field for field in tagged.fields}
        new: dict[bytes, bytes] = {}
        for path, envelope in stored_leaves(document):
            field = fields.get(spell_path(path))
            if field is not None and int.from_bytes(envelope[9:11]) == field.number:
                new[envelope] = await self._anew(field, envelope, tagged.column.scope, records)
        return canonical(with_leaves(document, new)).decode()

    async def _anew(self, column: ProtectedColumn, envelope: bytes, scope: str, records: Records) -> bytes:
        own = await self._values.of_key(key_id_of(envelope))
        record = records.get((own.tenant, scope)) or records.setdefault((own.tenant, scope), await own.record(scope))
        bare = self._of(column, own)
        while True:
            try:
                plaintext = own.ciphers.open(bare)(envelope)
                (macs,) = own.ciphers.macs([bare])
                return own.ciphers.row_store(bare)(plaintext, record, macs)
            except KeyNeeded as needed:
                await own.keys.fetch(needed.wants)
            except SealError:
                raise
            except PhiproxyError as error:
                raise SealError(f"stored value cannot be indexed: {error.message}") from None

    def _of(self, column: ProtectedColumn, own: TenantValues) -> ProtectedColumn:
        key = own.tenant, column.name + column.path
        if key not in self._bare:
            self._bare[key] = column.bare.with_tenant(own.tenant)
        return self._bare[key]
