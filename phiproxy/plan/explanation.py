"""What ``phiproxy explain`` tells: the same analysis as a session's, in words. Values of literals are never shown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from phiproxy.access.rules import AccessRules
from phiproxy.access.why_shown import reasons
from phiproxy.errors import KeyNeeded, PhiproxyError, SyntaxRefused, ValueRefused
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import SplitPlan
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.values_no_index_answers import Unanswered, perhaps_unanswered, unanswered_constants
from phiproxy.plan.whether_split import HasSplit
from phiproxy.policy.identifiers import shown_expression
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.result import Answered, BoundPair, Occurrence, ProtectedCopy, Reveal, Source
from phiproxy.sql.rewrite.references_and_markers import fixed_word, null_marker
from phiproxy.sql.text.parse import Positions, parse
from phiproxy.sql.text.shape import shape_of
from phiproxy.sql.values.uses import Absent, Define, Nullness, Plain, Renew, Store, Use, sent_type
from phiproxy.types.styles import Styles

# What an application's session starts with, unless its role or database says otherwise.
DEFAULT_PATH = ("pg_catalog", "public")

Rows = tuple[tuple[str, str], ...]
_WITHOUT_COLUMN = {Plain: "sent as it is", Absent: "not sent, since it does not occur", Nullness: "tested for NULL only"}


_NO_KEYS = "a default that this statement needs is computed, its expression is sealed, and a command has no keys to open it"


@dataclass(frozen=True, slots=True)
class Explanation:
    """``answer`` is forwarded, rewritten, split or refused, ``server`` what the server sees, ``engine`` what the engine computes.

    ``write`` is what stores that, in the client's terms: the values that are computed are its parameters.

    (What, use) in order: ``uses`` of what stands in the client's text, with its offsets, ``parameters`` of the server's statement,
    ``columns`` of the results or of COPY's data.
    """

    answer: str
    server: str
    uses: Rows = ()
    parameters: Rows = ()
    columns: Rows = ()
    engine: str = ""
    note: str = ""
    sqlstate: str = ""
    message: str = ""
    hint: str = ""
    position: int | None = None
    write: str = ""
    role: str = ""
    shown: tuple[tuple[str, str, str], ...] = ()
    """Of a role: each protected column, what of it is shown, and why."""


def explain_for(planner: Planner, text: bytes, database: str, path: tuple[str, ...], own: Sequence[str]) -> Explanation:
    """Explain a statement of a role, the first of ``own``, which is a member of the others; an empty one only what it is shown.

    Listed are the columns of tables that the text names, or of all where it names none.
    """
    rules = planner.protection.access or AccessRules(columns=frozenset((c.schema, c.table, c.name) for c in _protected(planner)))
    of = reasons(rules, own)
    named = {column for column in of if column[1].encode() in text}
    shown = tuple((".".join(column), str(why.show), why.why) for column, why in of.items() if column in (named or of))
    decision = rules.decide(own)
    seen = planner.as_seen(decision) if decision else planner
    told = explain(seen, text, database, path) if text.strip() else Explanation("", "")
    return replace(told, role=own[0], shown=shown)


def _protected(planner: Planner) -> Iterator[ProtectedColumn]:
    for table in planner.protection.tables:
        yield from table.columns.values()


def explain(planner: Planner, text: bytes, database: str, path: tuple[str, ...] = DEFAULT_PATH) -> Explanation:
    """Explain one statement (as a Parse where it can take parameters), or a string of several (as a simple Query)."""
    view = View(path, database, catalog_fresh=True)
    try:
        try:
            answers = planner.answers(text, view)
        except HasSplit:
            return _split(planner.statement(text, (), view))
        if not answers:
            return Explanation("forwarded", text.decode("utf-8", "replace"), note=_unread(text))
        if any(m.takes_parameters for m in answers) and (len(answers) == 1 or any(m.numbers for m in answers)):
            plan = planner.statement(text, (), view)
            try:
                plan.check_literals(Styles.CANONICAL)
            except ValueRefused as refused:
                return _split_for_values(planner, plan, view, refused)
            server, forwarded = plan.sql, plan.identity
            parameters = _parameters(plan)
        else:
            server, forwarded = _script(planner, text, view)
            parameters = ()
    except KeyNeeded:
        return Explanation("split", "", note=_NO_KEYS)
    except PhiproxyError as error:
        return Explanation(
            "refused", "", sqlstate=error.sqlstate, message=error.public_text, hint=error.hint or "", position=error.position
        )
    at = Positions(text).at
    uses = tuple((f"{_what(o)} at character {at(o.start)}", use_text(o.use)) for m in answers for o in m.occurrences)
    answer = "forwarded" if forwarded and server == text else "rewritten"
    return Explanation(answer, server.decode("utf-8", "replace"), uses, parameters, tuple(_columns(answers)))


def _parameters(plan: StatementPlan) -> Rows:
    outputs = enumerate(plan.outputs, start=1)
    return tuple((f"${n} from {_source(number, of)}", use_text(use)) for n, (use, number, of) in outputs)


def _split_for_values(planner: Planner, plan: StatementPlan, view: View, refused: ValueRefused) -> Explanation:
    """Explain a statement that is split for one of its constants; raises what a session says where it is not."""
    try:
        waiting = unanswered_constants(plan, planner.ciphers, Styles.CANONICAL) if perhaps_unanswered(refused) else Unanswered()
    except KeyNeeded:  # a command has no keys: what other constants become is not known
        raise refused from None
    if waiting == Unanswered():
        raise refused
    return _split(planner.waiting(plan.text, (), view, waiting, refused))


def _split(plan: StatementPlan) -> Explanation:
    """Explain a statement that is split: the source, what is opened of it, and the rest around it."""
    assert isinstance(plan, SplitPlan)
    rest = _without_constants(b"(source)".join(plan.split.rest.parts))
    write = _without_constants(plan.split.write.text) if plan.split.write is not None else ""
    reveals = plan.source.columns.reveals if plan.source.columns is not None else (None,) * len(plan.split.columns)
    columns = tuple((f"column c{n} of the source", _reveal_text(reveal)) for n, reveal in enumerate(reveals, start=1))
    return Explanation("split", plan.sql.decode("utf-8", "replace"), (), _parameters(plan.source), columns, rest, write=write)


def _without_constants(text: bytes) -> str:
    shape = shape_of(text)
    return "" if shape is None else "…".encode().join(shape.gaps).decode("utf-8", "replace")


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
    type_name = sent_type(occurrence.use).encode()
    return b"'\\x\xe2\x80\xa6'::bytea" if type_name == b"bytea" else b"'{\xe2\x80\xa6}'::" + type_name


def _what(occurrence: Occurrence) -> str:
    if occurrence.number:
        return f"${occurrence.number}"
    if occurrence.formula is not None:
        return "expression of " + ", ".join(f"${n}" for n in sorted(occurrence.numbers))
    return "NULL" if occurrence.literal is None else "literal"


def _source(number: int, source: Source) -> str:
    if isinstance(source, BoundPair):
        return " and ".join(_source(end.number, end.literal) for end in (source.lower, source.upper))
    return f"${number + 1}" if source is None and number >= 0 else "a literal"


def _columns(answers: Sequence[Answered]) -> Iterator[tuple[str, str]]:
    for number, answer in enumerate(answers, start=1):
        label = f"statement {number}, column" if len(answers) > 1 else "column"
        prepared = answer.prepared[0].columns if answer.prepared is not None else None
        reveals = answer.outputs or answer.cursor or (prepared.reveals if prepared is not None else ())
        if answer.copy is not None:
            yield from _copied(label, answer.copy)
        else:
            yield from ((f"{label} {i}", _reveal_text(reveal)) for i, reveal in enumerate(reveals, start=1))


def _copied(label: str, copy: ProtectedCopy) -> Iterable[tuple[str, str]]:
    for name, reveal in zip(copy.columns, copy.reveals, strict=True):
        sealed = reveal is not None and copy.incoming
        yield f"{label} {name}", f"each value sealed for {reveal.column.label}" if reveal and sealed else _reveal_text(reveal)


def _reveal_text(reveal: Reveal | None) -> str:
    return "unprotected" if reveal is None else f"opened: {reveal.column.label} as {reveal.type.name}"


def use_text(use: Use) -> str:
    """Say what an occurrence is used for."""
    if isinstance(use, Plain | Absent | Nullness):
        return _WITHOUT_COLUMN[type(use)]
    if isinstance(use, Store):
        return f"{'each element ' if use.elements else ''}sealed for {use.column.label}"
    if isinstance(use, Renew):
        return f"the default of {use.column.label}, sealed afresh"
    if isinstance(use, Define):
        return f"sealed as {'the computed default of' if use.default else 'a condition over'} {use.column.label}"
    what = "tags of its elements" if use.elements else "tags of what is between it and the other end" if use.range else "tag"
    return f"{what} of {(use.column.base or use.column).label} ({shown_expression(use.column.expression, use.column.name)})"
