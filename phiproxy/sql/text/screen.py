"""Which texts must be analysed: a search for the protected names in the bytes of a text, without a parse.

The search finds too much on purpose, such as names inside literals and longer words; what it finds is then parsed. A text in which
it finds nothing cannot name anything protected: every spelling of an identifier (folded, quoted, with doubled quotes, ``U&``)
contains the name in some case, or contains ``U&"``.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from phiproxy.long_values import LONG_VALUE, cut
from phiproxy.policy.catalog import ANY_DDL, ANYTHING, Catalog
from phiproxy.policy.dependencies import changes_session
from phiproxy.policy.protection import Protection

# What changes the meaning of later names, or refers to what was named before. Each of these is parsed and looked at, cheaply.
_WATCHED = re.compile(
    r"\b(?:set|reset|discard|prepare|execute|deallocate|declare|fetch|move|close|create|alter|drop|do|call|import|begin|start|commit|end|abort"
    r"|grant|revoke|rollback|savepoint|release|set_config|pg_settings|into)\b",
    re.ASCII,
)
# What is searched at once, and how far into the next piece: further than any of these words is long.
_PIECE, _LONGEST = 256 * 1024, 16
# What data is read and written with changes nothing but through one of these.
_PLAIN = ("select", "insert", "update", "delete", "merge", "with", "values")
_EXPLAIN = r"explain\b(?:\s*\([\w\s,]*\)|(?:\s+(?:analyze|analyse|verbose)\b)*)\s*"
_PLAIN_START = re.compile(rf"\s*(?:{_EXPLAIN})?(?:{'|'.join(_PLAIN)})\b", re.ASCII)
_INTO_TEMP = re.compile(r"\binto\s+temp(?:orary)?\b", re.ASCII)
# An INSERT without columns names nothing protected even where its values are meant for a protected table: of one that is not there,
# whose name was mistyped, the server would log the statement.
# Without INTO, or one of the words of a MERGE, it is a privilege, an event of a trigger, or a word of a literal.
_IDENTIFIER = rb'"[^"]+"|[\w$\x80-\xff]+'
_INTO = rb"\s+into\s+(?:only\s+)?+(?:(?:%b)\s*\.\s*)?(%b)(?![\w$\"\x80-\xff]|\s*\.)" % (_IDENTIFIER, _IDENTIFIER)
_INSERT = re.compile(
    rb"\binsert(?:%b|\s*(?:/\*|--)|\s+into\b|(?P<of_merge>\s*\(|\s+(?:values|default|overriding)\b))" % _INTO, re.IGNORECASE
)
_MERGE = re.compile(rb"merge(?:%b|(?=\s|/\*|--))" % _INTO, re.IGNORECASE)
# These words begin statements of no other kind; without quotes and comments there is one of them.
_CONTROL = re.compile(rb"\s*(?:begin|start|commit|end|rollback|abort|savepoint|release)\b[\w\s,]*+;?\s*+", re.IGNORECASE)
# DDL of which a parse says no more than this: what it makes or drops, and that it is of no kind that is looked into any further.
_NAME = r"[a-z_][a-z0-9_]{0,62}+"
_DEFINES = re.compile(
    rf"\s*(?:create\s+(?:unlogged\s+)?table\s+(?:if\s+not\s+exists\s+)?+(?:{_NAME}\.)?(?P<table>{_NAME})(?=\s*\(|\s+partition\s+of\s)"
    rf"|create\s+(?:or\s+replace\s+)?view\s+(?:{_NAME}\.)?(?P<view>{_NAME})(?=\s*\(|\s+as\s)"
    rf"|create\s+(?:or\s+replace\s+)?(?:function|procedure)\s+(?:{_NAME}\.)?(?P<code>{_NAME})\s*\("
    r"|create\s+(?:unique\s+)?index\s|create\s+(?:constraint\s+)?trigger\s|alter\s+table\s"
    r"|create\s+(?:aggregate|domain|operator|policy|sequence|statistics|type)\s"
    r"|create\s+(?:role|user)\s(?!.*\s(?:admin|group|role|user)\b)"
    r"|drop\s+(?:aggregate|function|operator|policy|rule|sequence|statistics|table|trigger|view)\s(?!.*\bcascade\b))",
    re.ASCII | re.DOTALL,
)
# What no text of these begins otherwise than: nearly all texts are told by it in a fifth of a microsecond.
_MAY_DEFINE = re.compile(rb"\s*(?:create|alter|drop)\s", re.IGNORECASE)
# With one of these it may be several statements, or name what it does not spell; change the search path, as temporary tables and
# schemas do, or a setting; or be made from a query.
_MORE = (";", "--", "/*", "\\", "$", "u&", "temp", "schema", "extension", "set_config", "pg_settings", "database")
_MORE_OF = re.compile(r"'\s*[\n\r]\s*'|\bas\s+(?:table|values|execute)\b|\b(?:insert|merge)\s+into\b", re.ASCII)
_SETS = re.compile(r"\bset\b", re.ASCII)
# Behind it two $$ are no beginning of code: within quotes, or as the end of a name.
_NO_CODE = re.compile(r"['\"]|\w\Z", re.ASCII)
# Settings that say nothing of how texts and values are read, nor of who acts where.
_PLANNERS = (
    rb"enable_[a-z]+|(?:max_|min_)?parallel_[a-z_]+|force_parallel_mode|client_min_messages|plan_cache_mode|row_security|work_mem"
)
_SETTING = re.compile(
    rb"\s*(?:set\s+(?:(?:local|session)\s+)?(?P<set>%b)(?:\s*=\s*|\s+to\s+)[\w\s]+|reset\s+(?P<reset>%b)\s*);?\s*"
    % (_PLANNERS, _PLANNERS),
    re.IGNORECASE,
)
_ALONE = re.compile(rb"\s*(?:alter|comment|create|drop|grant|reset|revoke|set)\s", re.IGNORECASE)
_BLANKS = " \t\n\r\f\v"
# So long is at most what is not parsed of it.
_DEFINITION = 4096
# Texts that differ in digits only are judged once: how long they are at most, and how many are kept.
_ANY_DIGIT = bytes.maketrans(b"0123456789", b"\xff" * 10)
_SHORT, _MANY = 512, 2048
_OF_CONTROL = 32  # so long is at most what begins or ends a transaction in nearly all applications


def _lowered(text: bytes) -> str:
    """Return a text as the server folds names in UTF-8, a character per byte: short words are found in a fifth of the time."""
    if len(text) <= LONG_VALUE:
        return text.lower().decode("latin-1")
    return "".join([piece.lower().decode("latin-1") for piece in cut(text, 0, len(text))])


def _spellings(names: Iterable[str]) -> tuple[str, ...]:
    raw = [name.encode("utf-8") for name in names]
    return tuple(sorted({'u&"', *(_lowered(spelling) for r in raw for spelling in (r, r.replace(b'"', b'""')))}))


class NameSearch:
    """The search for some names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.spellings = _spellings(names)
        self._piece = _PIECE + max(map(len, self.spellings))

    def mentions(self, text: bytes) -> bool:
        """Tell whether a text may contain one of the names."""
        if len(text) <= _PIECE:
            return self.names_one(_lowered(text))
        # Piece by piece, each with the beginning of the next: no other thread has its turn while megabytes are put together.
        pieces = (_lowered(text[at : at + self._piece]) for at in range(0, len(text), _PIECE))
        return any(spelling in piece for piece in pieces for spelling in self.spellings)

    def names_one(self, lowered: str) -> bool:
        """Tell the same of a text that is ``_lowered``."""
        # One search for each: ten times as fast as a pattern of all of them, and long texts hold the loop up for everybody.
        if len(lowered) > _PIECE:
            return any(_holds(lowered, spelling) for spelling in self.spellings)
        for spelling in self.spellings:  # noqa: SIM110 - any() takes twice the time
            if spelling in lowered:
                return True
        return False


class Defined(NamedTuple):
    """What DDL defines: the names of a table or view, and of a function; empty where it defines something else."""

    relation: str = ""
    code: str = ""


class Screen:
    """The search for the names of one protection and one catalogue."""

    def __init__(self, protection: Protection, catalog: Catalog) -> None:
        names = {*protection.table_names, *protection.column_names, *protection.type_names}
        names |= {*catalog.reaching, protection.registry_schema}
        search = NameSearch(names)
        self._spellings, self._names_one, self.mentions = search.spellings, search.names_one, search.mentions
        setters = catalog.setters - {ANY_DDL, ANYTHING}
        self._setters = _spellings(setters) if setters else ()
        # Any statement that is no query may be DDL, at which an event trigger changes the session; queries call nothing for that.
        self._looks_at_ddl = setters != catalog.setters
        self._catalog = catalog
        # What a role sees of masked columns may be asked by DDL that does not name them.
        self._may_define = not protection.masked
        self._fixed = protection.fixed
        # The same with any digit for each digit: what passes so passes whatever its digits are.
        self._of_any_digit = tuple(_of_any_digit(s) for s in (*self._spellings, *self._setters) if s != _of_any_digit(s))
        self._passed = set[bytes]()
        self._controlled = set[bytes]()

    def goes_unread(self, text: bytes, created: Collection[str] = ()) -> bool:
        """Tell whether a text ``passes`` or ``controls``: nothing is to be read in it."""
        if text in self._controlled or self.passes(text, created):
            return True
        if not self.controls(text):
            return False
        if len(text) <= _OF_CONTROL and len(self._controlled) < _MANY:
            self._controlled.add(text)
        return True

    def defines(self, text: bytes) -> Defined | None:
        """Return what DDL defines that needs no parse; None for any other text.

        What it names, and what reads it, is nothing protected, so it only changes the catalogue: ``ALTER TABLE log ADD note text``.
        """
        if _MAY_DEFINE.match(text) is None or len(text) > _DEFINITION or not text.isascii():
            return None
        if not self._may_define or self._looks_at_ddl:
            return None
        lowered = _lowered(text)
        found = _DEFINES.match(lowered)
        if found is None or self._names_one(lowered) or any(spelling in lowered for spelling in self._setters):
            return None
        said = lowered.rstrip(";" + _BLANKS)
        if found["code"] is not None:
            # Around its code, which must be between two $$, is nothing that sets something. What it may do to a database is read.
            around = said.split("$$")
            if len(around) != 3 or _NO_CODE.search(around[0]) is not None or "database" in around[1] or changes_session(said):
                return None
            said = around[0] + around[2]
            if _SETS.search(said) is not None:
                return None
        elif "select" in said and found["view"] is None:
            return None
        if any(word in said for word in _MORE) or _MORE_OF.search(said) is not None:
            return None
        return Defined(found["table"] or found["view"] or "", found["code"] or "")

    @staticmethod
    def alone(text: bytes) -> bool:
        """Tell whether a text is surely one statement that defines or sets something, or a syntax error."""
        return b";" not in text.rstrip(b"; \t\n\r") and _ALONE.match(text) is not None

    def passes(self, text: bytes, created: Collection[str] = ()) -> bool:
        """Tell whether a text names nothing protected and needs no watching.

        ``created`` are relations that the session has made: that they are there needs not be looked at.
        """
        pattern = text.translate(_ANY_DIGIT) if len(text) <= _SHORT else b""
        if pattern in self._passed:
            return True
        setting = _SETTING.fullmatch(text)
        if setting is not None and (setting["set"] or setting["reset"]).lower().decode() not in self._fixed:
            return not self.mentions(text)
        lowered = _lowered(text)
        if self._names_one(lowered) or self._is_watched(lowered):
            return False
        if self.inserts_elsewhere(text):
            return bool(created) and not self.inserts_elsewhere(text, created)
        if pattern:
            self._remember(pattern)
        return True

    def _remember(self, pattern: bytes) -> None:
        """Keep a text's pattern, if all texts of it pass: no name is one for other digits, and no INSERT's target has any."""
        lowered = _lowered(pattern)
        if any(name in lowered for name in self._of_any_digit) or self.inserts_elsewhere(pattern):
            return
        if len(self._passed) >= _MANY:
            self._passed.clear()
        self._passed.add(pattern)

    def first_name(self, text: bytes) -> int:
        """Return the byte offset of the first protected name that a text may contain, 0 where there is none."""
        lowered = _lowered(text)
        return min((offset for offset in map(lowered.find, self._spellings) if offset >= 0), default=0)

    @staticmethod
    def controls(text: bytes) -> bool:
        """Tell whether a text is one statement that begins or ends a transaction or savepoint, or a syntax error."""
        return _CONTROL.fullmatch(text) is not None

    def watched(self, text: bytes, created: Collection[str] = ()) -> bool:
        """Tell whether a text may change what later names mean, or prepare, execute or declare something."""
        return self._is_watched(_lowered(text)) or self.inserts_elsewhere(text, created)

    def learn(self, catalog: Catalog) -> None:
        """Take a catalogue that knows more relations."""
        self._catalog = catalog
        self._passed.clear()

    def inserts_elsewhere(self, text: bytes, created: Collection[str] = ()) -> bool:
        """Tell whether a text may insert into a relation that is neither in the catalogue nor created by the session."""
        lowered = text.lower()
        at = lowered.find(b"insert")  # a pattern takes six times as long to find that it is not there
        merges = False
        while at >= 0:
            insert = _INSERT.match(text, at)
            if insert is not None and insert["of_merge"] is None and self._is_elsewhere(insert[1], created):
                return True
            merges = merges or (insert is not None and insert["of_merge"] is not None)
            at = lowered.find(b"insert", insert.end() if insert is not None else at + 1)
        # Which MERGE an INSERT is of, if it is no privilege for columns, is not told apart: whatever looks like one must be known.
        return merges and any(self._is_elsewhere(merge[1], created) for merge in _MERGE.finditer(text))

    def _is_elsewhere(self, spelled: bytes | None, created: Collection[str]) -> bool:
        target = _target(spelled)
        return target not in self._catalog.relation_names and target not in created

    def _is_watched(self, lowered: str) -> bool:
        if any(spelling in lowered for spelling in self._setters):
            return True
        return _is_watched(lowered, all_but_plain=self._looks_at_ddl)


def _target(spelled: bytes | None) -> str:
    """Return the name that an identifier means; empty where there is none."""
    if spelled is None:
        return ""
    # what is no character is none of any name's
    return (spelled[1:-1] if spelled[:1] == b'"' else spelled.lower()).decode("utf-8", "surrogateescape")


def _of_any_digit(spelling: str) -> str:
    return spelling.encode("latin-1").translate(_ANY_DIGIT).decode("latin-1")


def _holds(lowered: str, spelling: str) -> bool:
    """Do what ``in`` does, in pieces, since a letter that is everywhere in a text makes the search for a word with it slow."""
    return any(lowered.find(spelling, at, at + _PIECE + len(spelling)) >= 0 for at in range(0, len(lowered), _PIECE))


def _makes_temporary(lowered: str) -> bool:
    at = lowered.find("into")  # a tenth of the time that the pattern takes to find one
    while at >= 0:
        if _INTO_TEMP.match(lowered, at) is not None:
            return True
        at = lowered.find("into", at + 1)
    return False


def _is_watched(lowered: str, *, all_but_plain: bool = False) -> bool:
    # The semicolon behind the last statement, which psql and pgbench send, separates nothing.
    plain = lowered.startswith((*_PLAIN, "explain")) or lowered[:1] in _BLANKS
    if plain and _PLAIN_START.match(lowered) and ";" not in lowered.rstrip(";" + _BLANKS):
        named = lowered.find("set_config") >= 0 or lowered.find("pg_settings") >= 0
        # A function may be given the text of what ``text.database_renames`` refuses.
        named = named or (lowered.find("database") >= 0 and ("rename" in lowered or "create" in lowered))
        return named or _makes_temporary(lowered)
    if all_but_plain:
        return True
    # In pieces, for one search through megabytes would let no other session have its turn. A word that is cut off at the end of a
    # piece is whole in the next one; what looks like a word there and is none is looked at once more than need be.
    return any(_WATCHED.search(lowered, at, at + _PIECE + _LONGEST) is not None for at in range(0, len(lowered) or 1, _PIECE))
