"""Definitions over sealed columns as they read over plain ones: their sealed constants and conditions are opened, for good."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from phiproxy.errors import PhiproxyError, SealError
from phiproxy.jobs.sealed_values import TenantValues
from phiproxy.plan.converted_views import in_clear, opened_rest
from phiproxy.plan.stored_query import StoredQuery
from phiproxy.policy.condition_sql import condition_sql
from phiproxy.policy.identifiers import literal, quote_ident
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.policy.view_rests import is_inner, sealed_in

_ENVELOPE: Final = re.compile(r"'\\x(f5500101[0-9a-f]+)'::bytea")
_COMPUTED: Final = re.compile(
    rf"(?:pg_catalog\.)?decode\((?:pg_catalog\.)?encode\({_ENVELOPE.pattern}, 'base64'(?:::text)?\), 'hex'(?:::text)?\)"
)
_POSITION: Final = re.compile(r'(?:pg_catalog\.)?"?position"?\(', re.IGNORECASE)
_NUMBERS: Final = frozenset({"int2", "int4", "int8", "numeric"})
_NO: Final = re.compile(r"\s*=\s*0")


class PlainDefinitions:
    """Definitions as an application would have written them, of those that the proxy has sealed.

    Without ``values`` nothing can be opened, and only ``refusal`` can be asked.
    """

    def __init__(self, columns: Iterable[ProtectedColumn], values: TenantValues | None = None) -> None:
        self._columns = {(c.number, c.name): c for c in columns}
        self._values = values

    def refusal(self, _text: str) -> PhiproxyError | None:
        """Return None: what was sealed can be opened."""
        return None

    async def definition(self, text: str) -> str:
        r"""Return the definition with what it holds sealed in clear; SealError.

        ``… SET DEFAULT '\\xf550…'::bytea`` becomes ``… SET DEFAULT 'x'::text``, what holds the sealed text of a
        computed default that text, and a sealed condition of a CHECK that condition.
        """
        if "SET DEFAULT" not in text:
            return await self._conditions(text)
        return await self._constants(text)

    async def view(self, stored: StoredQuery) -> str:
        """Return CREATE VIEW as it is, or of one that computes over what will be in clear what it shows; SealError."""
        sealed = sealed_in(stored.query)
        if sealed is None:
            return stored.statement()
        values, number = self._values, int.from_bytes(sealed[9:11])
        column = next((column for (n, _), column in self._columns.items() if n == number), None)
        if values is None or column is None:
            raise SealError("what a view computes by is of another column")
        rest = await values.do(lambda: opened_rest(values.ciphers, column, sealed))
        shown = [name for name in stored.columns if not is_inner(name)]
        return stored.statement(in_clear(stored.query, stored.columns, rest), shown)

    async def _constants(self, text: str) -> str:
        computed = _COMPUTED.search(text)
        if computed is not None:
            column, envelope = self._column(bytes.fromhex(computed[1]), text), computed[1]
            expression = (await self._opened(column, envelope, default=True)).decode()
            return f"{text[: computed.start()]}({expression}){text[computed.end() :]}"
        match = _ENVELOPE.search(text)
        while match is not None:
            column = self._column(bytes.fromhex(match[1]), text)
            value = (await self._opened(column, match[1])).decode()
            number = column.type.underlying.family in _NUMBERS and value.lstrip("-").replace(".", "", 1).isdigit()
            text = text[: match.start()] + (value if number else literal(value)) + text[match.end() :]
            match = _ENVELOPE.search(text)
        return text

    async def _conditions(self, text: str) -> str:
        while (match := _ENVELOPE.search(text)) is not None:
            start = max((m.start() for m in _POSITION.finditer(text, 0, match.start())), default=-1)
            end = _closing(text, text.index("(", start)) if start >= 0 else -1
            if end < match.end() or (rest := _NO.match(text, end)) is None:
                raise SealError("a sealed condition of a constraint is not where phiproxy puts one")
            column = self._column(bytes.fromhex(match[1]), text[start:end])
            condition = condition_sql(await self._opened(column, match[1]), quote_ident(column.name))
            text = f"{text[:start]}{condition}{text[rest.end() :]}"
        return text

    def _column(self, envelope: bytes, text: str) -> ProtectedColumn:
        """Return the column that an envelope is of; of several of one domain that which the definition names."""
        number = int.from_bytes(envelope[9:11])
        own = [column for (n, _), column in self._columns.items() if n == number]
        named = [c for c in own if re.search(rf"(?<![\w$]){re.escape(quote_ident(c.name))}(?![\w$])", text)]
        if not named:
            raise SealError("a sealed constant of a definition is of another column")
        return named[0]

    async def _opened(self, column: ProtectedColumn, envelope: str, *, default: bool = False) -> bytes:
        values = self._values
        assert values is not None
        if default:
            holding = replace(column.bare, computed_default=bytes.fromhex(envelope))
            return await values.do(lambda: values.ciphers.default_text(holding))
        return await values.do(lambda: values.ciphers.open(column.bare)(bytes.fromhex(envelope)))


def _closing(text: str, opening: int) -> int:
    """Return the end of what a parenthesis opens; texts within it hold none that count."""
    depth, quoted = 0, False
    for at in range(opening, len(text)):
        quoted ^= text[at] == "'"
        depth += 0 if quoted else (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at + 1
    return -1
