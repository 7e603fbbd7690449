"""The end of an analysis: taint, coverage, and every decision turned into spans of the client's text.

Decisions are applied twice, to the text (as edits) and to the tree; ``render.verify`` then shows that the one parses to the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property

from phiproxy.errors import StatementRefused
from phiproxy.policy.guards import tag_of
from phiproxy.policy.protection import Slot
from phiproxy.sql.analysis import Analysis, DecidedUse
from phiproxy.sql.brackets import Brackets, dotted
from phiproxy.sql.comments import blank, shown_comment
from phiproxy.sql.lists import settle
from phiproxy.sql.meaning import Edit, Meaning, Occurrence, Plain, Search, Store, Use, is_upper, sent_as_array
from phiproxy.sql.parse import Node, Token, comments, comments_between, location, only
from phiproxy.sql.respell import apply, node_text, spelled_text
from phiproxy.sql.sinks import Inserted, SinkNode
from phiproxy.sql.taint import untainted
from phiproxy.sql.wrap import Insert, merged, rewrites


def finish(a: Analysis) -> None:
    """Settle every use, check taint, and fill the meaning's edits and occurrences; mutates the tree to what the server will see."""
    settle(a)
    uses = untainted(a)
    touched = [u for u in uses if not isinstance(u.use, Plain)]
    a.meaning.touches = a.meaning.touches or any(isinstance(u.use, Store | Search) for u in touched)
    changed = (touched, a.tagged, a.qualified, a.stripped, a.changes, a.wraps, a.respelled, a.added, a.meaning.touches)
    if not any(changed):
        return
    spans = Spans(a.tokens())
    edits: dict[tuple[int, int], Edit] = {}
    for body, schema in a.qualified:
        offset = location(body)
        edits[offset, offset] = Edit(offset, offset, quote_ident(schema) + b".")
        body["schemaname"] = schema
    casts = [*a.stripped, *(c for u in touched for c in u.sink.casts)]
    for edit in _cast_edits(a, casts, spans):
        edits[edit.start, edit.end] = edit
    blanks = blanked_comments(a, touched) if a.meaning.touches else []
    text = _without(a.text, blanks)
    edits.update({(e.start, e.end): e for e in _expressions(a, spans, text)})
    _rewrite(a, spans, text, edits)
    # A node may be there twice (the source of a multiple assignment); the first is as good as the other.
    found = {(o.start, o.use): o for o in reversed([spans.occurrence(u, order, text) for order, u in enumerate(touched)])}
    a.meaning.occurrences = sorted([*found.values(), *_added(a, spans, len(touched))], key=lambda o: (o.start, o.end, o.order))
    replaced = sorted([(e.start, e.end) for e in edits.values()] + [(o.start, o.end) for o in a.meaning.occurrences])
    starts = [start for start, _ in replaced]
    for edit in blanks:
        i = bisect_right(starts, edit.start) - 1
        if i < 0 or replaced[i][1] <= edit.start:
            edits[edit.start, edit.end] = edit
    for u in touched:
        mark(u)
    _drop_casts(casts)
    for change in a.at_end:
        change()
    a.meaning.edits = sorted(edits.values(), key=lambda e: (e.start, e.end))


def _added(a: Analysis, spans: Spans, order: int) -> Iterator[Occurrence]:
    for i, added in enumerate(a.added):
        node = marked_node(added.use, null=False)
        added.items.append(node if added.wrapper is None else {added.wrapper: {"val": node}})
        start, end = added.place(spans)
        yield Occurrence(start, end, added.use, literal=b"", order=order + i, lead=added.lead, trail=added.trail)


def _cast_edits(a: Analysis, casts: list[Node], spans: Spans) -> Iterator[Edit]:
    for cast in casts:
        yield from spans.strip_cast(cast)
    for cast in a.recast:
        yield Edit(*spans.type_name(cast), b"bytea[]")
        cast["TypeCast"]["typeName"] = _bytea(array=True)


def _rewrite(a: Analysis, spans: Spans, text: bytes, edits: dict[tuple[int, int], Edit]) -> None:
    if not (a.represented or a.nullifs or a.subqueries or a.wraps):
        return
    inserts = []
    for change in rewrites(a, spans.brackets, text):
        if isinstance(change, Insert):
            inserts.append(change)
        else:
            edits[change.start, change.end] = change
    for offset, inserted in merged(inserts).items():
        there = edits.get((offset, offset))
        edits[offset, offset] = Edit(offset, offset, inserted + (there.text if there is not None else b""))


def _expressions(a: Analysis, spans: Spans, text: bytes) -> Iterator[Edit]:
    """Yield the edits of columns whose tag is wanted, and those that rules made themselves."""
    placed = {key: r for key, r in a.respelled.items() if "location" in only(r.node)[1]}
    for respelled in placed.values():
        yield Edit(*spans.column_ref(location(only(respelled.node)[1])), spelled_text(respelled.spelled))
        apply(respelled)
    for node, slot in a.tagged:
        known = placed.get(id(node))
        if "ColumnRef" not in node and (known is None or "FuncCall" in node or "A_Expr" in node):
            continue
        start, end = spans.column_ref(location(only(node)[1]))
        stored = a.stored_tags.get(id(node)) if known is None else None
        if stored is not None:
            only(node)[1]["fields"][-1] = {"String": {"sval": stored}}
            yield Edit(spans.last_part(end), end, quote_ident(stored))
            continue
        yield Edit(start, end, tag_expression(text[start:end] if known is None else spelled_text(known.spelled), slot))
        to_tag_call(node, slot)
    for change in a.changes:
        yield change(spans, text)


def quote_ident(name: str) -> bytes:
    """Return a quoted identifier."""
    return b'"' + name.replace('"', '""').encode("utf-8") + b'"'


def tag_expression(column: bytes, slot: Slot) -> bytes:
    """Return T_i of a column's spelling (crypto.md section 1)."""
    return tag_of(column.decode(), slot).encode()


def null_marker(use: Use) -> bytes:
    """Return what a NULL becomes in the server's statement."""
    return b"NULL::bytea[]" if sent_as_array(use) else b"NULL::bytea"


def fixed_word(use: Use) -> bytes | None:
    """Return what the server gets in place of a range's upper end, None for every other use."""
    return use.range.word if isinstance(use, Search) and use.range is not None and use.range.upper else None


def marker(occurrence: Occurrence) -> bytes:
    """Return what stands for an occurrence in a text that is only to be verified."""
    word = fixed_word(occurrence.use)
    if word is not None:
        return word
    if occurrence.null:
        return null_marker(occurrence.use)
    return b"'{}'::bytea[]" if sent_as_array(occurrence.use) else rb"'\x00'::bytea"


def mark(decided: DecidedUse) -> None:
    """Turn a sink's node into what ``marker`` parses to, so that the rewrite can be verified without values."""
    if is_upper(decided.use):
        return  # it stands in no tree any more
    node = decided.sink.node
    node.clear()
    node.update(marked_node(decided.use, null=decided.sink.kind == "null"))


def marked_node(use: Use, *, null: bool) -> Node:
    """Return the node that ``marker`` parses to."""
    array = sent_as_array(use)
    constant = {"isnull": True} if null else {"sval": {"sval": "{}" if array else "\\x00"}}
    return {"TypeCast": {"arg": {"A_Const": constant}, "typeName": _bytea(array=array)}}


def _bytea(*, array: bool) -> Node:
    name: Node = {"names": [{"String": {"sval": "bytea"}}], "typemod": -1}
    return {**name, "arrayBounds": [{"Integer": {"ival": -1}}]} if array else name


def to_tag_call(node: Node, slot: Slot) -> None:
    """Turn a ColumnRef node into the call that ``tag_expression`` spells."""
    column = dict(node)
    node.clear()
    node["FuncCall"] = {
        "funcname": [{"String": {"sval": "pg_catalog"}}, {"String": {"sval": "substring"}}],
        "args": [column, {"A_Const": {"ival": {"ival": 13 + 16 * slot.number}}}, {"A_Const": {"ival": {"ival": 16}}}],
        "funcformat": "COERCE_EXPLICIT_CALL",
    }
    if not slot.total:
        zeros: Node = {"TypeCast": {"arg": {"A_Const": {"sval": {"sval": "\\x" + "00" * 16}}}, "typeName": _bytea(array=False)}}
        name = [{"String": {"sval": "="}}]
        call = dict(node)
        node.clear()
        node["A_Expr"] = {"kind": "AEXPR_NULLIF", "name": name, "lexpr": call, "rexpr": zeros}


def _drop_casts(casts: list[Node]) -> None:
    """Replace each cast node by its argument, inner casts before outer ones."""
    pending = {id(cast): cast for cast in casts}

    def drop(cast: Node) -> None:
        if pending.pop(id(cast), None) is None:
            return
        inner = only(cast)[1]["arg"]
        drop(inner)
        cast.clear()
        cast.update(inner)

    for cast in casts:
        drop(cast)


def blanked_comments(a: Analysis, touched: list[DecidedUse]) -> list[Edit]:
    """Return the edits that leave of a text's comments what the server may see (``comments``).

    Of a string of several statements that is nothing: what one seals may stand in the comment of another. Each blanks those around
    itself, and whoever analyses the whole string those around the others.
    """
    first, last = a.meaning.room
    single = (first, last) == (0, len(a.text))
    values = {v for u in touched for v in u.sink.values} | {u.sink.literal for u in touched}
    names = _names_in_hints(a) if single and b"/*+" in a.text else ()
    bound = any(u.sink.numbers for u in touched)
    edits = []
    for comment in comments_between(comments(a.text) if a.context.comments is None else a.context.comments, first, last):
        text = a.text[comment.start : comment.end]
        shown = shown_comment(text, values, names, bound=bound) if single else blank(text)
        if shown != text:
            edits.append(Edit(comment.start, comment.end, shown))
    return edits


def blank_others(text: bytes, found: Sequence[Token], meanings: Sequence[Meaning]) -> None:
    """Blank what is left of the comments of a string of which one statement, at least, touches something protected."""
    if not found or not any(m.touches for m in meanings):
        return
    replaced = sorted(
        [(e.start, e.end) for m in meanings for e in m.edits] + [(o.start, o.end) for m in meanings for o in m.occurrences]
    )
    starts, rooms = [start for start, _ in replaced], [m.room[0] for m in meanings]
    for comment in found:
        i = bisect_right(starts, comment.start) - 1
        if i < 0 or replaced[i][1] <= comment.start:
            edits = meanings[bisect_right(rooms, comment.start) - 1].edits
            edits.append(Edit(comment.start, comment.end, blank(text[comment.start : comment.end])))
            edits.sort(key=lambda e: (e.start, e.end))


def _names_in_hints(a: Analysis) -> set[str]:
    """Return the names of what a hint may speak of: relations, aliases and CTEs of the statement, and the relations' indexes."""
    walked = a.whole() if a.walks else []
    relations = {m["relname"] for m in walked if "relname" in m}
    names = {m[key] for m in walked for key in ("aliasname", "ctename") if isinstance(m.get(key), str)}
    indexes = {i.name for r in a.context.catalog.relations if r.name in relations for i in r.indexes}
    return relations | names | indexes


def _without(text: bytes, blanks: list[Edit]) -> bytes:
    """Return a text with comments blanked: what is replaced is copied from there."""
    if not blanks:
        return text
    copy = bytearray(text)
    for edit in blanks:
        copy[edit.start : edit.end] = edit.text
    return bytes(copy)


class Spans:
    """Where nodes begin and end in the text, from the tokens."""

    def __init__(self, found: list[Token]) -> None:
        self.tokens = self._tokens = found
        self._index = {t.start: i for i, t in enumerate(found)}

    @cached_property
    def brackets(self) -> Brackets:
        """The tokens with their nesting."""
        return Brackets(self.tokens)

    def _at(self, offset: int) -> int:
        index = self._index.get(offset)
        if index is None:
            raise StatementRefused("a part of the statement could not be located in its text", hint="Write it in a plainer form.")
        return index

    def column_ref(self, offset: int) -> tuple[int, int]:
        """Return the span of a dotted name whose first part starts at ``offset``, as in ``t.c`` and ``(t).c``."""
        return dotted(self._tokens, self._at(offset))

    def last_part(self, end: int) -> int:
        """Return where the last part of a dotted name begins that ends at ``end``."""
        return next(t.start for t in self.tokens if t.end == end)

    def items(self, offset: int) -> list[tuple[int, int]]:
        """Return the spans of what commas separate between the bracket at ``offset`` and the one that closes it."""
        i = self._at(offset)
        depth, start, found = 0, i + 1, []
        while True:
            name = self._tokens[i].name
            depth += (name in ("ASCII_40", "ASCII_91")) - (name in ("ASCII_41", "ASCII_93"))
            if depth == 0 or (depth == 1 and name == "ASCII_44"):
                found.append((self._tokens[start].start, self._tokens[i - 1].end))
                start = i + 1
            if depth == 0:
                return found
            i += 1

    def relation_end(self, offset: int, *, aliased: bool) -> int:
        """Return where the name of an INSERT's target ends, or its alias after AS."""
        _, end = self.column_ref(offset)
        i = next(i for i in range(self._at(offset), len(self._tokens)) if self._tokens[i].end == end)
        return self._tokens[i + 2].end if aliased else end

    def after(self, offset: int, tokens: int) -> Token:
        """Return the token that stands so many tokens behind the one at ``offset``."""
        return self._tokens[self._at(offset) + tokens]

    def named(self, text: bytes, column: Node) -> str:
        """Return the text of a reference to a column, of the client's or of one that this package made."""
        body = only(column)[1]
        if "location" not in body:
            return node_text(column)
        start, end = self.column_ref(location(body))
        return text[start:end].decode()

    def _inserted(self, decided: DecidedUse, place: Inserted, order: int, text: bytes) -> Occurrence:
        sink = decided.sink
        _, end = self.brackets.expression(place.after)
        lead, formula = place.lead(self.named(text, place.column)), sink.formula if sink.kind == "formula" else None
        return Occurrence(
            end, end, decided.use, sink.number, _literal(sink), decided.type_oid, order,
            decided.group, lead=lead, trail=place.trail, formula=formula,
        )  # fmt: skip

    def occurrence(self, decided: DecidedUse, order: int, text: bytes) -> Occurrence:
        """Return the span of a parameter, literal or NULL with its use."""
        sink = decided.sink
        if sink.inserted is not None:
            return self._inserted(decided, sink.inserted, order, text)
        if sink.formula is not None:
            start, end = self.brackets.expression(sink.node)
            formula, computed = (sink.formula, None) if sink.kind == "formula" else (None, sink.formula)
            return Occurrence(
                start, end, decided.use, 0, _literal(sink), decided.type_oid, order, decided.group, formula=formula,
                trail=sink.closing, computed=computed,
            )  # fmt: skip
        i = self._at(sink.offset)
        while self._tokens[i].name == "ASCII_45":  # the sign of a number
            i += 1
        if sink.kind == "constant" and self._tokens[i].name not in _CONSTANTS:
            raise StatementRefused("a number could not be located in the text", hint="Write it without brackets.")
        end = self._tokens[i].end
        if self._tokens[i].name in ("USCONST", "SCONST") and i + 2 < len(self._tokens) and self._tokens[i + 1].name == "UESCAPE":
            end = self._tokens[i + 2].end
        said = decided.type_oid, order, decided.group, bool(sink.type_oid)
        return Occurrence(sink.offset, end, decided.use, sink.number, _literal(sink), *said, trail=sink.closing)

    def strip_cast(self, cast: Node) -> list[Edit]:
        """Return the edits that take a cast away and leave its argument: ``x::t``, ``CAST(x AS t)``, ``t 'x'``; or COLLATE."""
        if "CollateClause" in cast:
            start = location(cast["CollateClause"])
            _, end = dotted(self._tokens, self._at(start) + 1)
            return [Edit(start, end, b"")]
        body = cast["TypeCast"]
        offset = location(body)
        type_offset, end = self.type_name(cast)
        first = self._at(type_offset)
        if offset in (-1, type_offset):
            return [Edit(type_offset, end, b"")]
        token = self._tokens[self._at(offset)]
        if token.name == "TYPECAST":
            return [Edit(offset, end, b"")]
        if token.name != "CAST" or self._tokens[first - 1].name != "AS":
            raise StatementRefused("a cast of a protected value could not be located in the text", hint="Write it as value::text.")
        return [Edit(offset, token.end, b""), Edit(self._tokens[first - 1].start, end, b"")]

    def type_name(self, cast: Node) -> tuple[int, int]:
        """Return the span of the type's name in a cast."""
        offset = location(cast["TypeCast"]["typeName"])
        return offset, self._tokens[self._type_end(self._at(offset))].end

    def _type_end(self, i: int) -> int:
        names = self._tokens
        while i + 2 < len(names) and names[i + 1].name == "ASCII_46":
            i += 2
        if names[i].name in ("NATIONAL",):
            i += 1
        if i + 1 < len(names) and names[i + 1].name in ("VARYING", "PRECISION"):
            i += 1
        if i + 1 < len(names) and names[i + 1].name == "ASCII_40":  # varchar(n), numeric(p, s)
            while names[i].name != "ASCII_41":
                i += 1
        if i + 2 < len(names) and names[i + 1].name in _ZONED and names[i + 2].name == "TIME":
            i += 3
        if i + 1 < len(names) and names[i + 1].name == "ARRAY":
            i += 1
        while i + 1 < len(names) and names[i + 1].name == "ASCII_91":
            i += 1
            while names[i].name != "ASCII_93":
                i += 1
        return i


_CONSTANTS = frozenset({"ICONST", "FCONST", "TRUE_P", "FALSE_P"})
_ZONED = frozenset({"WITH", "WITH_LA", "WITHOUT", "WITHOUT_LA"})


def _literal(sink: SinkNode) -> bytes | None:
    return sink.literal if sink.kind in ("literal", "constant") else None
