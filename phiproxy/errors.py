"""The one error tree: class -> SQLSTATE, public text, README anchor.

An error never holds a value, a key or a ciphertext: its text is built from names, numbers and constants only, so that it may be
logged, shown to a client and printed by a command alike. ``KeyNeeded``, ``CatalogNeeded`` and ``AnnouncementNeeded`` are control
flow, not errors: they say that the core needs something from outside before it can take the same frame again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar, NamedTuple


class PhiproxyError(Exception):
    """Root of everything phiproxy raises on purpose.

    ``sqlstate`` is what a PostgreSQL client sees, ``anchor`` the section of the README's error table, ``hint`` what would work, and
    ``position`` a 1-based character offset into the client's own statement text, or None. ``objects`` are the fields of the message
    that name what it is about (protocol: s, t, c, d, n).
    """

    sqlstate: ClassVar[str] = "XX000"
    anchor: ClassVar[str] = "err-internal"
    objects: tuple[tuple[int, str], ...] = ()

    def __init__(self, message: str, *, hint: str | None = None, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.position = position

    @property
    def public_text(self) -> str:
        """The text for the client: begins with ``phiproxy:`` and ends in the anchor (config.md section 4)."""
        return f"phiproxy: {self.message} (README#{self.anchor})"


class ConfigError(PhiproxyError):
    """Configuration or policy is wrong, or the database is not as they say; a command prints it and exits 1."""

    sqlstate = "F0000"
    anchor = "err-config"


class WireError(PhiproxyError):
    """A peer broke the protocol; always fatal, both sockets close."""

    sqlstate = "08P01"
    anchor = "err-protocol"


class MalformedMessage(WireError):
    """A whole message whose inside cannot be read (08P01): an ordinary error for a client's, as the server takes it."""


class ProtectionChanged(PhiproxyError):
    """What is protected is no longer what it was when a COPY began, which therefore ends (57000)."""

    sqlstate = "57000"
    anchor = "err-connection"


class StatementRefused(PhiproxyError):
    """The statement may touch a protected column in a way that is not understood (0A000).

    ``name`` is the protected name for which a statement is refused as a whole: its position is where the name stands.
    ``confirmed``: PostgreSQL would surely say so too.
    """

    name: str = ""
    confirmed: bool = False

    sqlstate = "0A000"
    anchor = "err-refused"


class NoIndexAnswers(StatementRefused):
    """No blind index answers the predicate; the hint is the ``indexes:`` line to add (0A000)."""

    anchor = "err-no-index"


class SyntaxRefused(StatementRefused):
    """PostgreSQL's own grammar does not parse the statement; answered as the server would (42601)."""

    sqlstate = "42601"
    anchor = "err-syntax"


class UndefinedTable(StatementRefused):
    """A statement names a protected column and a relation that does not exist (42P01)."""

    sqlstate = "42P01"
    anchor = "err-undefined"


class UndefinedColumn(StatementRefused):
    """A column of a protected table does not exist (42703)."""

    sqlstate = "42703"
    anchor = "err-undefined"


class AmbiguousColumn(StatementRefused):
    """A column name fits two sources (42702)."""

    sqlstate = "42702"
    anchor = "err-undefined"


class UndefinedObject(StatementRefused):
    """A statement names a type that does not exist: of a protected column, or with its name (42704)."""

    sqlstate = "42704"
    anchor = "err-undefined"


class CollationMismatch(StatementRefused):
    """Two explicit collations meet (42P21)."""

    sqlstate = "42P21"


class UndefinedFunction(StatementRefused):
    """No function of this name takes a value of a protected column's type (42883)."""

    sqlstate = "42883"


class UndefinedOperator(StatementRefused):
    """A protected column is compared with a type that it has no operator for (42883)."""

    sqlstate = "42883"


class AmbiguousAlias(StatementRefused):
    """A table name without a schema fits tables of two schemas (42P09)."""

    sqlstate = "42P09"
    anchor = "err-undefined"


class DuplicateAlias(StatementRefused):
    """A table name stands twice in one FROM (42712)."""

    sqlstate = "42712"
    anchor = "err-undefined"


class TooManyAliases(StatementRefused):
    """An alias names more columns than there are (42P10)."""

    sqlstate = "42P10"


class DatatypeMismatch(StatementRefused):
    """A protected column is used as a type that it is not (42804)."""

    sqlstate = "42804"


class WrongObjectType(StatementRefused):
    """Something is used as what it is not: a plain function as an aggregate, a text as an array (42809)."""

    sqlstate = "42809"


class WindowingError(StatementRefused):
    """A window function stands where there is no window (42P20)."""

    sqlstate = "42P20"


class GroupingError(StatementRefused):
    """A grouped query names a column by which it is not grouped (42803)."""

    sqlstate = "42803"


class InvalidColumnReference(StatementRefused):
    """A column stands where none may (42P10)."""

    sqlstate = "42P10"


class WrongCount(StatementRefused):
    """A statement has another number of expressions than places for them (42601), as the server's analysis says, not its parser."""

    sqlstate = "42601"
    anchor = "err-syntax"


class NotPermitted(StatementRefused):
    """The statement names what no client may (42501): the key registry."""

    sqlstate = "42501"
    anchor = "err-permission"


class ValueRefused(PhiproxyError):
    """A value is not valid for the declared type; subclasses carry PostgreSQL's own SQLSTATE."""

    sqlstate = "22P02"
    anchor = "err-value"


class StringTooLong(ValueRefused):
    """22001: value too long for type character varying(n)."""

    sqlstate = "22001"


class InvalidEncoding(ValueRefused):
    """22021: the bytes are not valid in the database's encoding."""

    sqlstate = "22021"


class UntranslatableCharacter(ValueRefused):
    """22P05: a character has no equivalent in the other encoding."""

    sqlstate = "22P05"


class SealError(PhiproxyError):
    """A stored value does not open: tampered with, moved, or sealed by a key that is not known (XX001)."""

    sqlstate = "XX001"
    anchor = "err-does-not-open"


class OtherTenant(SealError):
    """A stored value's key belongs to another tenant than the session's (42501)."""

    sqlstate = "42501"
    anchor = "err-permission"


class NoTenant(PhiproxyError):
    """A session starts without the tenant that the policy wants (28000)."""

    sqlstate = "28000"
    anchor = "err-connection"


class CatalogChanged(PhiproxyError):
    """The server's columns are not those that were analysed: the table changed a moment ago (0A000); trying again helps."""

    sqlstate = "0A000"
    anchor = "err-refused"


class ProviderError(PhiproxyError):
    """The key provider did not give a key."""

    sqlstate = "58000"
    anchor = "err-keys"


class ProviderDenied(ProviderError):
    """The provider answered, and the answer is no (58000)."""


class ProviderMisconfigured(ProviderError):
    """The provider cannot be used as configured: wrong URI, file mode, missing library (58000)."""


class NotAuthentic(ProviderMisconfigured):
    """A part of the key registry is not as phiproxy has left it, or older than it was seen (58000)."""


class ProviderUnavailable(ProviderError):
    """The provider or the registry does not answer and nothing usable is cached (57P03)."""

    sqlstate = "57P03"


class DataKeyWant(NamedTuple):
    """The data key of this id is wanted, for opening."""

    key_id: int


class WriteKeyWant(NamedTuple):
    """``uses`` uses of the active data key of this scope are wanted, for sealing."""

    scope: str
    uses: int


class IndexKeyWant(NamedTuple):
    """The key of one slot of one identity is wanted, for tags."""

    number: int
    slot: int


KeyWant = DataKeyWant | WriteKeyWant | IndexKeyWant


class KeyNeeded(Exception):
    """The keyring cannot answer yet; fetch ``wants`` and try the same frame again."""

    def __init__(self, wants: Iterable[KeyWant]) -> None:
        super().__init__("a key is needed")
        self.wants: frozenset[KeyWant] = frozenset(wants)


class LongWorkNeeded(Exception):
    """A value is so long that another thread is to do ``work``; give its outcome and try the same frame again."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__("a long value must be read")
        self.work = work


class PathNeeded(Exception):
    """An unqualified protected name was used, at ``position``, while the session's search path is not known.

    ``of_styles``: or a value that is spelled as settings say which are not known.
    """

    def __init__(self, position: int | None = None, *, of_styles: bool = False) -> None:
        super().__init__("the search path must be read")
        self.position = position
        self.of_styles = of_styles


class CatalogNeeded(Exception):
    """The catalogue snapshot may not know a name; read it afresh and try the same frame again.

    ``changed``: it was right before the client's own DDL, so that it is enough to see whether it is another one now. ``names`` are
    those of relations and indexes that were not read yet.
    """

    def __init__(self, *, changed: bool = False, names: frozenset[str] = frozenset()) -> None:
        super().__init__("the catalogue must be read")
        self.changed = changed
        self.names = names


class AnnouncementNeeded(Exception):
    """DDL is about to make ``names`` over protected columns: all live proxies must have heard of them before it is sent."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__("names must be announced")
        self.names = names


def place_of(error: BaseException) -> str:
    """Return ``file:line`` where an exception was raised, the file by its last two parts: all that is told of an unexpected one."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    file = "/".join(trace.tb_frame.f_code.co_filename.replace("\\", "/").split("/")[-2:])
    return f"{file}:{trace.tb_lineno}"
