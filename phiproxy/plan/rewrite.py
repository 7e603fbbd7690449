"""The rewrite of a text from the meanings of its statements, and the proof that it is what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from phiproxy.plan.ends import paired
from phiproxy.sql.finish import marker
from phiproxy.sql.meaning import Define, Meaning, Occurrence, Renew, Store
from phiproxy.sql.parse import Statement
from phiproxy.sql.render import Rendered, verify


def rendered_of(text: bytes, meanings: Sequence[Meaning]) -> Rendered | None:
    """Return the rewrite of a text, or None when nothing is rewritten."""
    # Two statements may both blank the comment between them.
    edits = list({e: None for m in meanings for e in m.edits})
    occurrences = list(_of_own_rows(meanings))
    return Rendered(text, edits, occurrences) if edits or occurrences else None


def _of_own_rows(meanings: Sequence[Meaning]) -> Iterator[Occurrence]:
    """Yield the occurrences of all statements of a text; no two statements store into one row (crypto.md section 3)."""
    taken = 0
    for meaning in meanings:
        last = max((o.use.row for o in meaning.occurrences if isinstance(o.use, Store | Define | Renew)), default=0)
        for o in paired(meaning.occurrences):
            if taken and isinstance(o.use, Store | Define | Renew):
                yield replace(o, use=replace(o.use, row=o.use.row + taken))
            else:
                yield o
        taken += last


def prove(text: bytes, meanings: Sequence[Meaning], statements: Sequence[Statement]) -> None:
    """Show that the rewrite of a text parses to the edited trees; StatementRefused when it does not."""
    rendered = rendered_of(text, meanings)
    if rendered is not None:
        marked = rendered.fill(lambda _i, o: marker(o))
        verify(marked, [m.tree or {s.kind: s.body} for m, s in zip(meanings, statements, strict=True)])
