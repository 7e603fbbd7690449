"""Text to statements: PostgreSQL's own grammar through pglast, as JSON trees with byte offsets, and tokens for edits.

The trees are pg_query's protobuf-JSON: ``{"SelectStmt": {...}}``; a missing number is 0, so a missing ``location`` is byte 0. What
names mean is resolved elsewhere.
"""

import json
import re
import sys
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from pglast.keywords import RESERVED_KEYWORDS
from pglast.parser import ParseError, parse_sql_json, scan

from phiproxy.errors import StatementRefused, SyntaxRefused
from phiproxy.long_values import copied, decoded, holds, parted
from phiproxy.sql.text.long_constants import Shortened, shortened

# A tree of pg_query JSON. Any is honest here: the grammar has 250 node types and this package reads a dozen of them.
Node = dict[str, Any]

# Larger texts are bulk loads with literals. They are read on the event loop, where other sessions wait: so there is a limit on the
# text, and one on its tree (as JSON, without the text itself), which costs about 1 second per MiB. Beyond it: parameters.
MAX_ANALYSED_TEXT = 8 * 1024 * 1024
MAX_ANALYSED_TREE = 6 * 1024 * 1024
# Generated conditions are chains of thousands of operators, each a level or two of the tree and half a dozen calls here. Calls from
# Python to Python need no C stack; what reads and compares trees in C needs some 200 bytes a level.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 60_000))
LONG_TREE = 64 * 1024
_TOO_LONG, _FEWER = "the statement is too long to be analysed", "Use parameters, or fewer rows per statement."


class Statement(NamedTuple):
    """One statement of a text: its node type, its body, and its span in bytes (end excluded).

    ``room`` is the span between the statements before and behind it, where its comments are.
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


class Token(NamedTuple):
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
        return decoded(text)
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
    try:
        tree = read_tree(text, longest=MAX_ANALYSED_TREE)
    except ParseError as error:
        if _TOO_DEEP.match(str(error.args[0]) if error.args else ""):
            raise too_deep() from None
        raise _syntax_error(error, decode_text(text)) from None
    except RecursionError:
        raise too_deep() from None
    return list(_statements(tree, len(text)))


def read_tree(text: bytes, *, longest: int | None = None) -> Node:
    """Return the tree of a text; ParseError, and StatementRefused for one that is no UTF-8, or whose tree is longer than that."""
    shorter = shortened(text)
    if shorter is not None and (text.isascii() or decode_text(text)):
        try:
            tree = _read_tree(decode_text(shorter.text), longest)
        except ParseError:
            pass  # of the text itself it is told where
        else:
            if _restored(tree, text, shorter):
                return tree
    return _read_tree(decode_text(text), longest)


def _restored(tree: Node, text: bytes, shorter: Shortened) -> bool:
    """Put long constants back into the tree of a text without them; False where one of them is not there as it was written."""
    found = 0
    for message in messages(tree):
        begin, length = message.get("stmt_location", 0), message.get("stmt_len")
        for key, value in message.items():
            if key in LOCATIONS:
                message[key] = shorter.offset(value) if value > 0 else value
            elif value.__class__ is str and (span := shorter.constants.get(value)) is not None:
                message[key] = decoded(b"'".join(parted(copied(text, *span), b"''")))
                found += 1
        if length:
            message["stmt_len"] = shorter.offset(begin + length) - shorter.offset(begin)
    return found == len(shorter.constants)


def _read_tree(characters: str, longest: int | None) -> Node:
    serialised = parse_sql_json(characters)
    if longest is not None and len(serialised) - len(characters) > longest:
        raise StatementRefused(_TOO_LONG, hint=_FEWER, position=1)
    # Without a call in between the parser of JSON would not let another thread have its turn until it is done.
    tree: Node = json.loads(serialised, object_hook=_same) if len(serialised) > LONG_TREE else _read_json(serialised)[0]
    return tree


# What json.loads calls, which allows for blanks around, and for bytes.
_read_json = json.JSONDecoder().raw_decode


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
    """Return PostgreSQL's error, which quotes only operators and reserved words: after an open quote, values look like words."""
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


def comments(text: bytes) -> list[Token]:
    """Return the comments of a text that parses."""
    may_be_there = holds(text, b"--") or holds(text, b"/*")
    return [t for t in _scanned(text) if t.name in _COMMENTS] if may_be_there else []


def between(listed: Sequence[Token], first: int, last: int) -> Sequence[Token]:
    """Return those of the tokens, or comments, of a text that begin between two offsets, the second excluded."""
    begin = bisect_left(listed, first, key=_start)
    return listed[begin : bisect_left(listed, last, begin, key=_start)]


_start = attrgetter("start")


class Scan:
    """The tokens and comments of one text, which is scanned for either once, however many statements it has.

    The lexer lets go of the interpreter's lock. A thread that did so for each of a thousand statements would look to others as if
    they had had their turn, and they would wait until they happen to be awake at such a moment.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text

    @cached_property
    def tokens(self) -> list[Token]:
        """See ``tokens``."""
        return tokens(self.text)

    @cached_property
    def comments(self) -> list[Token]:
        """See ``comments``."""
        return comments(self.text)


_COMMENTS = ("SQL_COMMENT", "C_COMMENT")


_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_DOLLAR_TAG = re.compile(rb"\$\w*[\x80-\xff]")


def _scanned(text: bytes) -> list[Token]:
    shorter = shortened(text)
    if shorter is not None:
        return [Token(shorter.offset(t.start), shorter.offset(t.end), t.name) for t in _scanned(shorter.text)]
    if text.isascii():
        return [Token(t.start, t.end + 1, t.name) for t in scan(text.decode("ascii"))]
    # To the lexer a byte beyond ASCII is a letter like any other, and no keyword has two underscores in a row. Without this the
    # scan takes quadratic time, since pglast counts characters anew for each token. Two dollar quotes' tags could become the same.
    if _DOLLAR_TAG.search(text) is None:
        return [Token(t.start, t.end + 1, t.name) for t in scan(_NOT_ASCII.sub(b"_", text).decode("ascii"))]
    characters = decode_text(text)
    scanned = scan(characters)
    offsets = [0]
    for character in characters:
        offsets.append(offsets[-1] + len(character.encode("utf-8")))
    return [Token(offsets[t.start], offsets[t.end + 1], t.name) for t in scanned]


def let_go(tree: Any) -> None:
    """Empty a large tree that nobody looks at any longer, piece by piece: no other thread has its turn while one is freed whole."""
    pending = [tree]
    while pending:
        value = pending.pop()
        pending.extend([v for v in (value.values() if isinstance(value, dict) else value) if isinstance(v, PARTS)])
        value.clear()


def without_locations(tree: Any) -> Any:
    """Return a copy of a tree without byte offsets."""
    if isinstance(tree, dict):
        return {k: without_locations(v) for k, v in tree.items() if k not in LOCATIONS}
    if isinstance(tree, list):
        return [without_locations(v) for v in tree]
    return tree


_PLACES = "rexpr_list_start rexpr_list_end list_start list_end name_location arg_location"
LOCATIONS = frozenset({"location", "stmt_location", "stmt_len", *_PLACES.split()})


# What a tree is made of, but for its leaves.
PARTS = (dict, list)


def only(node: Node) -> tuple[str, Node]:
    """Return (type, body) of a wrapped node ``{"Type": {...}}``."""
    (item,) = node.items()
    return item


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


def messages(tree: Any) -> list[Node]:
    """Return every dict at or below ``tree``, in the order of the text: wrapped nodes, their bodies, and untyped messages alike."""
    below: list[Node] = []
    pending: list[Any] = [tree] if isinstance(tree, PARTS) else []
    add, take, put = below.append, pending.pop, pending.append
    while pending:
        value: Any = take()
        if value.__class__ is not list:
            add(value)
            value = value.values()
        for part in reversed(value):
            if part.__class__ not in _LEAVES:
                put(part)
    return below


# What is in a tree of JSON that is no part of it with parts of its own.
_LEAVES = frozenset({str, int, float, bool, type(None)})


def strings(names: Any) -> list[str]:
    """Return the texts of a list of String nodes (a qualified name); ``*`` for A_Star."""
    if names and len(names) == 1 and "String" in names[0]:  # without the call that a comprehension is
        return [names[0]["String"].get("sval", "")]
    return [n["String"].get("sval", "") if "String" in n else "*" if "A_Star" in n else "" for n in names or ()]


def reference_to(tree: Any, names: Collection[str]) -> Node | None:
    """Return the first reference below a tree to one of these columns or to a whole row; None if there is none, or no column."""
    for message in messages(tree):
        fields = strings(message.get("fields")) if isinstance(message.get("fields"), list) else []
        if fields and (fields[-1] in names or fields[-1] == "*") and names:
            return message
    return None


_PLAIN_CALL = frozenset({"funcname", "args", "funcformat", "location"})


def grouping_entries(clause: Iterable[Node]) -> Iterator[Node]:
    """Yield the entries of GROUP BY, also those inside ROLLUP (…), CUBE (…), GROUPING SETS (…) and (…, …)."""
    for node in clause:
        kind, body = only(node)
        if kind == "GroupingSet" or (kind == "RowExpr" and body.get("row_format") == "COERCE_IMPLICIT_CAST"):
            yield from grouping_entries((*body.get("content", ()), *body.get("args", ())))
        else:
            yield node


def is_plain_call(call: Node) -> bool:
    """Tell whether a FuncCall's body has nothing but a name and arguments: no DISTINCT, FILTER, OVER or VARIADIC."""
    return _PLAIN_CALL.issuperset(call)


def location(body: Node) -> int:
    """Return the byte offset of a node's body, 0 where the message leaves it out, -1 where the grammar has none."""
    return int(body.get("location", 0))
