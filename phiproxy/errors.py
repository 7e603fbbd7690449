"""The one error tree: class -> SQLSTATE, public text, section of the documentation.

An error never holds a value, a key or a ciphertext: its text is built from names, numbers and constants only, so that it may be
logged, shown to a client and printed by a command alike. ``KeyNeeded``, ``CatalogNeeded`` and ``AnnouncementNeeded`` are control
flow, not errors: they say that the core needs something from outside before it can take the same frame again.
"""

import re
from collections.abc import Callable, Iterable
from typing import ClassVar, NamedTuple

PAGE = "docs/errors.md"
"""The page that explains errors; every anchor is a section of it."""

# Fields of an ErrorResponse.
_STATE, _POSITION = ord("C"), ord("P")
_ADDRESS = re.compile(rf" \({re.escape(PAGE)}#[\w-]+\)$")


def address(anchor: str) -> str:
    """Return where a kind of error is explained: ``err-keys`` -> ``docs/errors.md#err-keys``."""
    return f"{PAGE}#{anchor}"


def public_text(message: str, anchor: str) -> str:
    """Return a message as it is shown: ``no`` -> ``phiproxy: no (docs/errors.md#err-refused)``."""
    return f"phiproxy: {message} ({address(anchor)})"


def own_words(text: str) -> str:
    """Return the message that ``public_text`` was given; another text is returned as it is."""
    return _ADDRESS.sub("", text.removeprefix("phiproxy: "))


class PhiproxyError(Exception):
    """Root of everything phiproxy raises on purpose.

    ``sqlstate`` is what a PostgreSQL client sees, ``anchor`` the section of ``docs/errors.md`` that explains it, ``hint`` what
    would work, and ``position`` a 1-based character offset into the client's own statement text, or None. ``objects`` are the
    fields of the message that name what it is about (protocol: s, t, c, d, n), its detail (D), or PostgreSQL's function that says
    so too (R).
    """

    sqlstate: ClassVar[str] = "XX000"
    anchor: ClassVar[str] = "err-internal"
    objects: tuple[tuple[int, str], ...] = ()

    def __init_subclass__(cls, *, sqlstate: str | None = None, anchor: str | None = None) -> None:
        """Take SQLSTATE and section of a kind of error; without one it is that of the kind above."""
        cls.sqlstate, cls.anchor = sqlstate or cls.sqlstate, anchor or cls.anchor

    def __init__(self, message: str, *, hint: str | None = None, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.position = position

    @property
    def public_text(self) -> str:
        """The text for the client: ends in the address of its explanation (spec/protocol 7.2)."""
        return public_text(self.message, self.anchor)


class ConfigError(PhiproxyError, sqlstate="F0000", anchor="err-config"):
    """Configuration, policy or machine is wrong, or the database is not as they say; a command prints it and exits 1."""


class WireError(PhiproxyError, sqlstate="08P01", anchor="err-protocol"):
    """A peer broke the protocol; always fatal, both sockets close."""


class MalformedMessage(WireError):
    """A whole message whose inside cannot be read (08P01): an ordinary error for a client's, as the server takes it."""


class ProtectionChanged(PhiproxyError, sqlstate="57000", anchor="err-connection"):
    """What is protected is no longer what it was when a COPY began, which therefore ends (57000)."""


class StatementRefused(PhiproxyError, sqlstate="0A000", anchor="err-refused"):
    """The statement may touch a protected column in a way that is not understood (0A000).

    ``name`` is the protected name for which a statement is refused as a whole: its position is where the name stands.
    ``confirmed``: PostgreSQL would surely say so too. ``placed``: without a position it is about the whole statement.
    """

    name: str = ""
    confirmed: bool = False
    placed: ClassVar[bool] = True


class StatementFailed(PhiproxyError, anchor="err-engine"):
    """What the engine computes failed as it would fail in PostgreSQL: ``fields`` are its words, for the client only.

    They may have values in them, as PostgreSQL's own errors do ("invalid input syntax for type integer"), so they are in no text of
    this exception. ``position`` is a place in the text of the rest, its sources left out, until it was put into the client's.
    ``notices`` are messages for the client that come before it: what the parser had to say.
    """

    def __init__(self, fields: Iterable[tuple[int, bytes]], position: int | None = None, notices: bytes = b"") -> None:
        super().__init__("the engine refused a statement", position=position)
        self.fields = tuple((code, value) for code, value in fields if code != _POSITION)
        self.notices = notices

    @property
    def state(self) -> str:
        """The engine's SQLSTATE."""
        return dict(self.fields).get(_STATE, b"XX000").decode("ascii", "replace")

    def told_as(self, state: str) -> "StatementFailed":
        """Return the same with another SQLSTATE."""
        fields = ((code, state.encode() if code == _STATE else value) for code, value in self.fields)
        return StatementFailed(fields, self.position, self.notices)


def state_of(error: PhiproxyError) -> str:
    """Return the SQLSTATE that the client is told: of what has failed in the engine that of the engine."""
    return error.state if isinstance(error, StatementFailed) else error.sqlstate


class ColumnMasked(StatementRefused, sqlstate="42501", anchor="err-masked"):
    """A statement uses a column of which its role sees a mask only, or nothing (42501); ``column`` is ``schema.table.column``."""

    def __init__(self, message: str, column: str = "", *, hint: str | None = None, position: int | None = None) -> None:
        super().__init__(message, hint=hint, position=position)
        self.column = column


class NoIndexAnswers(StatementRefused, anchor="err-no-index"):
    """No blind index answers the predicate; the hint is the ``indexes:`` line to add (0A000).

    ``weaker`` is a constant with which an index would answer it, in place of its own: it is then true at least where it is true.
    """

    weaker: bytes | None = None


class SyntaxRefused(StatementRefused, sqlstate="42601", anchor="err-syntax"):
    """PostgreSQL's own grammar does not parse the statement; answered as the server would (42601)."""


class UndefinedTable(StatementRefused, sqlstate="42P01", anchor="err-undefined"):
    """A statement names a protected column and a relation that does not exist (42P01)."""


class UndefinedColumn(StatementRefused, sqlstate="42703", anchor="err-undefined"):
    """A column of a protected table does not exist (42703)."""


class AmbiguousColumn(StatementRefused, sqlstate="42702", anchor="err-undefined"):
    """A column name fits two sources (42702)."""


class UndefinedObject(StatementRefused, sqlstate="42704", anchor="err-undefined"):
    """A statement names a type that does not exist: of a protected column, or with its name (42704)."""


class CollationMismatch(StatementRefused, sqlstate="42P21"):
    """Two explicit collations meet (42P21)."""


class UndefinedFunction(StatementRefused, sqlstate="42883"):
    """No function of this name takes a value of a protected column's type (42883)."""


class UndefinedOperator(StatementRefused, sqlstate="42883"):
    """A protected column is compared with a type that it has no operator for (42883)."""


class AmbiguousAlias(StatementRefused, sqlstate="42P09", anchor="err-undefined"):
    """A table name without a schema fits tables of two schemas (42P09)."""


class DuplicateAlias(StatementRefused, sqlstate="42712", anchor="err-undefined"):
    """A table name stands twice in one FROM (42712)."""


class TooManyAliases(StatementRefused, sqlstate="42P10"):
    """An alias names more columns than there are (42P10)."""


class DatatypeMismatch(StatementRefused, sqlstate="42804"):
    """A protected column is used as a type that it is not (42804)."""


class WrongObjectType(StatementRefused, sqlstate="42809"):
    """Something is used as what it is not: a plain function as an aggregate, a text as an array (42809)."""


class WindowingError(StatementRefused, sqlstate="42P20"):
    """A window function stands where there is no window (42P20)."""


class GroupingError(StatementRefused, sqlstate="42803"):
    """A grouped query names a column by which it is not grouped (42803)."""


class SetNotAllowed(StatementRefused):
    """A function that gives a set of rows stands where PostgreSQL takes one value (0A000)."""

    confirmed = True


class NotSupported(StatementRefused):
    """PostgreSQL itself does not do this (0A000)."""

    confirmed = True


class DuplicateColumn(StatementRefused, sqlstate="42701"):
    """A column is given a value more than once (42701)."""


class AmbiguousParameter(StatementRefused, sqlstate="42P08"):
    """What a parameter is, where it occurs, differs, or its first occurrence says nothing (42P08)."""


class InvalidTableDefinition(StatementRefused, sqlstate="42P16"):
    """A view would lose columns, or change their names or types (42P16)."""


class InvalidColumnReference(StatementRefused, sqlstate="42P10"):
    """A column stands where none may (42P10)."""


class WrongCount(StatementRefused, sqlstate="42601", anchor="err-syntax"):
    """A statement has another number of expressions than places for them (42601), as the server's analysis says, not its parser."""


class NotPermitted(StatementRefused, sqlstate="42501", anchor="err-permission"):
    """The statement names what no client may (42501): the key registry."""


class ValueRefused(PhiproxyError, sqlstate="22P02", anchor="err-value"):
    """A value is not valid for the declared type; subclasses carry PostgreSQL's own SQLSTATE.

    ``ahead``: the Bind by which the server reads other parameters before this is said; ``fails``: it ends in an error itself.
    """

    ahead: bytes = b""
    fails: bool = False


class StringTooLong(ValueRefused, sqlstate="22001"):
    """22001: value too long for type character varying(n)."""


class InvalidEncoding(ValueRefused, sqlstate="22021"):
    """22021: the bytes are not valid in the database's encoding."""


class UntranslatableCharacter(ValueRefused, sqlstate="22P05"):
    """22P05: a character has no equivalent in the other encoding."""


class SealError(PhiproxyError, sqlstate="XX001", anchor="err-does-not-open"):
    """A stored value does not open: tampered with, moved, or sealed by a key that is not known (XX001)."""


class OtherTenant(SealError, sqlstate="42501", anchor="err-permission"):
    """A stored value's key belongs to another tenant than the session's (42501)."""


class NoTenant(PhiproxyError, sqlstate="28000", anchor="err-connection"):
    """A session starts without the tenant that the policy wants (28000)."""


class CatalogChanged(PhiproxyError, sqlstate="0A000", anchor="err-refused"):
    """The server's columns are not those that were analysed: the table changed a moment ago (0A000); trying again helps."""


class ProviderError(PhiproxyError, sqlstate="58000", anchor="err-keys"):
    """The key provider did not give a key."""


class ProviderDenied(ProviderError):
    """The provider answered, and the answer is no (58000)."""


class ProviderMisconfigured(ProviderError):
    """The provider cannot be used as configured: wrong URI, file mode, missing library (58000)."""


class NotAuthentic(ProviderMisconfigured):
    """A part of the key registry is not as phiproxy has left it, or older than it was seen (58000)."""


class ProviderUnavailable(ProviderError, sqlstate="57P03"):
    """The provider or the registry does not answer and nothing usable is cached (57P03)."""


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


class MaskKeyWant(NamedTuple):
    """The key is wanted under which pseudonyms of one identity's values are made for a role."""

    number: int
    role: str


KeyWant = DataKeyWant | WriteKeyWant | IndexKeyWant | MaskKeyWant


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
    """Return ``file:line`` where an exception was raised, the file by its last two parts: all that is told of an unexpected one.

    Where a library raised it, that place follows the last one of phiproxy's own: ``net/relay.py:98 handles/handle.pyx:159``.
    """
    trace, ours, last = error.__traceback__, "", ""
    while trace is not None:
        parts = trace.tb_frame.f_code.co_filename.replace("\\", "/").split("/")
        last = f"{'/'.join(parts[-2:])}:{trace.tb_lineno}"
        if str(trace.tb_frame.f_globals.get("__name__")).startswith("phiproxy."):
            ours = last
        trace = trace.tb_next
    return last if last == ours or not ours else f"{ours} {last}"
