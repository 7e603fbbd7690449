"""What ``phiproxy explain`` tells: the same analysis as a session's, in words. Values of literals are never shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from phiproxy.errors import PhiproxyError, SyntaxRefused
from phiproxy.plan.cache import Planner, View
from phiproxy.plan.statement import StatementPlan
from phiproxy.policy.names import shown_expression
from phiproxy.sql.finish import fixed_word, null_marker
from phiproxy.sql.meaning import (
    Absent,
    CopyMeaning,
    Define,
    EndPair,
    Meaning,
    Nullness,
    Occurrence,
    Plain,
    Renew,
    Reveal,
    Source,
    Store,
    Use,
    sent_as_array,
)
from phiproxy.sql.parse import Positions, parse
from phiproxy.types.styles import Styles

# What an application's session starts with, unless its role or database says otherwise.
DEFAULT_PATH = ("pg_catalog", "public")

Rows = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """``answer`` is forwarded, rewritten or refused, ``server`` what the server sees.

    (What, use) in order: ``uses`` of what stands in the client's text, with their places, ``parameters`` of the server's statement,
    ``columns`` of the results or of COPY's data.
    """

    answer: str
    server: str
    uses: Rows = ()
    parameters: Rows = ()
    columns: Rows = ()
    note: str = ""
    sqlstate: str = ""
    message: str = ""
    hint: str = ""
    position: int | None = None


def explain(planner: Planner, text: bytes, database: str, path: tuple[str, ...] = DEFAULT_PATH) -> Explanation:
    """Explain one statement (as a Parse where it can take parameters), or a string of several (as a simple Query)."""
    view = View(path, database, catalog_fresh=True)
    try:
        meanings = planner.meanings(text, view)
        if not meanings:
            return Explanation("forwarded", text.decode("utf-8", "replace"), note=_unread(text))
        if any(m.takes_parameters for m in meanings) and (len(meanings) == 1 or any(m.numbers for m in meanings)):
            plan = planner.statement(text, (), view)
            plan.check_literals(Styles.CANONICAL)
            server, forwarded, parameters = plan.sql, plan.identity, tuple(_parameters(plan))
        else:
            server, forwarded = _script(planner, text, view)
            parameters = ()
    except PhiproxyError as error:
        return Explanation(
            "refused", "", sqlstate=error.sqlstate, message=error.public_text, hint=error.hint or "", position=error.position
        )
    at = Positions(text).at
    uses = tuple((f"{_what(o)} at character {at(o.start)}", use_text(o.use)) for m in meanings for o in m.occurrences)
    answer = "forwarded" if forwarded and server == text else "rewritten"
    return Explanation(answer, server.decode("utf-8", "replace"), uses, parameters, tuple(_columns(meanings)))


def _unread(text: bytes) -> str:
    """Say why a text that is forwarded was not read, where that is not plain."""
    try:
        parse(text)
    except SyntaxRefused:
        return "It does not parse, and names nothing protected: the server says what is wrong with it."
    except PhiproxyError:
        pass
    return ""


def _script(planner: Planner, text: bytes, view: View) -> tuple[bytes, bool]:
    plan = planner.script(text, view)
    if plan.rendered is None:
        return text, True
    return plan.rendered.fill(lambda _i, o: _shown(o)), False


def _shown(occurrence: Occurrence) -> bytes:
    word = fixed_word(occurrence.use)
    if word is not None or occurrence.null:
        return null_marker(occurrence.use) if word is None else word
    return b"'{\xe2\x80\xa6}'::bytea[]" if sent_as_array(occurrence.use) else b"'\\x\xe2\x80\xa6'::bytea"


def _what(occurrence: Occurrence) -> str:
    if occurrence.number:
        return f"${occurrence.number}"
    if occurrence.formula is not None:
        return "expression of " + ", ".join(f"${n}" for n in sorted(occurrence.numbers))
    return "NULL" if occurrence.literal is None else "literal"


def _parameters(plan: StatementPlan) -> Iterator[tuple[str, str]]:
    for number, (use, source, literal) in enumerate(plan.outputs, start=1):
        yield f"${number} from {_source(source, literal)}", use_text(use)


def _source(number: int, source: Source) -> str:
    if isinstance(source, EndPair):
        return " and ".join(_source(end.number, end.literal) for end in (source.lower, source.upper))
    return f"${number + 1}" if source is None and number >= 0 else "a literal"


def _columns(meanings: Sequence[Meaning]) -> Iterator[tuple[str, str]]:
    for number, meaning in enumerate(meanings, start=1):
        label = f"statement {number}, column" if len(meanings) > 1 else "column"
        prepared = meaning.prepared[0].columns if meaning.prepared is not None else None
        reveals = meaning.outputs or meaning.cursor or (prepared.reveals if prepared is not None else ())
        if meaning.copy is not None:
            yield from _copied(label, meaning.copy)
        else:
            yield from ((f"{label} {i}", _reveal_text(reveal)) for i, reveal in enumerate(reveals, start=1))


def _copied(label: str, copy: CopyMeaning) -> Iterable[tuple[str, str]]:
    for name, reveal in zip(copy.columns, copy.reveals, strict=True):
        sealed = reveal is not None and copy.incoming
        yield f"{label} {name}", f"each value sealed for {reveal.column.label}" if reveal and sealed else _reveal_text(reveal)


def _reveal_text(reveal: Reveal | None) -> str:
    return "unprotected" if reveal is None else f"opened: {reveal.column.label} as {reveal.type.name}"


def use_text(use: Use) -> str:
    """Say what an occurrence is used for."""
    if isinstance(use, Plain):
        return "sent as it is"
    if isinstance(use, Absent):
        return "not sent, since it does not occur"
    if isinstance(use, Nullness):
        return "tested for NULL only"
    if isinstance(use, Store):
        return f"{'each element ' if use.elements else ''}sealed for {use.column.label}"
    if isinstance(use, Renew):
        return f"the default of {use.column.label}, sealed afresh"
    if isinstance(use, Define):
        return f"sealed as a condition over {use.column.label}"
    what = "tags of its elements" if use.elements else "tags of what is between it and the other end" if use.range else "tag"
    return f"{what} of {(use.column.base or use.column).label} ({shown_expression(use.column.expression, use.column.name)})"
