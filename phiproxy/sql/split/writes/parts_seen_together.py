"""What must hold of the parts of a split write together: each is analysed by itself, so what meets where is looked at here.

Computed values are stored in protected columns only. What meets a protected column in one part (of the rest all may) stands in
clear in none.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Answered, Occurrence, Refused, Rest, Waiting
from phiproxy.sql.split.clock_constants import asks_clock
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.same_answers import means_clock
from phiproxy.sql.split.sources import depends_on_value
from phiproxy.sql.split.waiting import places
from phiproxy.sql.split.writes.assigned_values import keeps
from phiproxy.sql.split.writes.composed_select import declared_types
from phiproxy.sql.split.writes.returned import without_computed
from phiproxy.sql.text.parse import Node, Statement, location, parse, strings
from phiproxy.sql.values.uses import Nullness, Plain, Search, Store

_ARITHMETIC = frozenset("+-*/%^")
_OF_SEQUENCES = ("nextval", "currval", "setval")
_SHOWN = ("targetList", "valuesLists", "functions")
_ANY = range(1, 1 << 16)
_SOURCE = b"phi_source"
_OF_ITS_OWN = (
    "A given value meets what is encrypted, and stands where the server would see it too: give parameters of their own, columns of"
    " rows as arrays, unnest($1::int[], $2::text[])."
)
_KEPT = StatementRefused("RETURNING is computed with values that only the engine is given", hint="It is split.")
Value = int | str
"""The number of a client's parameter, or a constant as it is written."""


@dataclass(slots=True)
class Met:
    """The given values of a statement that meet something protected, and those that stand in clear."""

    protected: set[Value] = field(default_factory=set)
    clear: set[Value] = field(default_factory=set)


class Part(NamedTuple):
    """A part of a split write for the server: its answer, and what its $1, $2 … are (the keys of ``Composed``)."""

    statement: Statement
    answer: Answered
    keys: Sequence[int]
    order: Sequence[int]
    """Of its $1, $2 … the numbers in the whole part: what is computed in RETURNING is left to the split of that."""


def check_stored(write: Part, computed: frozenset[int], kept: frozenset[int] = frozenset()) -> None:
    """Go on where each computed value is stored in a protected column, and nothing else is done with it; else Impossible.

    Those that are ``kept`` are in no part for the server.
    """
    if not kept.isdisjoint(write.order):
        raise Impossible("a value that only the engine may be given")
    for number in (write.order.index(n) + 1 if n in write.order else 0 for n in computed):
        uses = [o for o in write.answer.occurrences if number in o.numbers]
        standing = [m for m in _references(write.statement.body) if m.get("number", 0) == number]
        if not uses or len(uses) != len(standing) or any(not isinstance(o.use, Store) or o.number != number for o in uses):
            raise Impossible("a computed value would be stored where nothing is protected")


def check_searched(source: Part, computed: frozenset[int]) -> None:
    """Go on where each computed value is looked for by the tag of a protected column, or tested for NULL, and nothing else."""
    for number in computed:
        uses = [o for o in source.answer.occurrences if number in o.numbers]
        standing = [m for m in _references(source.statement.body) if m.get("number", 0) == number]
        if not uses or len(uses) != len(standing) or any(
            not isinstance(o.use, Search | Nullness) or o.number != number for o in uses
        ):
            raise Impossible("a computed value would be seen where nothing is protected")


def check_whatever_is_given(part: Part) -> None:
    """Go on where the server answers a part whatever the values of parameters are; Impossible where some patterns are refused."""
    if any(o.numbers and depends_on_value(o.use) for o in part.answer.occurrences):
        raise Impossible("the server answers it for some values only")


def check_none_waits(part: Part, waiting: Waiting | None) -> None:
    """Go on where none of these values, of the part's own parameters, stands where an index would have to answer it; Impossible."""
    if waiting is None:
        return
    of_part = Waiting(frozenset(k for k, n in enumerate(part.order, start=1) if n in waiting.numbers), waiting.constants)
    searched = [o for o in part.answer.occurrences if not isinstance(o.use, Store | Plain | Nullness)]
    if any(map(_within(searched), places(part.statement, of_part))):
        raise Impossible("an index would have to answer what it does not")


def check_apart(a: Analysis, parts: Sequence[Part], rest: Rest, clear: Collection[Value] = ()) -> None:
    """Go on where the server sees in clear nothing that meets something protected in one of the parts; else Impossible.

    ``clear`` are values of which it is known that they meet nothing protected in the rest. The constants of computed DEFAULTs are
    not the client's, and that one is also a value of the client's tells nobody anything.
    """
    met, names = Met(), names_sequences(a)
    for part in parts:
        is_within = _within(part.answer.occurrences)
        for at, value in _given(part.statement.body, part.keys, names=names):
            (met.protected if is_within(at) else met.clear).add(value)
    (whole,) = parse(_SOURCE.join(rest.parts))
    own = [
        (start + max(first - at, 0), start + last - at)
        for start, end, at in rest.spans
        for first, last in a.context.default_spans
        if first < at + end - start and at < last
    ]
    places = [0, *accumulate(len(part) + len(_SOURCE) for part in rest.parts)]
    met.protected.update(
        value
        for at, value in _given(whole.body, rest.parameters, names=names)
        if value not in clear and not any(first <= _joined(at, places) < last for first, last in own)
    )
    if not met.protected.isdisjoint(met.clear):
        raise RefusedWithHint("a value meets something protected, and stands in clear elsewhere", _OF_ITS_OWN)


def _joined(offset: int, places: Sequence[int]) -> int:
    """Return where an offset is in the parts of a rest without what stands for the source between them."""
    return offset - len(_SOURCE) * (bisect_right(places, offset) - 1)


def names_sequences(a: Analysis) -> bool:
    """Tell whether constants that nextval and its kin are given are names, which the server knows: nothing else is called so."""
    signatures = a.context.catalog.signatures
    return signatures is not None and not any(map(signatures.own_functions, _OF_SEQUENCES))


def check_source(source: Part, *, is_of_server: bool = False) -> None:
    """Go on where nothing that is given to a source may be shown by it, so that it would be stored; else Impossible.

    Conditions hold what they like (``check_apart``). What a source shows is stored, or computed with, as is what its derived tables
    show: of given values only those that ask for the server's clock or settings may stand there, and (``is_of_server``) names of
    sequences. EXISTS shows nothing of its query, and CASE nothing of its conditions.
    """
    for message in _outside_of_exists(source.statement.body):
        for key in _SHOWN:
            if key in message and any(_is_given(m) for m in _apart_from_settings(message[key], is_of_server=is_of_server)):
                raise Impossible("a given value that the source would show")


def _is_given(message: Node) -> bool:
    constant = message.get("A_Const", {})
    return "ParamRef" in message or not {"sval", "ival", "fval", "bsval"}.isdisjoint(constant)


def _apart_from_settings(tree: Any, *, is_of_server: bool) -> Iterator[Node]:
    if isinstance(tree, dict):
        if "CaseWhen" in tree:
            yield from _apart_from_settings(tree["CaseWhen"]["result"], is_of_server=is_of_server)
            return
        call, cast = tree.get("FuncCall", {}), tree.get("TypeCast", {}).get("arg", {}).get("A_Const", {})
        if strings(call.get("funcname")) in (["current_setting"], ["pg_catalog", "current_setting"]):
            return
        if is_of_server and sequence_name(call) is not None:
            return
        if means_clock(cast.get("sval", {}).get("sval", "")):
            return
        yield tree
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        if key != "typmods" and isinstance(value, dict | list):
            yield from _apart_from_settings(value, is_of_server=is_of_server)


def given_at(part: Node, numbers: Sequence[int] = _ANY, *, names: bool = False) -> list[tuple[int, Value]]:
    """Return the given values in a part of a statement with where they stand; in its text parameters have other ``numbers``.

    ``names``: constants that nextval and currval are given are names of sequences, and no values.
    """
    return list(_given({"items": [part]}, numbers, names=names))


def sequence_name(call: Node) -> Node | None:
    """Return the constant by which a call of nextval, currval or setval names its sequence; None for any other call.

    ``nextval('numbers')``, ``currval('public.numbers'::regclass)``, ``setval('numbers', 42)``: to what number it is set is no
    secret either, since the server does so.
    """
    names, arguments = strings(call.get("funcname")), call.get("args", [])
    if names[-1:] not in ([one] for one in _OF_SEQUENCES) or names[:-1] not in ([], ["pg_catalog"]) or not arguments:
        return None
    if not all("A_Const" in one and "sval" not in one["A_Const"] for one in arguments[1:]):
        return None
    constant = arguments[0].get("TypeCast", {}).get("arg", arguments[0]).get("A_Const", {})
    return constant if isinstance(constant.get("sval"), dict) else None


def answered(
    a: Analysis, text: bytes, numbers: Sequence[int], types: Sequence[int] = (), *, of_source: bool = False
) -> Part:
    """Return a part of the statement as the server answers it, but for what is computed in RETURNING; Impossible.

    ``numbers`` are the keys of its parameters, ``types`` the OIDs of those that are no client's; ``of_source``: it only reads.
    """
    own = declared_types(a, tuple(numbers))
    declared = tuple(of_rest or of_client for of_rest, of_client in zip(types or (0,) * len(own), own, strict=True))
    context = dataclasses.replace(a.context, declared=declared, default_spans=(), inside=None, of_source=of_source)
    (statement,) = parse(text)
    outcome = analyse(statement, text, context)
    order: Sequence[int] = range(1, len(numbers) + 1)
    refusal = outcome.error if isinstance(outcome, Refused) else _KEPT if keeps(text) else None
    if refusal is not None:
        plainer = without_computed(statement, text, context, refusal)
        (statement,), order = parse(plainer.text), plainer.order
        context = dataclasses.replace(context, declared=tuple(declared[n - 1] for n in order))
        outcome = analyse(statement, plainer.text, context)
    if not isinstance(outcome, Answered):
        raise Impossible("a part of the statement is refused")
    if any(map(asks_clock, outcome.occurrences)):
        raise Impossible("what is compared or stored is a moment of the clock")
    return Part(statement, outcome, [numbers[n - 1] for n in order], order)


def _within(occurrences: Iterable[Occurrence]) -> Callable[[int], bool]:
    """Return what tells whether an offset is in one of these occurrences."""
    starts, ends = list[int](), list[int]()
    for start, end in sorted((o.start, o.end) for o in occurrences):
        if ends and start < ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return lambda at: (i := bisect_right(starts, at)) > 0 and at < ends[i - 1]


def _given(body: Node, numbers: Sequence[int], *, names: bool) -> Iterator[tuple[int, Value]]:
    """Yield the client's parameters and the constants of a statement, with where they stand.

    Numbers say something only where they are compared or stored, and not where they are counts, lengths, arguments and the like.
    """
    said, named = set[int](), set[int]()
    for message in _outside_of_types(body):
        if "A_Expr" in message and strings(message["A_Expr"].get("name"))[-1] not in _ARITHMETIC:
            sides = (message["A_Expr"].get(side, {}) for side in ("lexpr", "rexpr"))
            said.update(id(m) for side in sides for m in _outside_of_types(side, "FuncCall"))
        if "ResTarget" in message:
            said.add(id(message["ResTarget"].get("val")))
        said.update(id(item) for item in message.get("items", ()))
        if "ParamRef" in message:
            number = numbers[message["ParamRef"].get("number", 0) - 1]
            if number > 0:
                yield location(message["ParamRef"]), number
        elif "FuncCall" in message and names:
            named.add(id(sequence_name(message["FuncCall"])))
        elif "A_Const" in message and id(message["A_Const"]) not in named:
            constant = message["A_Const"]
            kind = next((k for k in constant if k in ("sval", "ival", "fval", "bsval")), "")
            value = str(next(iter(constant[kind].values()), "")) if kind else ""
            if value and (kind in ("sval", "bsval") or id(message) in said):
                yield location(constant), value


def _outside_of_exists(tree: Any) -> Iterator[Node]:
    if isinstance(tree, dict):
        if tree.get("subLinkType") == "EXISTS_SUBLINK":
            return
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, dict | list):
            yield from _outside_of_exists(value)


def _references(body: Node) -> Iterator[Node]:
    return (m["ParamRef"] for m in _outside_of_types(body) if "ParamRef" in m)


def _outside_of_types(tree: Any, *left_out: str) -> Iterator[Node]:
    """Yield every dict of a tree but those of the lengths of types, and of what is ``left_out``."""
    if isinstance(tree, dict):
        yield tree
        for key, value in tree.items():
            if key != "typmods" and key not in left_out and isinstance(value, dict | list):
                yield from _outside_of_types(value, *left_out)
    else:
        for value in tree:
            if isinstance(value, dict | list):
                yield from _outside_of_types(value, *left_out)
