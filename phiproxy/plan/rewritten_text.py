"""The rewrite of a text from the answers of its statements, and the proof that it is what was meant."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from phiproxy.plan.range_tags import paired
from phiproxy.sql.result import Answered, Occurrence
from phiproxy.sql.rewrite.apply_edits import Rendered, verify
from phiproxy.sql.rewrite.references_and_markers import marker
from phiproxy.sql.text.parse import LONG_TREE
from phiproxy.sql.values.uses import Define, Renew, Store


def rendered_of(text: bytes, answers: Sequence[Answered]) -> Rendered | None:
    """Return the rewrite of a text, or None when nothing is rewritten."""
    if len(answers) == 1:
        edits, occurrences = answers[0].edits, paired(answers[0].occurrences)
    else:
        # Two statements may both blank the comment between them.
        edits = list({e: None for m in answers for e in m.edits})
        occurrences = list(_of_own_rows(answers))
    return Rendered(text, edits, occurrences) if edits or occurrences else None


def _of_own_rows(answers: Sequence[Answered]) -> Iterator[Occurrence]:
    """Yield the occurrences of all statements of a text; no two statements store into one row (spec/stored-format 2.1)."""
    taken = 0
    for answer in answers:
        last = max((o.use.row for o in answer.occurrences if isinstance(o.use, Store | Define | Renew)), default=0)
        for o in paired(answer.occurrences):
            if taken and isinstance(o.use, Store | Define | Renew):
                yield replace(o, use=replace(o.use, row=o.use.row + taken))
            else:
                yield o
        taken += last


def prove(text: bytes, answers: Sequence[Answered]) -> Rendered | None:
    """Return the rewrite of a text, or None, once it is shown to parse to the edited trees, which nobody needs from then on.

    StatementRefused when it does not.
    """
    rendered = rendered_of(text, answers)
    if rendered is not None:
        marked = rendered.fill(lambda _i, o: marker(o))
        verify(marked, [m.tree for m in answers if m.tree is not None])
    for answer in answers:
        if answer.tree is not None and len(text) > LONG_TREE:
            answer.tree.let_go()
        answer.tree = None
    return rendered
