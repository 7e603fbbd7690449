"""Text to statements: PostgreSQL's own grammar through pglast, as JSON trees with byte offsets, and tokens for splicing.

The trees are pg_query's protobuf-JSON: ``{"SelectStmt": {...}}``; a missing number is 0, so a missing ``location`` is byte 0.
Everything here is about form; what a name means is ``scope``'s business.
"""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pglast.keywords import RESERVED_KEYWORDS
from pglast.parser import ParseError, parse_sql_json, scan

from phiproxy.errors import StatementRefused, SyntaxRefused

# A tree of pg_query JSON. Any is honest here: the grammar has 250 node types and this package reads a dozen of them.
Node = dict[str, Any]

# Larger texts are bulk loads with literals. They are read on the event loop, where other sessions wait: so there is a limit on the
# text, and one on its tree (as JSON, without the text itself), which costs about 1 second per MiB. Beyond it: parameters.
MAX_ANALYSED_TEXT = 8 * 1024 * 1024
MAX_ANALYSED_TREE = 6 * 1024 * 1024
# Generated conditions are chains of thousands of operators, each a level or two of the tree and half a dozen calls here. Calls from
# Python to Python need no C stack; what reads and compares trees in C needs some 200 bytes a level.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 60_000))
_LONG_TREE = 64 * 1024
_TOO_LONG, _FEWER = "the statement is too long to be analysed", "Use parameters, or fewer rows per statement."


class Statement(NamedTuple):
    """One statement of a text: its node type, its body, and its span in bytes (end excluded).

    ``room`` reaches from the end of the statement before to the start of the next: the comments around it stand there.
    """

    kind: str
    body: Node
    start: int
    end: int
    room: tuple[int, int]


class Spanned(Protocol):
    """What knows where it stands in its text, end excluded."""

    @property
    def start(self) -> int:
        """The first byte."""

    @property
    def end(self) -> int:
        """The byte behind the last."""


@dataclass(frozen=True, slots=True)
class Token:
    """One lexical token; ``start`` and ``end`` are byte offsets, end excluded; ``name`` is the lexer's own name."""

    start: int
    end: int
    name: str


_CONTINUATION = re.compile(rb"[\x80-\xbf]")


class Positions:
    """Byte offsets of one text to positions as PostgreSQL's field P counts, characters from 1; reads the text once."""

    __slots__ = ("_continuations",)

    def __init__(self, text: bytes) -> None:
        self._continuations = [] if text.isascii() else [m.start() for m in _CONTINUATION.finditer(text)]

    def at(self, offset: int) -> int:
        """Return the 1-based character position of a byte offset."""
        return offset - bisect_left(self._continuations, offset) + 1


def char_position(text: bytes, offset: int) -> int:
    """Return the 1-based character position of one byte offset."""
    return Positions(text).at(offset)


def first_token(text: bytes, statement: Spanned) -> int:
    """Return the byte offset at which a statement of a text begins, behind blanks and comments."""
    return next((t.start for t in tokens(text[statement.start : statement.end])), 0) + statement.start


def decode_text(text: bytes) -> str:
    """Return the statement text; a StatementRefused (22021) when it is not UTF-8."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        position = char_position(text[: error.start], error.start)
        raise StatementRefused("the statement is not valid UTF-8", hint="Set client_encoding to UTF8.", position=position) from None


def too_deep() -> StatementRefused:
    """Return the refusal of a statement whose tree exhausts the stack: some hundred operators in a chain, or levels of brackets."""
    return StatementRefused(
        "the statement is nested too deeply to be analysed", hint="Split it, or compute parts in the client.", position=1
    )


def parse(text: bytes) -> list[Statement]:
    """Parse a text into its statements (empty for blanks and comments).

    Raises SyntaxRefused as PostgreSQL's parser would (42601, with position); the offending token is quoted only when it is not a
    literal, since an error never holds a value. Raises StatementRefused for a text too large or too deep to analyse.
    """
    if len(text) > MAX_ANALYSED_TEXT:
        raise StatementRefused(_TOO_LONG, hint=_FEWER, position=1)
    decoded = decode_text(text)
    try:
        serialised = parse_sql_json(decoded)
        if len(serialised) - len(decoded) > MAX_ANALYSED_TREE:
            raise StatementRefused(_TOO_LONG, hint=_FEWER, position=1)
        # Without a call in between the parser of JSON would not let another thread have its turn until it is done.
        tree: Node = json.loads(serialised, object_hook=_same if len(serialised) > _LONG_TREE else None)
    except ParseError as error:
        if _TOO_DEEP.match(str(error.args[0]) if error.args else ""):
            raise too_deep() from None
        raise _syntax_error(error, decoded) from None
    except RecursionError:
        raise too_deep() from None
    return list(_statements(tree, len(text)))


def _same(node: Node) -> Node:
    return node


def _statements(tree: Node, size: int) -> Iterator[Statement]:
    raws = tree.get("stmts", ())
    if not raws:
        return
    starts = [raw.get("stmt_location", 0) for raw in raws]
    before = 0
    for raw, start, after in zip(raws, starts, [*starts[1:], size], strict=False):
        ((kind, body),) = raw["stmt"].items()
        length = raw.get("stmt_len", 0)
        end = start + length if length else size
        yield Statement(kind, body, start, end, (before, after))
        before = end


_TOO_DEEP = re.compile(r"stack depth limit exceeded|memory exhausted")
_NEAR = re.compile(r"""syntax error at or near "(?:([a-z]+)|[^\w\s"'$]+)"|syntax error at end of input""", re.IGNORECASE)


def _syntax_error(error: ParseError, text: str) -> StatementRefused:
    """Return PostgreSQL's error, quoting nothing but operators and reserved words: where a quote is missing, a value is words."""
    said = str(error.args[0]) if error.args else ""
    index = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], int) else None
    near = _NEAR.fullmatch(said)
    quotable = near is not None and (near[1] is None or near[1].lower() in RESERVED_KEYWORDS)
    if said.endswith("at end of input"):
        index = len(text)
    return SyntaxRefused(said if quotable else "syntax error", position=None if index is None else index + 1)


def tokens(text: bytes) -> list[Token]:
    """Return the tokens of a text that parses, without comments."""
    return [t for t in _scanned(text) if t.name not in _COMMENTS]


def tokens_between(text: bytes, first: int, last: int) -> list[Token]:
    """Return the tokens of a part of a text that begins and ends between two tokens, with their offsets in the whole text."""
    found = tokens(text[first:last])
    return [Token(t.start + first, t.end + first, t.name) for t in found] if first else found


def comments(text: bytes) -> list[Token]:
    """Return the comments of a text that parses."""
    may_be_there = b"--" in text or b"/*" in text
    return [t for t in _scanned(text) if t.name in _COMMENTS] if may_be_there else []


def comments_between(found: Sequence[Token], first: int, last: int) -> Sequence[Token]:
    """Return those of a text's comments that begin between two offsets, the second excluded."""
    begin = bisect_left(found, first, key=lambda t: t.start)
    return found[begin : bisect_left(found, last, begin, key=lambda t: t.start)]


_COMMENTS = ("SQL_COMMENT", "C_COMMENT")


_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_DOLLAR_TAG = re.compile(rb"\$\w*[\x80-\xff]")


def _scanned(text: bytes) -> list[Token]:
    if text.isascii():
        return [Token(t.start, t.end + 1, t.name) for t in scan(text.decode("ascii"))]
    # To the lexer a byte beyond ASCII is a letter like any other, and no keyword has two underscores in a row. Without this the
    # scan takes quadratic time, since pglast counts characters anew for each token. Two dollar quotes' tags could become the same.
    if _DOLLAR_TAG.search(text) is None:
        return [Token(t.start, t.end + 1, t.name) for t in scan(_NOT_ASCII.sub(b"_", text).decode("ascii"))]
    decoded = decode_text(text)
    scanned = scan(decoded)
    offsets = [0]
    for character in decoded:
        offsets.append(offsets[-1] + len(character.encode("utf-8")))
    return [Token(offsets[t.start], offsets[t.end + 1], t.name) for t in scanned]


def without_locations(tree: Any) -> Any:
    """Return a copy of a tree without what depends on where things stand in the text."""
    if isinstance(tree, dict):
        return {k: without_locations(v) for k, v in tree.items() if k not in _LOCATIONS}
    if isinstance(tree, list):
        return [without_locations(v) for v in tree]
    return tree


_PLACES = "rexpr_list_start rexpr_list_end list_start list_end name_location arg_location"
_LOCATIONS = frozenset({"location", "stmt_location", "stmt_len", *_PLACES.split()})


def only(node: Node) -> tuple[str, Node]:
    """Return (type, body) of a wrapped node ``{"Type": {...}}``."""
    ((kind, body),) = node.items()
    return kind, body


def is_node(value: Any) -> bool:
    """Tell a wrapped node from an untyped message (whose keys are field names, in lower case) and from everything else."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    (key,) = value
    return bool(key[0].isupper()) and isinstance(value[key], dict)


def children(tree: Any) -> Iterator[Node]:
    """Yield the wrapped nodes directly below a body, a list or an untyped message."""
    for value in tree.values() if isinstance(tree, dict) else tree:
        if is_node(value):
            yield value
        elif isinstance(value, dict | list):
            yield from children(value)


def messages(tree: Any) -> Iterator[Node]:
    """Yield every dict at or below ``tree``, in the order of the text: wrapped nodes, their bodies, and untyped messages alike."""
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            value = list(value.values())
        if isinstance(value, list):
            pending.extend(v for v in reversed(value) if isinstance(v, dict | list))


def strings(names: Any) -> list[str]:
    """Return the texts of a list of String nodes (a qualified name); ``*`` for A_Star."""
    found = []
    for node in names or ():
        kind, body = only(node)
        found.append("*" if kind == "A_Star" else body.get("sval", "") if kind == "String" else "")
    return found


def location(body: Node) -> int:
    """Return the byte offset of a node's body, 0 where the message leaves it out, -1 where the grammar has none."""
    return int(body.get("location", 0))
